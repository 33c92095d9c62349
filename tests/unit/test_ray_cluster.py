"""Ray clusters that somebody else runs are joined and left; addresses where nobody answers are one line."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from apportion.run.metrics import read_lines
from apportion.run.rundir import RunDir
from apportion.train.workers_start import on_ray
from apportion.types import UserError
from workers_for_tests import ended

ray = pytest.importorskip("ray")
BUILD = "workers_for_tests:build"
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cluster():
    """A head that was started by somebody else: the environment with its token, its address and that for clients."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as door:
            ports.append(door.getsockname()[1])
    where = ["--node-ip-address=127.0.0.1", f"--port={ports[0]}", f"--ray-client-server-port={ports[1]}"]
    place = tempfile.TemporaryDirectory()  # not pytest's: sockets want a short path
    size = [f"--temp-dir={place.name}", "--num-cpus=2", "--object-store-memory=100000000", "--include-dashboard=false"]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    env = {**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(TESTS)}
    head = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *where, *size],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        start_new_session=True,
    )
    assert head.stdout is not None
    assert any("--block" in line for line in head.stdout)  # the last thing that it says
    yield env, f"127.0.0.1:{ports[0]}", f"ray://127.0.0.1:{ports[1]}"
    head.terminate()
    head.communicate(timeout=60)
    place.cleanup()


OWNER = """
import sys
from apportion.train.workers import WorkerLost
from apportion.run.metrics import read_lines
from apportion.run.rundir import RunDir
from apportion.train.workers_start import on_ray
from apportion.types import UserError

BUILD = "workers_for_tests:build"
if __name__ == "__main__":
    address = sys.argv[1]
    workers = on_ray(address, BUILD, [{"n": 0}, {"n": 1}], threads=1, silence=60.0)
    try:
        for i in range(2):
            workers.submit(i, {"do": "about"})
        print(*(workers.receive_from(i, None)["pid"] for i in range(2)))
        workers.submit(0, {"do": "fail", "of": "green cheese"})
        try:
            workers.receive(None)
        except WorkerLost as lost:
            print(lost.i, lost.why.splitlines()[-1])
        workers.restart(0, {"n": "new"})
        workers.submit(0, {})
        print(workers.receive(None)[1]["spec"])
        try:
            on_ray(address, BUILD, [{}, {}, {}], threads=1, silence=60.0)
        except UserError as error:
            print(error)
        workers.submit(1, {"k": 1})  # that slip took nothing away
        print(workers.receive(None)[1]["request"])
    finally:
        workers.close()
"""


@pytest.mark.long
@pytest.mark.parametrize("door", [1, 2])
def test_a_cluster_that_runs_already_is_joined_and_left_as_it_was(cluster, tmp_path, door):
    env, address = cluster[0], cluster[door]
    (tmp_path / "owner.py").write_text(OWNER)
    for _ in range(2):  # it is there for the second one too
        command = [sys.executable, str(tmp_path / "owner.py"), address]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        said = done.stdout.splitlines()
        assert said[1:] == [
            "0 ValueError: the moon is made of green cheese",
            "{'n': 'new'}",
            f"the Ray cluster {address} has 2 CPUs and 3 are wanted: take fewer workers",
            "{'k': 1}",
        ]
        assert all(ended(int(word)) for word in said[0].split())


TRAIN = (
    "power train trivial --horizon 6 --num-episodes 12 --steps-per-episode 20 --warmup-v-h-e-steps 40 "
    "--warmup-x-h-steps 40 --warmup-q-r-steps 40 --beta-r-rampup-steps 80 --epsilon-decay-steps 300 --num-envs 2 "
    "--batch-size 16 --hidden 16 16 --log-every 40 --check never --num-actors 2 --actor-steps 2"
)


@pytest.mark.long
@pytest.mark.parametrize("door", [1, 2])
def test_actors_on_a_cluster_do_in_lockstep_what_actors_here_do(cluster, tmp_path, door):
    env, address = cluster[0], cluster[door]
    elsewhere = ("--async", "--actors", address)
    for name, flags in {"here": (), "there": (*elsewhere, "--lockstep"), "free": elsewhere}.items():
        words = [*TRAIN.split(), "--runs-dir", str(tmp_path), "--name", name, *flags]
        command = [sys.executable, "-m", "apportion", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        assert RunDir(tmp_path / name).info()["finished"]
    here, there, free = (tmp_path / name / "metrics.jsonl" for name in ("here", "there", "free"))
    assert here.read_bytes() == there.read_bytes()
    at_home, ahead = (read_lines(path)[-1] for path in (here, free))
    assert ahead["step"] >= 240 and ahead["updates"] >= 0.8 * at_home["updates"] > 100, (at_home, ahead)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "cluster", "host:port", "localhost:99999999"])
def test_an_address_where_nobody_answers_is_one_line(address):
    with pytest.raises(UserError, match=rf"no Ray cluster at '{address}' \(.*ray start --head begins one") as caught:
        on_ray(address, BUILD, [{}], threads=1, silence=60.0)
    assert "\n" not in str(caught.value) and not ray.is_initialized()


def test_a_cluster_that_is_remembered_but_gone_is_one_line(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"no Ray cluster at '127.0.0.1:1' \(.*ray start --head begins one"):
        on_ray("auto", BUILD, [{}], threads=1, silence=60.0)


def test_without_ray_the_line_to_install_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'apportion\[cluster\]'"):
        on_ray("local", BUILD, [{}], threads=1, silence=60.0)
