"""The run directory: created once, held by one process, and honest about where it was made."""

import os
import signal
import subprocess
import sys

import pytest

from apportion.config import OnlineConfig, from_json, to_json
from apportion.run import checkpoint
from apportion.run.rundir import RunDir
from apportion.types import UserError

HOLDER = """
import sys, time
from apportion.run.rundir import RunDir
with RunDir.open(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""

FORKER = """
import os, sys
from apportion.run.rundir import RunDir
with RunDir.open(sys.argv[1]).lock():
    if os.fork() == 0:  # like the worker of a vector environment
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
    os.wait()
"""


def create(path):
    return RunDir.create(path, {"env": "Reacher-v5", "device": "cpu"}, ["apportion", "train"])


def test_a_new_run_says_what_made_it(tmp_path):
    run = create(tmp_path / "runs" / "one")
    info = run.info()
    assert info["command"] == ["apportion", "train"] and info["device"] == "cpu"
    assert set(info["versions"]) == {"python", "torch", "numpy", "gymnasium", "mujoco", "apportion"}
    assert info["versions"]["python"] == sys.version.split()[0] and info["cpu"] and info["started"]
    assert RunDir.open(run.path).config() == {"env": "Reacher-v5", "device": "cpu"}


def test_settings_come_back_from_disk(tmp_path):
    config = OnlineConfig(env="Reacher-v5", steps=77)
    run = RunDir.create(tmp_path / "x", to_json(config), [])
    assert from_json(OnlineConfig, run.config()) == config


def test_an_existing_run_is_never_written_over(tmp_path):
    run = create(tmp_path / "one")
    checkpoint.save(run.checkpoints, 5, {}, {}, keep=1)
    before = run.run_file.read_bytes()
    with pytest.raises(UserError, match=r"another --name .*apportion resume .*one"):
        create(tmp_path / "one")
    assert run.run_file.read_bytes() == before


def stopped_early(path):
    """What a slip that shows itself while training leaves."""
    run = create(path)
    run.metrics.write_text('{"step": 100}\n')
    run.evaluations.write_text("")
    for directory, file in (
        (run.checkpoints / "step_000000150.tmp", "agent.json"),
        (run.replay, "episodes_000000000_0123456789ab.safetensors.77-0123abcd.tmp"),
        (run.path, "run.json.77-0123abcd.tmp"),
        (run.credit, "step_000000100.safetensors"),
        (run.events, "events.out.tfevents.1.host.2.0"),
    ):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / file).write_text("")
    return run


def everything(path):
    return {p: p.read_bytes() if p.is_file() else None for p in path.rglob("*")}


def test_a_run_that_stopped_without_a_result_does_not_keep_its_name(tmp_path):
    old = stopped_early(tmp_path / "one")
    assert old.came_to_nothing()
    new = RunDir.create(tmp_path / "one", {"env": "Hopper-v5"}, ["apportion", "train", "--warmup", "2000"])
    assert sorted(p.name for p in new.path.iterdir()) == ["config.json", "lock", "run.json"]
    assert (new.config(), new.info()["command"][-1]) == ({"env": "Hopper-v5"}, "2000")


def add_file(name, text="x"):
    def change(run):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text(text)

    return change


@pytest.mark.parametrize(
    "change",
    [
        add_file("checkpoints/step_000000150/manifest.json"),
        add_file("checkpoints/step_000000150.old/manifest.json"),
        add_file("checkpoints/step_000000150/agent.json"),  # damaged, but not by us
        add_file("evaluations.jsonl", '{"step": 100, "returns": [1.0]}\n'),
        add_file("notes.txt"),
        add_file(".hidden"),
        add_file("credit/figure.png"),
        add_file("checkpoints/step_000000150.tmp/deep/agent.json"),
        add_file("run.json", "{"),
        add_file("run.json", '{"command": []}'),  # not ours
        lambda run: run.mark("finished", True),  # its checkpoints were removed to save room
        lambda run: run.mark("resume", "approximate"),
        lambda run: (run.path / "notes").mkdir(),
        lambda run: (run.path / "timing.jsonl").symlink_to(run.config_file),
        lambda run: run.run_file.unlink(),
    ],
)
def test_a_directory_with_a_result_or_with_anything_else_in_it_is_not_touched(tmp_path, change):
    run = stopped_early(tmp_path / "one")
    change(run)
    (run.path / "lock").write_text(f"{os.getpid()}\n")
    before = everything(run.path)
    assert not run.came_to_nothing()
    with pytest.raises(UserError, match="holds a run already"):
        create(run.path)
    assert everything(run.path) == before


def test_a_run_at_work_that_has_no_result_yet_is_not_touched(tmp_path):
    run = stopped_early(tmp_path / "one")
    with run.lock():
        before = everything(run.path)
        with pytest.raises(UserError, match="in use by process"):
            create(run.path)
        assert everything(run.path) == before


def test_a_place_that_cannot_be_written_is_one_line():
    with pytest.raises(UserError, match=r"/proc/nowhere/x cannot be made a run directory .* another --name"):
        create("/proc/nowhere/x")


def test_a_run_that_died_before_it_had_settings_can_be_created_again(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "run.json").write_text("{")
    assert create(tmp_path / "one").info()["device"] == "cpu"


def test_what_is_no_run_is_named_with_the_runs_inside(tmp_path):
    create(tmp_path / "many" / "seed_0")
    with pytest.raises(UserError, match=r"it has no config\.json; runs in it: seed_0"):
        RunDir.open(tmp_path / "many")
    with pytest.raises(UserError, match="it does not exist"):
        RunDir.open(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made a run directory"):
        create(tmp_path / "file")


def test_marks_are_added_to_the_rest(tmp_path):
    run = create(tmp_path / "one")
    run.mark("resume", "approximate")
    run.mark("finished", True)
    info = run.info()
    assert (info["resume"], info["finished"], info["device"]) == ("approximate", True, "cpu")
    assert not list(run.path.glob("*.tmp"))


def test_a_run_held_by_another_process_is_refused_until_that_is_killed(tmp_path):
    run = create(tmp_path / "one")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            with pytest.raises(UserError, match=f"in use by process {other.pid}:"), run.lock():
                pass
        finally:
            other.send_signal(signal.SIGKILL)
    with run.lock():  # no stale lock is left behind
        assert (run.path / "lock").read_text() == f"{os.getpid()}\n"
    with run.lock():
        pass


def test_a_forked_worker_that_outlives_a_killed_run_does_not_keep_the_lock(tmp_path):
    run = create(tmp_path / "one")
    with subprocess.Popen(
        [sys.executable, "-c", FORKER, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        worker = int(other.stdout.readline())
        other.send_signal(signal.SIGKILL)
        other.wait()
        os.kill(worker, 0)  # it lives
        with run.lock():
            pass
        other.stdin.close()  # now it ends


def test_a_read_of_a_broken_file_is_one_line(tmp_path):
    run = create(tmp_path / "one")
    run.run_file.write_text("{")
    with pytest.raises(UserError, match=r"run\.json cannot be read"):
        run.info()
