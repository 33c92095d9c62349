"""Who collects steps of a world: actors in this process, in others in lock-step, or in others that run ahead.

All three make the same steps from the same policies: what an actor draws depends on its own number alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from apportion.config import from_json, to_json
from apportion.power.learn.act import Actor
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.estimators import load_nets, make_estimators, nets_state
from apportion.power.learn.learner import Learner
from apportion.power.learn.prior import HumanPrior
from apportion.power.learn.priors import make_prior
from apportion.power.learn.replay import Steps
from apportion.power.learn.stages import beta_r_at, epsilon_at
from apportion.power.learn.worlds import reopen
from apportion.power.world import World
from apportion.rng import Streams
from apportion.run.tree import Tree
from apportion.train.workers import Worker, WorkerLost, Workers
from apportion.train.workers_start import on_ray, processes
from apportion.types import UserError

_BUILD = "apportion.train.actors:build"
_SILENCE = 120.0  # seconds without a sign of life after which an actor counts as lost
_DEPTH = 2  # rounds asked of an actor that runs ahead: one at work, one waiting
_TRIES = 3  # losses of one actor, without a reply between them, after which the run gives up


@runtime_checkable
class Crew(Protocol):
    """All actors of a run."""

    def collect(self, learner: Learner, step: int, lead: int) -> Steps | None:
        """Steps that were made. `step`: environment steps so far; `lead`: so many of them are still to be trained on,
        and where there are any, None says that no new ones are there.
        """
        ...

    def drain(self) -> list[Steps]:
        """What is still on its way; afterwards nobody acts until the next `collect`."""
        ...

    def episodes(self) -> int: ...

    def state(self) -> list[Tree]:
        """Of each actor; only when nobody acts."""
        ...

    def close(self) -> None: ...


class LocalCrew:
    """Actors of this process, one after the other, with the policy of the moment."""

    def __init__(self, world: World, prior: HumanPrior, config: Phase2Config, states: list[Tree] | None):
        self.config = config
        self.actors = [Actor(world, prior, config, str(i)) for i in range(config.num_actors)]
        for actor, state in zip(self.actors, states or (), strict=False):
            actor.load_state(state)

    def collect(self, learner: Learner, step: int, lead: int) -> Steps | None:
        beta, epsilon = beta_r_at(self.config, step), epsilon_at(self.config, step)
        return Steps.join([a.collect(self.config.round_steps, learner.nets, beta, epsilon) for a in self.actors])

    def drain(self) -> list[Steps]:
        return []

    def episodes(self) -> int:
        return sum(actor.episodes for actor in self.actors)

    def state(self) -> list[Tree]:
        return [actor.state() for actor in self.actors]

    def close(self) -> None:
        pass


class _RemoteCrew:
    """Actors in other processes."""

    def __init__(
        self,
        kept: Tree,
        prior: HumanPrior,
        config: Phase2Config,
        states: list[Tree] | None,
        say: Callable[[str], None],
    ):
        self.config, self.say = config, say
        self._spec = {"config": to_json(config), "world": kept, "prior": prior.state()}
        self._losses = [0] * config.num_actors
        self._born = 0
        self._told = ""  # why the one before was lost
        states = states or [{} for _ in range(config.num_actors)]
        self._episodes = [int(state.get("episodes", 0)) for state in states]
        specs = [self._own(str(i), state) for i, state in enumerate(states)]
        self.workers: Workers = (
            on_ray(config.actors, _BUILD, specs, threads=1, silence=_SILENCE)
            if config.actors
            else processes(_BUILD, specs, threads=1, silence=_SILENCE)
        )

    def _own(self, name: str, state: Tree) -> Tree:
        return {**self._spec, "name": name, "state": state}

    def _ask(self, i: int, learner: Learner, step: int, nets: Tree | None) -> None:
        request: Tree = {"rounds": self.config.round_steps, "beta_r": beta_r_at(self.config, step)}
        request |= {"epsilon": epsilon_at(self.config, step)} | ({} if nets is None else {"nets": nets})
        self.workers.submit(i, request)

    def _steps(self, i: int, reply: Tree) -> Steps:
        self._losses[i] = 0
        self._episodes[i] = int(reply["episodes"])
        return Steps(**reply["steps"])

    def _replace(self, lost: WorkerLost) -> None:
        """A new actor with new random numbers. Raises UserError if this one never comes to anything."""
        self._losses[lost.i] += 1
        why = lost.why.strip() or "no reason was given"
        last = why.splitlines()[-1]  # of a traceback the exception
        if self._losses[lost.i] >= _TRIES:
            raise UserError(f"actor {lost.i} was lost {_TRIES} times in a row; the last time: {last}")
        self._born += 1
        self.say(f"actor {lost.i} was lost and is replaced: {last if why == self._told else why}")
        self._told = why
        self.workers.restart(lost.i, self._own(f"{lost.i}-again-{self._born}", self._anew(lost.i)))

    def _anew(self, i: int) -> Tree:
        """In place of a lost actor's state: nothing but how far it had counted."""
        return {"episodes": self._episodes[i]}

    def episodes(self) -> int:
        return sum(self._episodes)

    def state(self) -> list[Tree]:
        out = []
        for i in range(self.workers.count):
            try:
                self.workers.submit(i, {"state": True})
                out.append(self.workers.receive_from(i, None))
            except WorkerLost as lost:
                self._replace(lost)
                out.append(self._anew(i))
        return out

    def close(self) -> None:
        self.workers.close()


class LockstepCrew(_RemoteCrew):
    """Every actor acts with the policy of the moment, and all wait for all: as `LocalCrew`, bit for bit."""

    def collect(self, learner: Learner, step: int, lead: int) -> Steps | None:
        nets = nets_state(learner.nets)
        for i in range(self.workers.count):
            self._ask(i, learner, step, nets)
        parts = []
        for i in range(self.workers.count):
            while len(parts) <= i:
                try:
                    parts.append(self._steps(i, self.workers.receive_from(i, None)))
                except WorkerLost as lost:
                    self._replace(lost)
                    self._ask(i, learner, step, nets)
        return Steps.join(parts)

    def drain(self) -> list[Steps]:
        return []


class FreeCrew(_RemoteCrew):
    """Actors run ahead of the learner by at most `max_lead` steps, with a policy that is some training steps old."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._has: list[int] = [-1] * self.config.num_actors  # training steps behind the policy that each acts with
        self._asked = [0] * self.config.num_actors  # environment steps on their way

    def collect(self, learner: Learner, step: int, lead: int) -> Steps | None:
        self._ask_all(learner, step, lead)
        while True:
            try:
                got = self.workers.receive(0.0 if lead > 0 else None)
            except WorkerLost as lost:
                self._lose(lost)
                self._ask_all(learner, step, lead)
                continue
            return None if got is None else self._got(*got)

    def _ask_all(self, learner: Learner, step: int, lead: int) -> None:
        """Every actor has work, as far as the limiter allows; one at least has some where the learner waits for it."""
        config, each = self.config, self.config.num_envs * self.config.round_steps
        nets: Tree | None = None
        for _ in range(_DEPTH):
            for i in range(self.workers.count):
                waits = self.workers.outstanding(i) < _DEPTH
                ahead = lead + sum(self._asked)
                if not waits or (ahead > 0 and ahead + each > config.max_lead):
                    continue
                stale = self._has[i] < 0 or learner.updates - self._has[i] >= config.actor_sync_freq
                if stale and nets is None:
                    nets = nets_state(learner.nets)
                try:
                    self._ask(i, learner, step, nets if stale else None)
                except WorkerLost as lost:
                    self._lose(lost)
                    continue
                self._has[i] = learner.updates if stale else self._has[i]
                self._asked[i] += each

    def _got(self, i: int, reply: Tree) -> Steps:
        steps = self._steps(i, reply)
        self._asked[i] -= len(steps.t)
        return steps

    def _lose(self, lost: WorkerLost) -> None:
        self._replace(lost)
        self._has[lost.i], self._asked[lost.i] = -1, 0

    def drain(self) -> list[Steps]:
        out = []
        for i in range(self.workers.count):
            while self.workers.outstanding(i):
                try:
                    out.append(self._got(i, self.workers.receive_from(i, None)))
                except WorkerLost as lost:
                    self._lose(lost)
        return out


def make_crew(
    world: World,
    kept: Tree,
    prior: HumanPrior,
    config: Phase2Config,
    states: list[Tree] | None,
    say: Callable[[str], None],
) -> Crew:
    """The actors that `config` asks for, in the states of a checkpoint or at their start."""
    if not config.use_async:
        return LocalCrew(world, prior, config, states)
    return (LockstepCrew if config.lockstep else FreeCrew)(kept, prior, config, states, say)


class _ActorWorker:
    """The other end: an actor, and estimators that it is sent."""

    def __init__(self, actor: Actor, world: World, config: Phase2Config):
        self.actor = actor
        self.nets = make_estimators(world, config, Streams(config.seed).torch_generator("init"))

    def handle(self, request: Tree) -> Tree:
        if "state" in request:
            return self.actor.state()
        if "nets" in request:
            load_nets(self.nets, request["nets"])
        steps = self.actor.collect(request["rounds"], self.nets, request["beta_r"], request["epsilon"])
        return {"steps": steps.tree(), "episodes": self.actor.episodes}


def build(spec: Tree) -> Worker:
    """An actor's worker, from plain data."""
    config = from_json(Phase2Config, spec["config"])
    world = reopen(spec["world"])
    prior = make_prior(config.human_prior, world, config.params, steps=0, seed=config.seed, say=lambda line: None)
    prior.load_state(spec["prior"])
    actor = Actor(world, prior, config, spec["name"])
    if "streams" in spec["state"]:
        actor.load_state(spec["state"])
    else:
        actor.episodes = int(spec["state"].get("episodes", 0))
    return _ActorWorker(actor, world, config)
