"""Replays LIBERO demonstrations in the simulator with noise on the actions and records what happens: failures, mostly.

    python examples/record_libero_failures.py libero_spatial/TASK_demo.hdf5 rollouts --noise 0.5 --per-demo 1

Needs LIBERO's simulator (docs/guides/demonstrations.md) and apportion[demos] in one environment. Each rollout begins in
the state in which its demonstration began, so that nothing in the first frame tells failures from successes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data.libero import LiberoSet
from apportion.data.schema import Camera, Demo, SetInfo, Source
from apportion.data.store import StoreWriter

CAMERAS = {"image": "agentview_image", "wrist_image": "robot0_eye_in_hand_image"}


def rollout(env: Any, start: np.ndarray, actions: np.ndarray, noise: np.ndarray, about: dict[str, Any]) -> Demo:
    """One episode of T steps from the simulator state `start`; `actions` and `noise` (T, 7); observations T + 1.

    `about`: the task, language and source of the `Demo`. Its success is the simulator's answer after the last step.
    """
    env.reset()
    seen = [observed(env.set_init_state(start))]
    taken = actions + noise
    taken[:, :6] = np.clip(taken[:, :6], -1, 1)
    rewards = []
    for action in taken:
        obs, reward, _, _ = env.step(action)  # `done` is success here: going on shows whether it lasts
        seen.append(observed(obs))
        rewards.append(reward)
    success = bool(env.check_success())
    return Demo(
        images={name: np.stack([s[name] for s in seen]) for name in CAMERAS},
        proprio={name: np.stack([s[name] for s in seen]).astype(np.float32) for name in ("state", "joint_state")},
        action=taken.astype(np.float32),
        reward=np.array(rewards, np.float32),
        terminated=success,
        truncated=not success,
        success=success,
        **about,
    )


def observed(obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The simulator's observation under the names, and in the layout, of LIBERO's own files."""
    pose = np.concatenate([obs["robot0_eef_pos"], axis_angle(obs["robot0_eef_quat"]), obs["robot0_gripper_qpos"]])
    frames = {name: obs[key] for name, key in CAMERAS.items()}
    return {**frames, "state": pose, "joint_state": obs["robot0_joint_pos"]}


def axis_angle(quaternion: np.ndarray) -> np.ndarray:
    """(x, y, z, w) as axis times angle, the angle in [0, 2 pi], as LIBERO records it."""
    w = float(np.clip(quaternion[3], -1, 1))
    sine = np.sqrt(1 - w * w)
    return np.zeros(3) if sine < 1e-8 else quaternion[:3] * 2 * np.arccos(w) / sine


def held_noise(rng: np.random.Generator, steps: int, scale: float, hold: int = 10) -> np.ndarray:
    """(steps, 7): a new push of the arm every `hold` steps (white noise would average out); none of the gripper."""
    pushes = rng.normal(0, scale, (-(-steps // hold), 7))
    pushes[:, 6] = 0
    return np.repeat(pushes, hold, axis=0)[:steps]


def demonstrations(path: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, first simulator state, actions (T, 7)) of a released LIBERO file."""
    import h5py

    with h5py.File(path) as file:
        for name, demo in file["data"].items():
            yield name, demo["states"][0], demo["actions"][:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demos", type=Path, help="released file of one task: SUITE/TASK_demo.hdf5")
    parser.add_argument("out", type=Path, help="store to make")
    parser.add_argument("--noise", type=float, default=0.5, help="standard deviation, in action units (default: 0.5)")
    parser.add_argument("--per-demo", type=int, default=1, help="rollouts of each demonstration (default: 1)")
    parser.add_argument("--size", type=int, default=128, help="pixels (default: 128, as released)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from libero.libero import get_libero_path
    from libero.libero.envs import OffScreenRenderEnv

    task, suite = args.demos.stem.removesuffix("_demo"), args.demos.resolve().parent.name
    language = LiberoSet(args.demos).read(0, "none").language  # the BDDL file's own wording differs from it
    bddl = Path(get_libero_path("bddl_files")) / suite / f"{task}.bddl"
    env = OffScreenRenderEnv(bddl_file_name=str(bddl), camera_heights=args.size, camera_widths=args.size)
    env.seed(args.seed)
    rng, count, failed = np.random.default_rng(args.seed), 0, 0
    cameras = {name: Camera(args.size, args.size, "opengl") for name in CAMERAS}
    info = SetInfo(f"{suite}_rollouts", "store", str(args.out), cameras, {"state": 8, "joint_state": 7}, 7, 20.0)
    with StoreWriter(args.out, info) as out:
        for name, start, actions in demonstrations(args.demos):
            for _ in range(args.per_demo):
                source = Source(args.demos.name, count, name)
                about = {"task": task, "language": language, "source": source}
                demo = rollout(env, start, actions, held_noise(rng, len(actions), args.noise), about)
                out.add(demo)
                count, failed = count + 1, failed + (not demo.success)
                outcome = "success" if demo.success else "failure"
                print(f"{name}: {outcome}, {demo.length} steps ({failed} of {count} failed)")
    env.close()


if __name__ == "__main__":
    main()
