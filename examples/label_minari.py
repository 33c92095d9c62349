"""Offline RL: recorded episodes with nothing but returns get a reward for each step, and Minari reads them back.

    pip install 'apportion[demos]' 'minari[hdf5]'
    python examples/label_minari.py --steps 2000 --out runs/offline

1. records random episodes, 2. `apportion fit` learns rewards from their returns, 3. `apportion label` writes these
beside the recorded ones, 4. Minari loads the copy with the learned rewards in their place. The flat arrays of the last
lines are what offline learners take.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import gymnasium as gym
import h5py
import numpy as np

from apportion.cli import main as apportion
from apportion.envs.episodic import EpisodicReward


def record(dataset: str, episodes: int, seed: int) -> None:
    """A Minari dataset of random play in Pendulum-v1, each episode's return paid at its last step."""
    import minari
    from minari.data_collector import EpisodeBuffer

    env = EpisodicReward(gym.make("Pendulum-v1", max_episode_steps=50))
    env.action_space.seed(seed)
    buffers = []
    for episode in range(episodes):
        seen, steps = [env.reset(seed=seed + episode)[0]], []
        while not steps or not (steps[-1][2] or steps[-1][3]):
            action = env.action_space.sample()
            obs, reward, terminated, truncated, _ = env.step(action)
            seen.append(obs)
            steps.append((action, reward, terminated, truncated))
        actions, rewards, ends, cuts = (list(column) for column in zip(*steps, strict=True))
        buffers.append(
            EpisodeBuffer(
                observations=np.stack(seen),
                actions=np.stack(actions),
                rewards=rewards,
                terminations=ends,
                truncations=cuts,
            )
        )
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    minari.create_dataset_from_buffers(dataset, buffers, algorithm_name="random", **spaces)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2_000, help="gradient steps of the reward model")
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("runs/offline"), help="directory, must not exist")
    args = parser.parse_args()
    os.environ["MINARI_DATASETS_PATH"] = str(args.out.resolve())  # before Minari looks at it
    import minari

    args.out.mkdir(parents=True)
    record("pendulum/random-v0", args.episodes, seed=0)
    data, labelled = args.out / "pendulum/random-v0", args.out / "pendulum/learned-v0"

    fit = f"fit --data {data} --runs-dir {args.out} --name reward --method rd --return dense --features proprio"
    assert apportion([*fit.split(), *f"--steps {args.steps} --r-hidden 64,64 --r-lr 1e-3".split()]) == 0
    label = f"label --model {args.out / 'reward'} --data {data} --out {labelled} --name learned"
    assert apportion(label.split()) == 0

    with h5py.File(labelled / "data/main_data.hdf5", "r+") as file:
        for episode in file.values():
            episode["rewards"][...] = episode["rewards_learned"]
    dataset = minari.load_dataset("pendulum/learned-v0")
    given = {e.id: e.rewards.sum() for e in minari.load_dataset("pendulum/random-v0")}
    learned = {e.id: e.rewards.sum() for e in dataset}
    gaps = [abs(given[i] - learned[i]) for i in given]
    print(f"{len(gaps)} episodes, whose returns have a standard deviation of {np.std(list(given.values())):.0f}")
    print(f"learned rewards add up to the return within {np.mean(gaps):.0f}, on average")
    episodes = list(dataset.iterate_episodes())
    arrays = {
        "observations": np.concatenate([e.observations[:-1] for e in episodes]),
        "actions": np.concatenate([e.actions for e in episodes]),
        "rewards": np.concatenate([e.rewards for e in episodes]),
        "terminals": np.concatenate([e.terminations for e in episodes]),
        "timeouts": np.concatenate([e.truncations for e in episodes]),
    }
    print({name: values.shape for name, values in arrays.items()})


if __name__ == "__main__":
    main()
