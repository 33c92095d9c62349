"""The RRD repository's command lines, as its README writes them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from apportion.config import AtariConfig
from apportion.legacy import main, parse, save_rews
from apportion.presets import compile_if_it_pays, defaults
from apportion.types import UserError

README = [  # tag, the other flags, alg, agent, bias correction, name of the run
    ("RRD Ant-v2", "--alg=rrd --basis_alg=sac", "rrd", "sac", False, "RRD-Ant-v2"),
    ("RRD-L(RD) Ant-v2", "--alg=rrd --basis_alg=sac --rrd_bias_correction=True", "rrd", "sac", True, "RRD-L-RD-Ant-v2"),
    ("RRD-TD3 Ant-v2", "--alg=rrd --basis_alg=td3", "rrd", "td3", False, "RRD-TD3-Ant-v2"),
    ("RRD-DDPG Ant-v2", "--alg=rrd --basis_alg=ddpg", "rrd", "ddpg", False, "RRD-DDPG-Ant-v2"),
    ("IRCR-SAC Ant-v2", "--alg=ircr --basis_alg=sac", "ircr", "sac", False, "IRCR-SAC-Ant-v2"),
    ("IRCR-TD3 Ant-v2", "--alg=ircr --basis_alg=td3", "ircr", "td3", False, "IRCR-TD3-Ant-v2"),
    ("IRCR-DDPG Ant-v2", "--alg=ircr --basis_alg=ddpg", "ircr", "ddpg", False, "IRCR-DDPG-Ant-v2"),
    ("RRD-DQN Assault", "--alg=rrd --basis_alg=dqn", "rrd", "dqn", False, "RRD-DQN-Assault"),
    ("IRCR-DQN Assault", "--alg=ircr --basis_alg=dqn", "ircr", "dqn", False, "IRCR-DQN-Assault"),
]


def parse_line(line: str):
    return parse(line.split())


@pytest.mark.parametrize(("tag", "flags", "alg", "agent", "corrected", "name"), README)
def test_the_readmes_commands_run_with_the_released_settings(tag, flags, alg, agent, corrected, name):
    env = tag.split()[1]
    config, run, options = parse([f"--tag={tag}", *flags.split(), f"--env={env}"])
    wanted = compile_if_it_pays(defaults(alg, agent, env))
    assert config == replace(wanted, reward=replace(wanted.reward, rrd_bias_correction=corrected))
    assert config.env_type == "ep_rews"
    assert (run, str(options.runs_dir), options.save_rews) == (name, "runs", True)


def test_no_flags_at_all_is_rrd_with_sac_on_ant():
    config, run, _ = parse([])
    assert config == compile_if_it_pays(defaults("rrd", "sac", "Ant-v2"))
    assert run == "rrd-sac-Ant-v2"


def test_epochs_cycles_iterations_and_timesteps_multiply_to_the_steps():
    config, _, _ = parse(["--epochs=2", "--cycles=3", "--iterations=5", "--timesteps=7"])
    assert config.steps == 2 * 3 * 5 * 7
    assert config.eval_every == 5 * 7
    assert config.timesteps == 7


def test_every_flag_of_the_issue_reaches_its_setting():
    config, run, options = parse_line(
        "--tag=t --alg=rrd --basis_alg=sac --env=Hopper-v2 --env_type=normal --gamma=0.98 --test_rollouts=4 "
        "--test_timesteps=200 --save_rews=False --buffer_size=5000 --batch_size=64 --warmup=500 --train_batches=50 "
        "--train_target=3 --pi_lr=1e-3 --q_lr=2e-3 --polyak=0.99 --obs_normalization=True --alpha_lr=0 "
        "--alpha_init=0.2 --r_lr=1e-4 --rrd_batch_size=128 --rrd_sample_size=32 --rrd_bias_correction=False "
        "--save_freq=20000 --checkpoint_dir=kept --save_final=True --cuda=True --seed=7"
    )
    assert (config.env, config.env_type, config.gamma, config.seed) == ("Hopper-v2", "normal", 0.98, 7)
    assert (config.test_rollouts, config.test_timesteps, config.buffer_size) == (4, 200, 5000)
    assert (config.batch_size, config.warmup, config.train_batches, config.save_freq) == (64, 500, 50, 20_000)
    assert (config.obs_normalization, config.device) == (True, "cuda")
    agent, reward = config.agent, config.reward
    assert (agent.train_target, agent.pi_lr, agent.q_lr, agent.polyak) == (3, 1e-3, 2e-3, 0.99)
    assert (agent.alpha_lr, agent.alpha_init) == (0.0, 0.2)
    assert (reward.r_lr, reward.rrd_batch_size, reward.rrd_sample_size) == (1e-4, 128, 32)
    assert (run, str(options.runs_dir), options.save_rews) == ("t-seed-7", "kept", False)


def test_the_flags_of_the_other_agents_reach_theirs():
    td3 = parse_line("--basis_alg=td3 --std_act=.2 --pi_t_std=.3 --pi_t_clip=.6 --pi_delay_freq=3")[0].agent
    assert (td3.std_act, td3.pi_t_std, td3.pi_t_clip, td3.pi_delay_freq) == (0.2, 0.3, 0.6, 3)
    assert parse_line("--basis_alg=ddpg --q_reg=0 --std_act=.3")[0].agent.q_reg == 0.0
    flags = "--eps_l=.9 --eps_r=.1 --eps_decay=99 --double=True --dueling --Adam_eps=1e-8"
    dqn = parse_line(f"--basis_alg=dqn --env=CartPole-v1 {flags}")[0].agent
    assert (dqn.eps_l, dqn.eps_r, dqn.eps_decay) == (0.9, 0.1, 99)
    assert (dqn.double, dqn.dueling, dqn.adam_eps) == (True, True, 1e-8)


def test_the_flags_of_atari_reach_their_settings():
    config, run, _ = parse_line(
        "--env=Assault --sticky=True --noop=7 --frames=2 --test_eps=.05 --env_type=normal --rews_scale=1 --double "
        "--optimizer=rmsprop --RMSProp_decay=.95 --RMSProp_eps=1e-2 --epochs=2 --timesteps=50"
    )
    assert config.atari == AtariConfig(sticky=True, noop=7, frames=2)
    assert (config.basis_alg, config.env_type, config.steps) == ("dqn", "normal", 2 * 20 * 500 * 50)
    agent = config.agent
    assert (agent.test_eps, agent.double, agent.optimizer, agent.q_lr) == (0.05, True, "rmsprop", 2.5e-4)
    assert run == "rrd-dqn-Assault"
    assert parse_line("--env=Assault --optimizer=rmsprop --q_lr=1e-4")[0].agent.q_lr == 1e-4
    assert parse_line("--env=Assault --optimizer=adam --alg=dqn")[0].agent == defaults("none", "dqn", "Assault").agent


def test_the_bare_agent_was_called_a_method():
    config, _, _ = parse(["--alg=td3", "--env_type=normal"])
    assert (config.reward.alg, config.basis_alg, config.env_type) == ("none", "td3", "normal")
    assert parse(["--alg=sac"])[0].env_type == "ep_rews"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--frames=4", "--frames is a setting of Atari games, such as Assault, and Ant-v2 is none"),
        ("--test_eps=.1", "--test_eps is a setting of dqn, and the agent here is sac"),
        ("--env=Assault --frames=four", "invalid int value: 'four'"),
        ("--env=Assault --sticky=maybe", "neither True nor False"),
        ("--env=Assault --rews_scale=1", "--rews_scale=1: rewards are clipped in Atari games with --env_type=normal"),
        ("--env=Assault --env_type=normal --rews_scale=5", "--rews_scale=5: it is 1 here"),
        ("--env=Assault --optimizer=rmsprop --RMSProp_decay=.9", "--RMSProp_decay=0.9: it is 0.95 here"),
        ("--env=Assault --RMSProp_eps=.01", "is a setting of --optimizer=rmsprop, and the optimizer here is adam"),
        ("--env=Assault --optimizer=rmsprop --Adam_eps=1", "--Adam_eps is a setting of adam"),
        ("--epoch=3", "unknown flag --epoch; did you mean --epochs?"),
        ("--rrd-bias-correction=True", "did you mean --rrd_bias_correction?"),
        ("--save_rews=maybe", "neither True nor False"),
        ("--alg=sac --basis_alg=td3", "bare agent"),
        ("--epochs=0", "--epochs=0: at least 1"),
        ("--cuda=True --device=cpu", "contradict"),
        ("--basis_alg=td3 --alpha_lr=0", "--alpha_lr is a setting of sac, and the agent here is td3"),
        ("--alg=ircr --rrd_batch_size=64", "--rrd_batch_size is a setting of rrd and rd"),
        ("--Adam_eps=1e-4", "--Adam_eps is a setting of dqn"),
        ("--optimizer=rmsprop", "--optimizer is a setting of dqn, and the agent here is sac"),
        ("Ant-v2", "unexpected argument 'Ant-v2'"),
    ],
)
def test_a_slip_gets_one_line(line, words):
    with pytest.raises(UserError) as caught:
        parse_line(line)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_done_differently_is_said():
    assert "last checkpoint" in parse(["--save_final=False"])[2].notes[0]
    assert "counts env steps" in parse(["--save_freq=10"])[2].notes[0]


def test_cumulative_rewards_are_kept_as_the_old_plots_read_them(tmp_path):
    rows = [{"step": 100, "returns": [1.0, 3.0]}, {"step": 200, "returns": [5.0, 7.0]}]
    (tmp_path / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3')
    save_rews(tmp_path, "Ant-v2")
    info = np.load(tmp_path / "rews" / "Ant-v2.npz")["info"]  # loads only if there are no objects in it
    np.testing.assert_array_equal(info, [[100, 2.0], [200, 6.0]])


def test_a_mean_with_a_null_in_it_is_no_number(tmp_path):
    rows = [{"step": 100, "returns": [1.0, None]}, {"step": 200, "returns": [5.0, 7.0]}]
    (tmp_path / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_rews(tmp_path, "Ant-v2")
    np.testing.assert_array_equal(np.load(tmp_path / "rews" / "Ant-v2.npz")["info"], [[100, np.nan], [200, 6.0]])


def test_a_slip_is_told_before_any_run_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--env=Hoper-v2", "--save_final=False"]) == 2
    said = capsys.readouterr()
    assert not said.out and "Hopper" in said.err and said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("alg", ["rrd", "ircr"])
def test_the_readmes_atari_lines_play_and_learn(alg, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    short = "--epochs=1 --cycles=1 --iterations=13 --timesteps=100 --warmup=1200 --train_batches=2 --batch_size=4"
    short += " --buffer_size=27100 --test_rollouts=1 --test_timesteps=20"
    short += " --rrd_batch_size=4 --rrd_sample_size=4" if alg == "rrd" else ""
    tag = f"{alg.upper()}-DQN Assault"
    assert main([f"--tag={tag}", f"--alg={alg}", "--basis_alg=dqn", "--env=Assault", *short.split()]) == 0
    run = tmp_path / "runs" / tag.replace(" ", "-")
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert last["step"] == 1300 and last["agent/q_loss"] >= 0 and ("reward/R_loss" in last) == (alg == "rrd")
    assert np.load(run / "rews" / "Assault.npz")["info"].shape == (1, 2)
