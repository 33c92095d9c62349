"""`apportion fit`, and the LIBERO command line that it stands behind."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from apportion import legacy_libero
from apportion.cli import main
from apportion.config import FitConfig
from apportion.fit_cli import default_name, parse_fit
from apportion.presets import FIT_PRESETS
from apportion.rewards.model import RewardModel
from apportion.run.rundir import RunDir
from apportion.types import UserError
from demos_for_tests import demo, store

ROOT = Path(__file__).parents[2]
AS_WRITTEN = (
    "--env libero-10 --env_type normal --alg rrd --basis_alg sac --rrd_reward_only True --tag pretrain_RRD_Libero10 "
    "--libero_dataset_path DATA --libero_image_size 256 --cuda --epochs 10 --cycles 50 --iterations 100 "
    "--train_batches 50 --batch_size 32 --rrd_batch_size 32 --rrd_sample_size 32 --save_freq 2 "
    "--checkpoint_dir RUNS --save_final True"
)


def parse(line: str) -> FitConfig:
    return parse_fit(line.split()).config


def test_every_field_is_one_flat_flag():
    config = parse(
        "--data D --method rrd --return column:stage --form potential --gamma 0.9 --success-bonus 2 --no-failures "
        "--rewind --features proprio --proprio state,joint_state --image-size 84 --condition words --no-actions "
        "--target sum --rrd-batch-size 64 --rrd-sample-size 16 --rrd-bias-correction --r-lr 1e-3 --r-hidden 64 32 "
        "--weight-decay 0.1 --dropout 0.1 --steps 1e4 --val-share 0.1 --split task --patience 3 --device cuda:1"
    )
    assert (config.return_, config.form, config.gamma, config.success_bonus) == ("column:stage", "potential", 0.9, 2.0)
    assert (config.failures, config.rewind, config.proprio) == (False, True, ("state", "joint_state"))
    assert (config.actions, config.target, config.rrd_sample_size, config.rrd_bias_correction) == (
        False,
        "sum",
        16,
        True,
    )
    assert (config.r_hidden, config.steps, config.split, config.bf16) == ((64, 32), 10_000, "task", False)


def test_presets_change_the_defaults_and_flags_the_presets():
    config = parse("with-failures --data D --patience 3")
    assert (config.method, config.r_hidden, config.patience) == ("rd", (64, 64), 3)
    assert all(preset.config("D").data == "D" for preset in FIT_PRESETS.values())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "--data is missing"),
        ("--data D --metod rrd", "unknown flag --metod; did you mean --method?"),
        ("--data D --method rdd", "choose from rrd, rd, progress, success; did you mean"),
        ("libero-rd --data D", "did you mean libero-rrd?"),
        ("--data D --method success --rrd-sample-size 8", "--rrd-sample-size is a setting of rrd and rd"),
        ("--data D --batch-size 8", "--batch-size is a setting of progress and success"),
        ("--data D --rrd-batch-size 10 --rrd-sample-size 4", "must be a multiple"),
        (
            "--data D --method success --form raw --gamma 0.9",
            "--gamma is a setting of --form potential .* --form raw",
        ),
        ("--data D --form raw --success-bonus 2", "--success-bonus is a setting of --form potential"),
        ("--data D --method rd --gamma 1", "with --form raw, the default of rd: leave it out"),
    ],
)
def test_slips_end_in_one_line_that_helps(line, says):
    with pytest.raises(UserError, match=says.replace("?", r"\?")):
        parse(line)


def test_settings_of_the_potential_are_taken_with_it_and_at_their_defaults_anywhere():
    assert parse("--data D --method success --gamma 0.9 --success-bonus 2").gamma == 0.9
    assert parse("--data D --method rd --form potential --gamma 0.9").gamma == 0.9
    assert parse("--data D --form raw --gamma 0.99 --success-bonus 1").success_bonus == 1
    assert FitConfig("D", form="raw", gamma=0.9).gamma == 0.9  # runs of before stay readable


def test_runs_are_named_by_data_method_and_seed():
    assert default_name(FitConfig(data="/d/libero_10_no_noops/1.0.0/")) == "libero_10_no_noops-rrd-0"
    assert default_name(FitConfig(data="x/pick_demo.hdf5", method="success", seed=3)) == "pick_demo-success-3"


def test_help_lists_the_flags(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "--return" in said and "--return-" not in said and "--return_" not in said


def test_fit_from_the_command_line_and_its_resume(tmp_path, capsys):
    store(tmp_path / "s", [demo(i, 6, success=i % 2 > 0, frames=False) for i in range(10)])
    words = ["--data", str(tmp_path / "s"), "--runs-dir", str(tmp_path), "--name", "run", "--steps", "20"]
    assert main(["fit", "--method", "success", "--batch-size", "8", "--r-hidden", "8", *words]) == 0
    said = capsys.readouterr().out
    assert "8 episodes to learn from (4 successes), 2 held out; the network sees state" in said
    assert "20 gradient steps at about" in said
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert "already finished" in capsys.readouterr().err
    assert main(["fit", "--method", "success", *words]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "apportion audit" in capsys.readouterr().err  # there is no policy
    with pytest.raises(UserError, match=r"a model of apportion fit: .*DemoReward loads it"):
        RewardModel.load(tmp_path / "run")


def test_the_libero_command_is_understood_as_written(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    data = tmp_path / "libero_10"
    store(data, [demo(0, frames=False)])
    line = AS_WRITTEN.replace("DATA", str(data)).replace("RUNS", str(tmp_path / "log"))
    request = legacy_libero.parse(line.split())
    config = request.config
    assert (config.method, config.steps, config.rrd_batch_size, config.rrd_sample_size) == ("rrd", 2_500_000, 32, 32)
    assert config.save_freq == 2 * 50 * 100 * 50
    assert (config.device, config.image_size) == ("cpu", 128)
    assert request.run == tmp_path / "log" / "pretrain_RRD_Libero10"
    assert not config.skip_bad and legacy_libero.parse([*line.split(), "--skip_bad"]).config.skip_bad
    said = "\n".join(request.notes)
    assert "2,500,000 gradient steps = 10 epochs x 50 cycles x 100 iterations x 50 train batches" in said
    assert "--cuda: PyTorch finds no GPU here" in said
    assert "one subset of --rrd_sample_size 32" in said


def test_the_libero_command_runs(tmp_path):
    data = tmp_path / "libero_10"
    store(data, [demo(i, 40, frames=False) for i in range(6)])
    line = AS_WRITTEN.replace("DATA", str(data)).replace("RUNS", str(tmp_path / "log"))
    for flag, number in (("epochs", 3), ("cycles", 1), ("iterations", 2), ("train_batches", 5)):
        line = re.sub(rf"--{flag} \d+", f"--{flag} {number}", line)
    out = subprocess.run([sys.executable, ROOT / "scripts" / "train.py", *line.split()], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert "WARNING: all 5 episodes return 1" in out.stderr  # said loudly, and gone on
    run = RunDir(tmp_path / "log" / "pretrain_RRD_Libero10")
    assert run.info()["finished"] is True
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == ["step_000000020", "step_000000030"]


def test_another_env_is_an_environment(capsys):
    assert legacy_libero.main(["--env", "no-such-env-v0", "--epochs", "0"]) == 2
    assert "--epochs=0: at least 1" in capsys.readouterr().err
    assert legacy_libero.main(["--env", "libero-11"]) == 2
    assert "did you mean libero-10?" in capsys.readouterr().err


def test_differences_of_potentials_are_not_taken_in_bfloat16():
    with pytest.raises(UserError, match="--bf16 keeps 3 digits"):
        FitConfig("D", form="potential", bf16=True)
    assert FitConfig("D", method="success", bf16=True).is_potential  # its loss looks at phi, not at differences
