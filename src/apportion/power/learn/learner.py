"""The learner: estimators, their targets, the replay, and one training step. It knows no process and no file."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from apportion.device import torch_device
from apportion.nets.optim import Adam, polyak_
from apportion.power import equations as eq
from apportion.power.kernel import Kernel
from apportion.power.learn import losses
from apportion.power.learn.act import nodes_of
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.estimators import (
    copy_into,
    load_nets,
    make_estimators,
    nets_state,
    robot_actions,
    to_device,
)
from apportion.power.learn.fit import Fit, Part, fit_networks
from apportion.power.learn.lookup import Lookup
from apportion.power.learn.networks import LARGEST, NAMES, Networks
from apportion.power.learn.pool import Material, Memo, Pool
from apportion.power.learn.prior import HumanPrior
from apportion.power.learn.replay import Drawn, Known, Replay, Steps
from apportion.power.learn.stages import Stage, beta_r_at, clears, lr_factor_at, stage_at
from apportion.power.learn.states import Ahead, StateTable
from apportion.power.learn.targets import How, Nodes, Taken, Targets, Values, from_model, from_samples, values
from apportion.power.world import World
from apportion.rng import Streams
from apportion.types import Metrics, UserError

_AT_ONCE = 1024  # states whose targets are worked out together, at most


class Diverged(UserError):
    """A loss is NaN or infinite, or a value has left every sensible range."""


class Learner:
    """Everything that training changes. `step` everywhere: environment steps so far, which stages go by."""

    def __init__(self, world: World, prior: HumanPrior, config: Phase2Config):
        self.world, self.prior, self.config = world, prior, config
        self.device = torch_device(config.device)
        self.streams = Streams(config.seed)
        self.how = How.of(config)
        self.nets = to_device(make_estimators(world, config, self.streams.torch_generator("init")), self.device)
        self.target = to_device(make_estimators(world, config, torch.Generator().manual_seed(0)), self.device)
        copy_into(self.target, self.nets)
        self.average = copy.deepcopy(self.target) if config.average_copies else None
        self.adams = _adams(self.nets, config) if isinstance(self.nets, Networks) else {}
        self.table = StateTable(world)
        self.replay = Replay(config.buffer_size, len(world.humans), len(world.agents))
        self.weights = torch.as_tensor(np.asarray(world.goal_weights, np.float32), device=self.device)
        self.sizes = tuple(len(world.actions[h]) for h in world.humans)
        self.fit: Fit = fit_networks  # or the same, compiled
        self.pool, self.memo = Pool(), Memo()
        self.updates = 0
        self.scaled = False  # are the outputs of Q_r and V_r where their targets are?
        self.known = Known(config.buffer_size, 1 if world.horizon is None else world.horizon)  # where --imagine looks

    # ---------------------------------------------------------------- data

    def take(self, steps: Steps, before: int, now: int) -> None:
        """`steps` were made on the way from `before` to `now` environment steps."""
        if clears(self.config, before, now):
            self.replay.clear()
        self.replay.add(steps, self.table)
        if len(self.table) > 4 * self.config.buffer_size + 1_000_000:
            self._forget()

    def _forget(self) -> None:
        """Drops the states that neither the replay nor the next batch needs."""
        ids = np.union1d(self.replay.ids(), self.known.ids())
        number = np.zeros(len(self.table), np.int64)
        number[ids] = np.arange(len(ids))
        self.table = self.table.kept(ids)
        self.replay.renumber(number)
        self.memo.keep(())
        self.known.renumber(number)

    def ready(self) -> bool:
        """Is there a batch to learn from?"""
        return self.replay.n >= min(self.config.batch_size, self.config.buffer_size)

    def _nodes(self, ids: Int[np.ndarray, "n"], t: Int[np.ndarray, "n"]) -> Nodes:
        horizon = self.world.horizon
        over = self.table.terminal(ids)
        last = np.zeros(len(ids), bool)
        if horizon is not None:
            over, last = over | (t >= horizon), t == horizon - 1
        return Nodes(*map(self._send, (self.table.features(ids, t), self.table.attained(ids), last, over)))

    def _send(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    # ---------------------------------------------------------------- one training step

    def update(self, step: int) -> Metrics:
        """One batch through all losses of the stage. Raises Diverged, which names network, stage and step."""
        stage = stage_at(self.config, step)
        if self.pool.empty(stage.number):
            self._fill_pool(stage, beta_r_at(self.config, step))
        part = self.pool.take()
        metrics = self._fit(part.nodes, part.here, part.targets, stage, step)
        self.updates += 1
        if self.updates % self.config.target_update_freq == 0:
            copy_into(self.target, self.nets)
            self._to_average()
        return metrics

    def _to_average(self) -> None:
        """The newest copy gets its part in the average, which early on reaches back over the last tenth of all."""
        if isinstance(self.average, Networks) and isinstance(self.target, Networks):
            copies = self.updates // self.config.target_update_freq
            polyak_(self.average, self.target, 1 - 1 / min(self.config.average_copies, 1 + copies / 10))

    def _fill_pool(self, stage: Stage, beta: float) -> None:
        """Works out the targets of `target_batches` batches, each of which serves `target_epochs` training steps."""
        config, robots = self.config, "q_r" in stage.trained
        count, at_time = config.batch_size * config.target_batches, self._at_time()
        drawn = self.replay.draw(self.streams.generator("replay").random(count), at_time)
        ids, t = self._with_imagined(drawn, at_time)
        with torch.no_grad():
            if config.targets == "model":
                material, rows = self._by_model(ids, t, beta, robots)
            else:
                material, rows = self._by_samples(drawn, beta, robots), torch.arange(count)
            if robots and not self.scaled:
                self._set_scale(material.rows(rows).here, t)
        order = np.arange(count)[None]
        if config.target_epochs > 1:
            noise = self.streams.generator("pool").random((config.target_epochs, count))
            order = noise.argsort(1)
        self.pool.fill(material, rows[torch.from_numpy(order.reshape(-1, config.batch_size))], stage.number)

    def _at_time(self) -> int | None:
        """The one time of this batch, from the latest to 0 and again, if batches have one."""
        if self.config.replay == "uniform":
            return None
        latest, config = self.replay.last_time(), self.config
        filled = self.updates // (config.target_batches * config.target_epochs)  # a pool has one time
        return latest - filled % (latest + 1)

    def _with_imagined(self, drawn: Drawn, at_time: int | None) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """Numbers and times of the batch, the first of them replaced by states that were only looked ahead to."""
        ids, t = drawn.ids, drawn.t.astype(np.int64)
        count = int(self.config.imagine * len(ids)) if self.known.n else 0
        if count:
            ids, t = ids.copy(), t.copy()
            ids[:count], t[:count] = self.known.draw(self.streams.generator("imagine").random(count), at_time)
        return ids, t

    def _by_model(
        self, ids: Int[np.ndarray, "n"], t: Int[np.ndarray, "n"], beta: float, robots: bool
    ) -> tuple[Material, Int[Tensor, "n"]]:
        """Targets over all that may follow, and which rows are the batch: none is worked out twice while it is true."""
        times = 1 if self.world.horizon is None else self.world.horizon + 1
        keys = ids * times + (t if times > 1 else 0)  # without a horizon all times are alike
        copies = self.updates // self.config.target_update_freq
        forgot = self.memo.keep((copies, self.scaled, beta, robots))
        steady = beta in (0.0, self.config.params.beta_r)
        new = self.memo.missing(np.union1d(keys, self._soon(times)) if forgot and steady else keys)
        for part in np.array_split(new, -(-len(new) // _AT_ONCE)) if len(new) else ():
            self.memo.add(part, self._worked_out(*np.divmod(part, times), beta, robots))
        return self.memo.find(keys)

    def _soon(self, times: int) -> Int[np.ndarray, "k"]:
        """All that the replay holds, where the target networks will stand still for more draws than twice that."""
        config = self.config
        left = config.target_update_freq - self.updates % config.target_update_freq
        if config.imagine == 0 and left > config.target_batches * config.target_epochs:
            held = self.replay.keys(times)
            if 2 * len(held) <= left * config.batch_size:
                return held
        return np.zeros(0, np.int64)

    def _worked_out(self, ids: Int[np.ndarray, "n"], t: Int[np.ndarray, "n"], beta: float, robots: bool) -> Material:
        """What the target networks say of states, and targets over all that may follow them."""
        ahead, nodes = self.table.ahead(ids, t), self._nodes(ids, t)
        following = self._nodes(ahead.ids, ahead.t)
        if self.config.imagine > 0:
            goes_on = ~following.over.cpu().numpy()
            self.known.add(ahead.ids[goes_on], ahead.t[goes_on], len(self.table))
        here, there = self._both(nodes, following, beta, robots)
        kernel, prior = self._kernel(ahead, nodes), self._prior(ids, t)
        targets = from_model(kernel, following, there, here.pi, prior, self.config.params, robots)
        return Material(nodes, here, targets)

    def _by_samples(self, drawn: Drawn, beta: float, robots: bool) -> Material:
        """The same, by what did follow."""
        t = drawn.t.astype(np.int64)
        nodes, prior = self._nodes(drawn.ids, t), self._prior(drawn.ids, t)
        following = self._nodes(drawn.next_ids, t + 1)
        here, there = self._both(nodes, following, beta, robots)
        taken, config = self._taken(drawn), self.config
        targets = from_samples(following, there, here.pi, prior, self.weights, taken, config.params, config.weight_clip)
        return Material(nodes, here, targets)

    def _both(self, nodes: Nodes, following: Nodes, beta: float, robots: bool) -> tuple[Values, Values]:
        """What the target networks say of the batch and of what follows: one pass for both."""
        both = Nodes(*(torch.cat(pair) for pair in zip(_parts(nodes), _parts(following), strict=True)))
        found = values(self.target, both, self.how, self.weights, beta, robots)
        n = len(nodes.last)
        columns = [getattr(found, name) for name in Values.__dataclass_fields__]
        return Values(*(c[:n] for c in columns)), Values(*(c[n:] for c in columns))

    def _prior(self, ids: Int[np.ndarray, "n"], t: Int[np.ndarray, "n"]) -> list[Tensor]:
        found = self._send(np.asarray(self.prior(self.table.states(ids), t), np.float32))
        return [found[:, h, :, :size] for h, size in enumerate(self.sizes)]

    def _kernel(self, ahead: Ahead, nodes: Nodes) -> Kernel:
        """The solver's kernel, its states those of the batch, its columns what may follow."""
        return Kernel(
            indptr=torch.from_numpy(ahead.indptr),
            indices=self._send(ahead.indices),
            probs=self._send(ahead.probs),
            attained=nodes.attained,
            terminal=nodes.over,
            weights=self.weights,
            sizes=self.sizes,
            still=tuple(self.world.still[h] for h in self.world.humans),
            robot_actions=robot_actions(self.world),
        )

    def _taken(self, drawn: Drawn) -> Taken:
        world = self.world
        robots = np.zeros(len(drawn.t), np.int64)
        if world.robots:
            sizes = [len(world.actions[r]) for r in world.robots]
            robots[:] = np.ravel_multi_index(tuple(drawn.joint[:, list(world.robots)].T.astype(np.int64)), sizes)
        humans = drawn.joint[:, list(world.humans)].astype(np.int64)
        return Taken(*map(self._send, (humans, drawn.human_prob, robots, drawn.robot_prob)))

    def _set_scale(self, here: Values, t: Int[np.ndarray, "n"]) -> None:
        """Puts the first outputs of Q_r and V_r where they will be: U_r, summed over the time that is left."""
        gamma, horizon = self.config.params.gamma_r, self.world.horizon
        left = np.full(len(t), 1e9) if horizon is None else (horizon - t).astype(np.float64)
        steps = left if gamma == 1 else (1 - gamma**left) / (1 - gamma)
        v = float((here.u(self.config.params.eta).cpu().double().numpy() * steps).mean())
        for nets in (self.nets, self.target, self.average):
            if isinstance(nets, Networks):
                nets.set_scale(max(v, -LARGEST), max(v, -LARGEST))
        self.scaled = True

    def _fit(self, nodes: Nodes, here: Values, targets: Targets, stage: Stage, step: int) -> Metrics:
        want = self._wanted(nodes, here, targets, stage)
        if isinstance(self.nets, Lookup):
            found = self._fit_tables(self.nets, nodes, want)
        else:
            found = self._fit_networks(self.nets, nodes, want, lr_factor_at(self.config, step))
        self._check(found, targets, stage, step)
        metrics = {f"loss/{name}": loss for name, loss in found.items()}
        metrics["value/v_h_e"] = targets.v_e.mean()
        metrics["value/x_h"] = here.x.mean()
        if "q_r" in stage.trained:
            acting = ~nodes.last
            share = acting.float().mean().clamp(min=1e-9)
            metrics["value/q_r"] = (targets.q * acting[:, None]).mean() / share
            metrics["value/u_r"] = here.u(self.config.params.eta).mean()
            entropy = -(here.pi * here.pi.clamp(min=1e-12).log()).sum(1)
            metrics["policy/entropy_bits"] = entropy.mean() / math.log(2)
        return metrics

    def _wanted(
        self, nodes: Nodes, here: Values, targets: Targets, stage: Stage
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Target and weight of each estimator that the stage trains."""
        params = self.config.params
        want: dict[str, tuple[Tensor, Tensor | None]] = {"v_h_e": (targets.v_e, targets.v_e_weight)}
        if "x_h" in stage.trained:
            want["x_h"] = (eq.power(here.v_e, self.weights, params.zeta), None)
        if "u_r" in stage.trained:
            want["u_r"] = (losses.y_of(here.x, params.xi, params.aggregate, self._chosen(len(here.x))), None)
        if "q_r" in stage.trained:
            acting = (~nodes.last)[:, None].float().expand_as(targets.q)  # at the last step Q_r is known
            want["q_r"] = (targets.q, acting if targets.q_weight is None else acting * targets.q_weight)
        if "v_r" in stage.trained:
            weight = eq.duration_weight(params.gamma_r) if params.duration_weight else 1.0
            want["v_r"] = (eq.robot_value(here.u(params.eta), here.pi, here.q, weight), None)
        return want

    def _chosen(self, n: int) -> Tensor | None:
        humans, count = len(self.world.humans), self.config.u_r_sample_humans
        if not 0 < count < humans:
            return None
        noise = self.streams.generator("humans").random((n, humans))
        return self._send(noise.argsort(1)[:, :count])

    def _fit_networks(
        self, nets: Networks, nodes: Nodes, want: dict[str, tuple[Tensor, Tensor | None]], lr_factor: float
    ) -> dict[str, Tensor]:
        apart = {"x_h": want.pop("x_h")} if self.config.x_h_batch_size and "x_h" in want else {}
        generator = torch.Generator(self.device).manual_seed(self.streams.integer("dropout"))
        parts = [Part(nodes.features, nets.noise(len(nodes.last), want, generator), want)]
        if apart:
            features, target = self._x_h_batch()
            parts.append(Part(features, nets.noise(len(target), apart, generator), {"x_h": (target, None)}))
        fit = self.fit if "q_r" in want else fit_networks  # warm-ups are short
        return fit(nets, self.adams, parts, self.config, lr_factor)

    def _x_h_batch(self) -> tuple[Float[Tensor, "n E"], Float[Tensor, "n H"]]:
        """A larger batch for X_h alone, and its targets: it needs no look ahead."""
        drawn = self.replay.draw(self.streams.generator("x_h").random(self.config.x_h_batch_size))
        features = self._nodes(drawn.ids, drawn.t.astype(np.int64)).features
        with torch.no_grad():
            v_e = self.target.v_h_e(self.target.encode(features))
            return features, eq.power(v_e, self.weights, self.config.params.zeta)

    def _fit_tables(
        self, tables: Lookup, nodes: Nodes, want: dict[str, tuple[Tensor, Tensor | None]]
    ) -> dict[str, Tensor]:
        code = tables.encode(nodes.features, iter(()))
        rate = self.config.lr_lookup
        return {name: tables.learn(name, code, target, weight, rate) for name, (target, weight) in want.items()}

    def _check(self, found: dict[str, Tensor], targets: Targets, stage: Stage, step: int) -> None:
        said = torch.stack([*found.values(), targets.q.abs().max()]).tolist()
        for name, value in zip([*found, "q_r"], said, strict=True):
            if not math.isfinite(value) or (name == "q_r" and value >= LARGEST):
                raise Diverged(
                    f"{name} has diverged ({value}) in stage {stage.number} ({stage.name}) at step {step}: lower "
                    f"--lr-{name.replace('_', '-')} or --xi and --eta, or give --x-floor; the last checkpoint is kept"
                )

    # ---------------------------------------------------------------- state

    def estimates(
        self, world: World, states: Shaped[np.ndarray, "n F"], t: Int[np.ndarray, "n"], beta_r: float
    ) -> Values:
        """What the estimators, averaged, say of any states of its own world, or one encoded alike; without dropout."""
        with torch.no_grad():
            nodes = Nodes(*(part.to(self.device) for part in _parts(nodes_of(world, states, t))))
            return values(self.nets if self.average is None else self.average, nodes, self.how, self.weights, beta_r)

    def state(self) -> dict[str, Any]:
        return {
            "nets": nets_state(self.nets),
            "target": nets_state(self.target),
            **({} if self.average is None else {"average": nets_state(self.average)}),
            "adams": {name: adam.state() for name, adam in self.adams.items()},
            "table": self.table.state(),
            "replay": self.replay.state(),
            "known": self.known.state(),
            "pool": self.pool.state(),
            "memo": self.memo.state(),
            "streams": self.streams.state(),
            "updates": self.updates,
            "scaled": self.scaled,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        load_nets(self.nets, state["nets"])
        load_nets(self.target, state["target"])
        if self.average is not None:
            load_nets(self.average, state["average"])
        if isinstance(self.target, Lookup) and isinstance(self.nets, Lookup):
            self.target.index = self.nets.index
        for name, adam in self.adams.items():
            adam.load_state(state["adams"][name])
        self.table.load_state(state["table"])
        self.replay.load_state(state["replay"])
        self.known.load_state(state["known"])
        self.pool.load_state(state["pool"], self.device)
        self.memo.load_state(state["memo"], self.device)
        self.streams.load_state(state["streams"])
        self.updates, self.scaled = int(state["updates"]), bool(state["scaled"])


def _parts(nodes: Nodes) -> tuple[Tensor, ...]:
    return nodes.features, nodes.attained, nodes.last, nodes.over


def _adams(nets: Networks, config: Phase2Config) -> dict[str, Adam]:
    return {
        name: Adam(
            nets.parameters_of(name),
            lr := getattr(config, f"lr_{name}"),
            max_grad_norm=config.grad_clip * lr / config.reference_lr,
            weight_decay=config.weight_decay,
        )
        for name in NAMES
    }
