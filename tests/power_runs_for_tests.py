"""Small runs of `apportion power train` for tests, and a learner by itself."""

from dataclasses import replace

from apportion.power.grid.world import load_world
from apportion.power.learn.act import Actor
from apportion.power.learn.learner import Learner
from apportion.power.learn.presets import PRESETS
from apportion.power.learn.priors import make_prior
from apportion.power.world import World
from apportion.train.power import train_power

SHORT = {
    "num_episodes": 40,
    "warmup_v_h_e_steps": 200,
    "warmup_q_r_steps": 200,
    "beta_r_rampup_steps": 400,
    "epsilon_decay_steps": 4_000,
    "save_freq": 1_000,
    "log_every": 200,
}


def trained(path, world, **changes):
    """The directory of a finished run of the lookup preset, shortened: about two seconds."""
    config = replace(PRESETS["lookup"].config(), world=str(world), **{**SHORT, **changes})
    train_power(config, path, command=["apportion", "power", "train", str(world)], progress=False)
    return path


def a_learner(config, steps=40, horizon=6):
    """On `trivial`, with that many steps of each environment in its replay."""
    world = load_world("trivial").with_horizon(horizon)
    prior = make_prior(config.human_prior, world, config.params, steps=0, seed=0, say=print)
    learner = Learner(world, prior, config)
    learner.take(Actor(world, prior, config, "0").collect(steps, learner.nets, 0.0, 1.0), 0, 1)
    return learner


class Bare:
    """A World and nothing more: no hash of its content, no compiler of its own, its number of steps its own."""

    def __init__(self):
        world = load_world("trivial").with_horizon(4)
        for name in (*World.__annotations__, *(x for x in vars(World) if not x.startswith("_"))):
            setattr(self, name, getattr(world, name))
