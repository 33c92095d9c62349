"""`apportion train`'s command line: two stages, presets, near matches."""

import re

import pytest

from apportion.config import AtariConfig, DQNConfig, SACConfig, TD3Config
from apportion.flags import did_you_mean, parse_train, walk, with_seed
from apportion.presets import PRESETS
from apportion.types import UserError


def parse(line: str):
    return parse_train(line.split())


def test_method_agent_and_environment_choose_the_defaults_and_flags_change_them():
    config = parse("--env Hopper-v5 --alg rrd --basis-alg td3 --rrd-bias-correction --steps 1000").config
    assert isinstance(config.agent, TD3Config)
    assert (config.env, config.reward.alg, config.reward.rrd_bias_correction) == ("Hopper-v5", "rrd", True)
    assert (config.steps, config.warmup, config.train_batches) == (1000, 10_000, 100)


def test_every_field_is_one_flat_flag():
    config = parse(
        "--env X --target sum --rrd-batch-size 96 --rrd-sample-size 32 --rrd-ensemble 3 --r-lr 1e-4 --r-hidden 64 32 "
        "--reward-scale running --episode-sampling uniform --return-correction --hidden 32 --pi-lr 2e-4 --q-lr 5e-4 "
        "--polyak 0.9 --alpha-init 0.2 --alpha-lr 0 --gamma 0.95 --num-envs 4 --vector async --device cuda:1 --bf16"
    ).config
    reward, agent = config.reward, config.agent
    assert (reward.target, reward.rrd_batch_size, reward.rrd_sample_size, reward.rrd_ensemble) == ("sum", 96, 32, 3)
    assert (reward.r_lr, reward.r_hidden, reward.reward_scale) == (1e-4, (64, 32), "running")
    assert (reward.episode_sampling, reward.return_correction) == ("uniform", True)
    assert agent == SACConfig(hidden=(32,), pi_lr=2e-4, q_lr=5e-4, polyak=0.9, alpha_init=0.2, alpha_lr=0.0)
    assert (config.gamma, config.num_envs, config.vector) == (0.95, 4, "async")
    assert (config.device, config.bf16, config.compile) == ("cuda:1", True, False)


def test_an_atari_game_brings_its_agent_and_its_flags():
    config = parse("--env Assault").config
    assert (config.basis_alg, config.steps, config.atari) == ("dqn", 10_000_000, AtariConfig(False, 30, 4))
    line = "--env Assault --sticky --noop 3 --frames 2 --store memmap --double --dueling --test-eps .05 --adam-eps 1e-4"
    config = parse(line).config
    assert config.atari == AtariConfig(sticky=True, noop=3, frames=2)
    assert config.store == "memmap"
    agent = config.agent
    assert (agent.double, agent.dueling, agent.test_eps, agent.adam_eps) == (True, True, 0.05, 1e-4)
    assert not parse("--env ALE/Assault-v5 --sticky --no-sticky").config.atari.sticky


def test_rmsprop_has_the_papers_step_size_unless_one_is_given():
    agent = parse("--env Assault --optimizer rmsprop").config.agent
    assert (agent.optimizer, agent.q_lr) == ("rmsprop", 2.5e-4)
    assert parse("rrd-dqn --env CartPole-v1 --optimizer rmsprop --q-lr 1e-3").config.agent.q_lr == 1e-3
    assert parse("rrd-dqn --env CartPole-v1 --optimizer adam").config.agent.q_lr == 6.25e-5


@pytest.mark.parametrize(
    "line",
    [
        "--env X --rrd-bias-correction",
        "--env X --rrd_bias_correction",
        "--env X --rrd-bias-correction=True",
        "--env X --rrd_bias_correction true",
        "rrd-lrd-sac --env X",
        "rrd-lrd-sac --env=X --no-rrd-bias-correction --rrd-bias-correction",
    ],
)
def test_a_switch_may_be_written_in_the_ways_people_write_it(line):
    assert parse(line).config.reward.rrd_bias_correction


def test_a_switch_of_a_preset_can_be_turned_off():
    assert not parse("rrd-lrd-sac --env X --no-rrd-bias-correction").config.reward.rrd_bias_correction


def test_numbers_and_lists_may_be_written_in_short():
    config = parse("--env X --steps 1e6 --buffer-size 300_000 --hidden 64,32 --r-hidden=16,8").config
    assert (config.steps, config.buffer_size) == (1_000_000, 300_000)
    assert (config.agent.hidden, config.reward.r_hidden) == ((64, 32), (16, 8))


def test_a_preset_comes_first_and_flags_override_it():
    config = parse("quickstart --seed 3 --alg none --env-type ep_rews").config
    assert (config.env, config.steps, config.warmup, config.train_batches) == ("Reacher-v5", 15_000, 1_000, 1)
    assert (config.reward.alg, config.env_type, config.seed) == ("none", "ep_rews", 3)
    assert isinstance(parse("rrd-dqn --env CartPole-v1 --double").config.agent, DQNConfig)


def test_every_preset_makes_a_configuration():
    for name, preset in PRESETS.items():
        config = preset.config("Ant-v5")
        assert (config.reward.alg, config.basis_alg) == (preset.alg, preset.basis_alg), name
    assert len(PRESETS) == 1 + 8 * 4


def test_names_of_runs_tell_them_apart():
    assert parse("rrd-sac --env Ant-v5").name == "Ant-v5-rrd-sac-0"
    assert parse("rrd-lrd-td3 --env Ant-v5 --seed 2").name == "Ant-v5-rrd-lrd-td3-2"
    assert parse("dense-sac --env Ant-v5").name == "Ant-v5-none-sac-0"
    assert parse("episodic-sac --env Ant-v5").name == "Ant-v5-none-episodic-sac-0"
    assert parse("rrd-sac --env my.envs:Walker").name == "my.envs-Walker-rrd-sac-0"
    assert parse("rrd-sac --env Ant-v5 --name mine").name == "mine"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--env X --polyek .9", "unknown flag --polyek; did you mean --polyak?"),
        ("--env X --rrd_bias_corection=True", "did you mean --rrd-bias-correction?"),
        ("--env X --alg rdd", "--alg rdd: choose from rrd, rd, ircr, uniform, none, model; did you mean rd?"),
        ("--env X --basis-alg sca", "--basis-alg sca: choose from sac, td3, ddpg, dqn"),
        ("--env X --target men", "choose from mean, sum; did you mean mean?"),
        ("rrd-scc --env X", "no preset named 'rrd-scc'; did you mean rrd-sac?"),
        ("--alg rrd", "--env is missing"),
        ("--env", "--env needs a value"),
        ("--env X --steps --gamma 0.9", "--steps needs a value"),
        ("--env X --steps many", "--steps many: a whole number is wanted"),
        ("--env X --steps 1.5", "--steps 1.5: a whole number is wanted"),
        ("--env X --hidden 64 wide", "--hidden wide: a whole number is wanted"),
        ("--env X --gamma big", "--gamma big: a number is wanted"),
        ("--env X --gamma 2", "--gamma 2.0: it must lie in [0, 1]"),
        ("--env X rrd-sac", "unexpected argument 'rrd-sac': only the first word stands alone"),
        ("--env X --bf16=perhaps", "it is a switch"),
        ("--env X --rrd-batch-size 100", "must be a multiple of --rrd-sample-size 64"),
        ("--env X --std-act 0.2", "--std-act is a setting of td3 and ddpg, and the agent here is sac"),
        ("--env X --alg none --r-lr 1", "--r-lr is a setting of rrd and rd"),
        ("--env X --alg uniform --return-correction", "--return-correction is a setting of rrd and rd"),
        ("--env X --alg ircr --episode-sampling uniform", "--episode-sampling is a setting of rrd and rd"),
        ("--env X --alg rd --rrd-bias-correction", "--rrd-bias-correction is a setting of rrd"),
        ("--env X --frames 2", "--frames is a setting of Atari games, such as Assault, and X is none"),
        ("--env CartPole-v1 --basis-alg dqn --no-sticky", "--sticky is a setting of Atari games"),
        ("--env Assault --frames 0", "--frames 0: it must be at least 1"),
        ("--env Assault --noop -1", "--noop -1: it must be at least 0"),
        ("--env Assault --noop many", "--noop many: a whole number is wanted"),
        ("--env Assault --store disk", "--store disk: choose from memory, memmap"),
        ("--env Assault --optimizer adma", "--optimizer adma: choose from adam, rmsprop; did you mean adam?"),
        ("--env Assault --optimizer rmsprop --adam-eps 1e-4", "--adam-eps is a setting of adam"),
        ("--env Assault --test-eps 2", "--test-eps 2.0: it must lie in [0, 1]"),
        ("--env X --double", "--double is a setting of dqn, and the agent here is sac"),
        ("--env X --atari 3", "unknown flag --atari"),
        ("--env X --ircr-variant official", "--ircr-variant is a setting of ircr"),
        ("--env X --seeds 0,1,1", "--seeds 0,1,1: give different whole numbers"),
        ("--env X --seeds 0-3", "--seeds 0-3: give different whole numbers"),
    ],
)
def test_a_slip_gets_one_line_that_says_what_to_do(line, words):
    with pytest.raises(UserError) as caught:
        _ = parse(line).options.seed_list
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_near_means_no_suggestion():
    assert did_you_mean("--zzzzz", ["--env", "--alg"]) == ""


def test_one_seed_of_several_is_an_ordinary_run_with_the_same_settings():
    request = parse("rrd-lrd-sac --env=Ant-v5 --steps 1e4 --no-bf16 --hidden 64,64 --seeds 3,4 --jobs 2 --seed 9")
    line = with_seed(request, 4)
    again = parse_train(line)
    assert again.name == "Ant-v5-rrd-lrd-sac/seed_4"
    assert again.config.seed == 4
    assert not again.options.seeds
    assert (again.config.steps, again.config.agent.hidden) == (10_000, (64, 64))
    assert again.config.reward.rrd_bias_correction


def test_the_last_mention_of_a_flag_counts():
    assert walk(["--steps", "1", "--steps", "2"], {"steps": int}, "apportion train") == {"steps": ["2"]}


def test_help_lists_the_chosen_agents_flags_with_their_meaning(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("rrd-td3 --help")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--pi-delay-freq INT" in text and "--alpha-lr" not in text
    assert re.search(r"K, steps per subset[^()]*\(default: 64\)", text)
