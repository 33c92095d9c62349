"""The released settings, typed here by hand from the paper's table and the released code."""

import pytest

from apportion.config import AtariConfig, DDPGConfig, DQNConfig, SACConfig, TD3Config
from apportion.presets import PRESETS, compile_if_it_pays, default_agent, defaults
from apportion.types import UserError

SAC = SACConfig(
    hidden=(256, 256), pi_lr=3e-4, q_lr=3e-4, polyak=0.995, alpha_init=1.0, alpha_lr=3e-4, train_target=1,
    critic_loss="mse", max_grad_norm=0.0,
)  # fmt: skip
TD3 = TD3Config(
    hidden=(256, 256), pi_lr=3e-4, q_lr=3e-4, polyak=0.995, std_act=0.1, pi_t_std=0.2, pi_t_clip=0.5, pi_delay_freq=2,
    train_target=2, critic_loss="mse", max_grad_norm=0.0,
)  # fmt: skip
DDPG = DDPGConfig(
    hidden=(400, 300), pi_lr=1e-4, q_lr=1e-3, polyak=0.999, std_act=0.1, q_reg=1e-2, train_target=2, critic_loss="mse",
    max_grad_norm=0.0,
)  # fmt: skip


@pytest.mark.parametrize(("basis_alg", "agent"), [("sac", SAC), ("td3", TD3), ("ddpg", DDPG)])
@pytest.mark.parametrize("alg", ["rrd", "rd", "uniform", "none"])
def test_continuous_control_has_the_released_settings(alg, basis_alg, agent):
    config = defaults(alg, basis_alg, "Ant-v5")
    assert config.agent == agent
    assert (config.steps, config.timesteps, config.train_batches, config.warmup) == (3_000_000, 100, 100, 10_000)
    assert (config.batch_size, config.buffer_size, config.gamma) == (256, 1_000_000, 0.99)
    assert (config.eval_every, config.test_rollouts) == (10_000, 10)
    assert config.obs_normalization == (basis_alg == "ddpg")
    assert config.env_type == ("normal" if alg == "none" else "ep_rews")


def test_the_reward_network_has_the_released_settings():
    reward = defaults("rrd", "sac", "Ant-v5").reward
    assert (reward.rrd_batch_size, reward.rrd_sample_size, reward.subsets_per_update) == (256, 64, 4)
    assert (reward.r_lr, reward.r_hidden, reward.target) == (3e-4, (256, 256), "mean")
    assert (reward.rrd_bias_correction, reward.rrd_ensemble, reward.reward_scale) == (False, 1, "none")


@pytest.mark.parametrize("basis_alg", ["sac", "td3", "ddpg"])
def test_ircr_has_a_smaller_buffer_a_larger_batch_and_slower_targets(basis_alg):
    config = defaults("ircr", basis_alg, "Ant-v5")
    assert (config.buffer_size, config.batch_size, config.agent.polyak) == (300_000, 512, 0.999)
    assert (config.agent.critic_loss, config.agent.max_grad_norm) == ("mse", 0.0)
    assert config.env_type == "ep_rews"


def test_official_ircr_takes_512_from_each_store_with_a_clipped_huber_critic():
    config = defaults("ircr", "sac", "Ant-v5", "official")
    assert (config.reward.ircr_variant, config.batch_size) == ("official", 1024)
    assert (config.agent.critic_loss, config.agent.max_grad_norm) == ("huber", 1.0)
    assert PRESETS["ircr-official-td3"].config("Ant-v5").agent.critic_loss == "huber"


@pytest.mark.parametrize("env", ["Humanoid", "Humanoid-v2", "Humanoid-v5"])
def test_ircr_on_humanoid_has_a_fixed_temperature(env):
    agent = defaults("ircr", "sac", env).agent
    assert (agent.alpha_init, agent.alpha_lr) == (0.1, 0.0)


@pytest.mark.parametrize(("alg", "env"), [("ircr", "HumanoidStandup-v2"), ("rrd", "Humanoid-v2")])
def test_elsewhere_the_temperature_is_learned(alg, env):
    agent = defaults(alg, "sac", env).agent
    assert (agent.alpha_init, agent.alpha_lr) == (1.0, 3e-4)


@pytest.mark.parametrize("alg", ["rrd", "ircr"])
def test_dqn_has_the_released_settings(alg):
    config = defaults(alg, "dqn", "CartPole-v1")
    assert config.agent == DQNConfig(
        hidden=(256, 256), q_lr=6.25e-5, adam_eps=1.5e-4, double=False, dueling=False, train_target=8000, eps_l=1.0,
        eps_r=0.01, eps_decay=250_000, critic_loss="huber", max_grad_norm=0.0,
    )  # fmt: skip
    assert (config.train_batches, config.timesteps, config.batch_size, config.warmup) == (25, 100, 32, 30_000)
    assert (config.reward.rrd_batch_size, config.reward.rrd_sample_size) == (32, 32)
    assert config.buffer_size == 1_000_000


@pytest.mark.parametrize("alg", ["rrd", "rd", "ircr", "uniform", "none"])
@pytest.mark.parametrize("env", ["Assault", "ALE/MsPacman-v5", "PongNoFrameskip-v4"])
def test_atari_has_the_released_settings(alg, env):
    config = defaults(alg, "dqn", env)
    assert config.agent == DQNConfig(
        hidden=(256, 256), optimizer="adam", q_lr=6.25e-5, adam_eps=1.5e-4, double=False, dueling=False,
        train_target=8000, eps_l=1.0, eps_r=0.01, eps_decay=250_000, test_eps=0.001, critic_loss="huber",
        max_grad_norm=0.0,
    )  # fmt: skip
    assert config.atari == AtariConfig(sticky=False, noop=30, frames=4)
    assert (config.train_batches, config.timesteps, config.batch_size, config.warmup) == (25, 100, 32, 30_000)
    # 10 epochs of 20 cycles of 500 iterations of 100 steps; 5 test episodes after each cycle
    assert (config.steps, config.eval_every, config.test_rollouts) == (10 * 20 * 500 * 100, 500 * 100, 5)
    assert (config.buffer_size, config.gamma, config.obs_normalization) == (1_000_000, 0.99, False)
    assert (config.reward.rrd_batch_size, config.reward.rrd_sample_size, config.reward.r_lr) == (32, 32, 3e-4)
    assert config.env_type == ("normal" if alg == "none" else "ep_rews")


def test_other_games_keep_the_settings_of_dqn():
    config = defaults("rrd", "dqn", "MinAtar/Breakout-v1")
    assert (config.steps, config.eval_every, config.test_rollouts) == (3_000_000, 10_000, 10)
    assert config.agent.test_eps == 0.0


@pytest.mark.parametrize(("env", "agent"), [("Assault", "dqn"), ("Ant-v5", "sac"), ("CartPole-v1", "sac"), ("", "sac")])
def test_atari_games_are_for_dqn_unless_said_otherwise(env, agent):
    assert default_agent(env) == agent


def test_quickstart_leaves_steps_out_of_reachers_short_episodes():
    config = PRESETS["quickstart"].config()
    assert (config.env, config.steps, config.warmup) == ("Reacher-v5", 15_000, 1_000)
    assert config.reward.rrd_sample_size < 50
    assert (config.timesteps, config.train_batches, config.eval_every) == (1, 1, 1_000)


@pytest.mark.parametrize(("alg", "basis_alg"), [("rdd", "sac"), ("rrd", "ppo")])
def test_an_unknown_method_or_agent_is_a_users_slip(alg, basis_alg):
    with pytest.raises(UserError, match="choose from"):
        defaults(alg, basis_alg, "Ant-v5")


@pytest.mark.parametrize(("compiler", "pays"), [("true", True), ("no-such-compiler", False)])
def test_a_long_run_is_compiled_where_there_is_a_compiler(compiler, pays, monkeypatch):
    monkeypatch.setenv("CXX", compiler)
    assert compile_if_it_pays(defaults("rrd", "sac", "Ant-v5")).compile is pays
    assert compile_if_it_pays(PRESETS["quickstart"].config()).compile is False  # 14,000 updates


def test_a_preset_without_an_environment_asks_for_one():
    with pytest.raises(UserError, match="--env"):
        PRESETS["rrd-sac"].config()
