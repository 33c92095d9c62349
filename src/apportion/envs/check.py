"""Plays an environment for a while and says plainly what works, what does not, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from apportion.envs.collect import ActionMap, random_actions
from apportion.envs.episodic import Replayable
from apportion.envs.faults import said
from apportion.envs.make import make_one, resolve, spec_of, step_limit
from apportion.types import Episode, Spec, UserError

_KEPT = 1000  # steps of an episode that are kept; those of the first are played again
_PLENTY = 2000  # random steps, over several episodes, before numbers and endings are judged
Probe = Callable[[Spec, Episode], None]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `ok` None: it works, but the user should know about it."""

    name: str
    ok: bool | None
    text: str


@dataclass
class _Rollout:
    """One episode, or as much of it as there were actions for; its first `_KEPT` steps in lists."""

    obs: list[Any] = field(default_factory=list)  # T + 1 of them, as the environment gave them
    reward: list[float] = field(default_factory=list)
    steps: int = 0
    terminated: bool = False
    truncated: bool = False
    raised: str = ""  # what reset or step raised, if they did
    not_finite: str = ""  # the first NaN or infinity


def check(env: str, steps: int = 10_000, seed: int = 0, probe: Probe | None = None) -> list[Finding]:
    """Everything that training on `env` relies on, tried with random actions in episodes of `steps` steps in all.

    `probe` gets the spec and the first episode, and does one update of some agent; what it raises
    becomes a finding. Never raises for a fault of the environment. It stops at the first fault that hides the others.
    """
    try:
        _, notes = resolve(env)
        first, second = make_one(env, False), make_one(env, False)
    except UserError as e:
        return [Finding("environment", False, str(e))]
    findings = [Finding("environment", True, "; ".join([f"{env} can be made", *notes]))]
    try:
        findings += _check_made(first, second, steps, seed, probe)
    finally:
        first.close()
        second.close()
    return findings


def render(findings: list[Finding]) -> str:
    """One line for each finding, and a verdict, in plain text."""
    marks = {True: "ok", None: "note", False: "FAIL"}
    width = max((len(f.name) for f in findings), default=0)
    lines = [f"{marks[f.ok]:<5} {f.name:<{width}}  {f.text}" for f in findings]
    failed = sum(f.ok is False for f in findings)
    verdict = "it will work" if failed == 0 else f"it will not work: {failed} of {len(findings)} checks failed"
    return "\n".join([*lines, verdict])


def _check_made(first: Replayable, second: Replayable, steps: int, seed: int, probe: Probe | None) -> list[Finding]:
    try:
        spec = spec_of(first)
    except UserError as e:
        return [Finding("spaces", False, str(e))]
    act = random_actions(spec, steps, np.random.default_rng(seed))
    actions = ActionMap(first.action_space)(act)
    rollouts = _play_on(first.env, seed, actions)
    findings = [_spaces(spec, first), _stepping(rollouts)]
    if findings[-1].ok is False:
        return findings
    findings.append(_observations(rollouts, first.observation_space))
    if findings[-1].ok is False:
        return findings
    findings += [_finite(rollouts), _reward(rollouts), _ending(rollouts, first, steps)]
    findings += [*_seeding(rollouts[0], second.env, seed, actions), _replay(rollouts[0], second, seed, actions)]
    if probe is not None and all(f.ok is not False for f in findings):
        findings.append(_probe(probe, spec, rollouts[0], act, seed))
    return findings


def _play_on(env: gym.Env, seed: int, actions: np.ndarray) -> list[_Rollout]:
    """Episodes with seeds `seed`, `seed + 1`, ... until plenty of `actions` are used up, or the first fault."""
    rollouts: list[_Rollout] = []
    used = 0
    while used < min(len(actions), _PLENTY):
        rollouts.append(_play(env, seed + len(rollouts), actions[used:]))
        used += rollouts[-1].steps
        if rollouts[-1].raised or rollouts[-1].not_finite:
            break
    return rollouts


def _play(env: gym.Env, seed: int, actions: np.ndarray) -> _Rollout:
    """Reset with `seed` and take `actions` until the episode ends or there are no more."""
    rollout = _Rollout()
    try:
        obs, _ = env.reset(seed=seed, options={})
        _note(rollout, obs, "the reset")
        for action in actions:
            obs, reward, rollout.terminated, rollout.truncated, _ = env.step(action)
            rollout.steps += 1
            if rollout.steps <= _KEPT:
                rollout.reward.append(float(reward))
            _note(rollout, obs, f"step {rollout.steps}", float(reward))
            if rollout.terminated or rollout.truncated:
                break
    except Exception as e:
        rollout.raised = f"{f'step {rollout.steps + 1}' if rollout.obs else 'reset'} raised {said(e)}"
    return rollout


def _note(rollout: _Rollout, obs: Any, where: str, reward: float = 0.0) -> None:
    array = np.asarray(obs)
    if len(rollout.obs) <= _KEPT:
        rollout.obs.append(np.array(obs))
    if rollout.not_finite:
        return
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        entry = tuple(int(x) for x in np.argwhere(~np.isfinite(array))[0])
        rollout.not_finite = (
            f"observation entry {entry[0] if len(entry) == 1 else entry} is {array[entry]} after {where}"
        )
    elif not np.isfinite(reward):
        rollout.not_finite = f"the reward of {where} is {reward}"


def _spaces(spec: Spec, env: gym.Env) -> Finding:
    shape = "x".join(map(str, spec.obs_shape))
    obs = f"{shape} observations ({env.observation_space.dtype}, stored as {spec.obs_dtype})"
    if spec.act_kind == "discrete":
        return Finding("spaces", True, f"{obs}, {spec.act_dim} discrete actions: dqn")
    bounds = f"[{min(spec.act_low):g}, {max(spec.act_high):g}]"
    return Finding("spaces", True, f"{obs}, {spec.act_dim} actions in {bounds}: sac, td3 or ddpg")


def _stepping(rollouts: list[_Rollout]) -> Finding:
    last = rollouts[-1]
    if last.raised:
        text = f"{_which(rollouts)}{last.raised}, with random actions from within the action space"
        return Finding("stepping", False, text)
    return Finding("stepping", True, f"{sum(r.steps for r in rollouts)} random steps in {_episodes(len(rollouts))}")


def _which(rollouts: list[_Rollout]) -> str:
    """Names the last of them, where it is not the first."""
    return f"in episode {len(rollouts)}: " if len(rollouts) > 1 else ""


def _episodes(count: int) -> str:
    return f"{count} episode{'s' if count > 1 else ''}"


def _observations(rollouts: list[_Rollout], space: gym.Space) -> Finding:
    for n, rollout in enumerate(rollouts):
        for t, obs in enumerate(rollout.obs):
            if obs.shape != space.shape:
                where = _which(rollouts[: n + 1])
                text = f"{where}shape {obs.shape} at step {t}, but the space says {space.shape}"
                return Finding("observations", False, text)
    dtype = rollouts[0].obs[0].dtype
    if dtype != space.dtype:
        return Finding("observations", None, f"given as {dtype}, but the space says {space.dtype}: they are converted")
    outside = [t for t, obs in enumerate(rollouts[0].obs) if np.isfinite(obs).all() and not space.contains(obs)]
    if outside:
        return Finding("observations", None, f"outside the space's bounds, first at step {outside[0]}: harmless here")
    return Finding("observations", True, "shape, dtype and bounds are those of the space")


def _finite(rollouts: list[_Rollout]) -> Finding:
    if rollouts[-1].not_finite:
        return Finding("finite", False, f"{_which(rollouts)}{rollouts[-1].not_finite}: training would stop there")
    return Finding("finite", True, "no NaN or infinity in observations and rewards")


def _reward(rollouts: list[_Rollout]) -> Finding:
    rewards = [x for rollout in rollouts for x in rollout.reward]
    if not np.isfinite(rewards).all():
        return Finding("reward", None, "not looked at further")
    low, high = min(rewards), max(rewards)
    if low == high and len(rewards) > 1:
        return Finding("reward", None, f"always {low:g}: random actions may never find another")
    return Finding("reward", True, f"between {low:g} and {high:g} per step")


def _ending(rollouts: list[_Rollout], env: gym.Env, steps: int) -> Finding:
    limit = step_limit(env)
    terminated, truncated = sum(r.terminated for r in rollouts), sum(r.truncated for r in rollouts)
    lengths = [r.steps for r in rollouts if r.terminated or r.truncated]
    if lengths:
        low, high = min(lengths), max(lengths)
        at = f"at step {low}" if low == high else f"at steps {low} to {high}"
        also = f"; the step limit is {limit}" if limit else "; no step limit is known"
        if not terminated:
            how = f"truncated {at}, which is not taken for a termination"
        elif not truncated:
            how = f"terminated {at}{also}"
        else:
            how = f"{terminated} terminated and {truncated} truncated, {at}"
        return Finding("ending", True, f"{_episodes(len(lengths))} ended: {how}")
    if limit:
        return Finding("ending", True, f"the step limit is {limit}; nothing ended in {steps} steps")
    advice = "gymnasium.register(..., max_episode_steps=1000) or gymnasium.wrappers.TimeLimit(env, 1000)"
    text = (
        f"no episode ended in {steps} steps, and only ended episodes are learnt from: add max_episode_steps ({advice})"
    )
    return Finding("ending", False, text)


def _seeding(rollout: _Rollout, fresh: gym.Env, seed: int, actions: np.ndarray) -> list[Finding]:
    kept = actions[: len(rollout.reward)]
    again = _play(fresh, seed, kept)
    at = _first_difference(rollout, again)
    same = Finding("seeding", True, "the same seed and actions give the same episode")
    if at is not None:
        text = (
            f"the same seed and actions give another episode from step {at} on: draw all randomness from self.np_random"
        )
        same = Finding("seeding", None, f"{text} (runs will not repeat, resuming is approximate)")
    other = _play(fresh, seed + 1, kept)
    if _first_difference(rollout, other) is not None:
        return [same, Finding("other seeds", True, "another seed gives another episode")]
    return [same, Finding("other seeds", None, "another seed gives the same episode: is the seed used at all?")]


def _replay(rollout: _Rollout, used: Replayable, seed: int, actions: np.ndarray) -> Finding:
    """Bring an environment that has just played something else into the middle of `rollout`, and go on to its end."""
    kept = len(rollout.reward)
    half = kept // 2
    text = "an interrupted episode could not be taken up again exactly: does reset() clear everything?"
    not_exact = Finding("replay", None, f"{text} (resuming is approximate)")
    try:
        obs = used.replay([(seed, actions[:half])])
        if obs is None or obs.tobytes() != rollout.obs[half].tobytes():
            return not_exact
        for t in range(half, kept):
            obs, reward, terminated, truncated, _ = used.step(actions[t])
            ended = t + 1 == rollout.steps and (rollout.terminated, rollout.truncated)
            if not _same(obs, rollout.obs[t + 1]) or not _same(float(reward), rollout.reward[t]):
                return not_exact
            if (terminated, truncated) != (ended or (False, False)):
                return not_exact
    except Exception as e:
        return Finding("replay", False, f"playing an episode again raised {said(e.__cause__ or e)}")
    return Finding("replay", True, f"an episode interrupted at step {half} was taken up exactly")


def _probe(probe: Probe, spec: Spec, rollout: _Rollout, act: np.ndarray, seed: int) -> Finding:
    n = len(rollout.reward)
    obs = np.stack(rollout.obs).astype(spec.obs_dtype)
    terminated = rollout.terminated and n == rollout.steps
    try:
        probe(spec, Episode(obs, act[:n], np.array(rollout.reward, np.float32), terminated, 0, seed))
    except Exception as e:
        return Finding("update", False, f"one update raised {said(e)}")
    return Finding("update", True, "one update of agent and reward model")


def _first_difference(a: _Rollout, b: _Rollout) -> int | None:
    for t, (x, y) in enumerate(zip(a.obs, b.obs, strict=False)):
        if not _same(x, y) or (t > 0 and not _same(a.reward[t - 1], b.reward[t - 1])):
            return t
    return None if len(a.obs) == len(b.obs) else min(len(a.obs), len(b.obs))


def _same(a: Any, b: Any) -> bool:
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()
