"""Workers on a real Ray cluster: a head on this machine and two actors, lost in every way and replaced."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apportion.train.workers import WorkerLost
from apportion.train.workers_start import in_process, on_ray
from workers_for_tests import ended

ray = pytest.importorskip("ray")
BUILD = "workers_for_tests:build"
SILENCE = 8.0  # long, for heartbeats over Ray on a machine that has much else to do
TESTS = Path(__file__).parents[1]


def pid(workers, i):
    workers.submit(i, {"do": "about"})
    return workers.receive_from(i, None)["pid"]


@pytest.fixture(scope="module")
def two():
    workers = on_ray("local", BUILD, [{"n": 0}, {"n": 1}], threads=1, silence=SILENCE)
    try:
        yield workers
        numbers = [pid(workers, i) for i in range(2)]
    finally:
        workers.close()
    assert all(ended(number) for number in numbers) and not ray.is_initialized()


@pytest.mark.long
def test_two_actors_answer_in_order_what_is_answered_here(two):
    here = in_process(BUILD, [{"n": 0}, {"n": 1}])
    for workers in (here, two):
        for i, k in ((0, 1), (1, 2), (0, 3), (1, 4)):
            workers.submit(i, {"k": k, "x": np.full((40_000, 2), [np.nan, k], np.float32)})
        assert (workers.outstanding(0), workers.outstanding(1)) == (2, 2)
    for i in (1, 0, 0, 1):
        ours, theirs = (workers.receive_from(i, None) for workers in (here, two))
        assert ours.keys() == theirs.keys() and ours["spec"] == theirs["spec"] == {"n": i}
        assert ours["request"]["k"] == theirs["request"]["k"]
        assert ours["request"]["x"].tobytes() == theirs["request"]["x"].tobytes()
    assert pid(two, 0) not in (os.getpid(), pid(two, 1))
    two.submit(0, {"do": "about"})
    assert two.receive(None)[1]["threads"] == 1
    with pytest.raises(ValueError, match="nothing is outstanding"):
        two.receive(None)


@pytest.mark.long
def test_a_failing_actor_is_told_with_its_traceback_and_replaced(two):
    two.submit(0, {"k": 1})
    two.submit(0, {"do": "fail", "of": "green cheese"})
    assert two.receive(None)[1]["request"] == {"k": 1}
    with pytest.raises(WorkerLost, match="the moon is made of green cheese") as caught:
        two.receive(None)
    assert caught.value.i == 0 and caught.value.why.startswith("Traceback")
    two.restart(0, {"broken": True})
    two.submit(0, {})
    with pytest.raises(WorkerLost, match="no such world"):
        two.receive(None)
    two.restart(0, {"n": "new"})
    two.submit(0, {})
    assert two.receive(None)[1]["spec"] == {"n": "new"}


@pytest.mark.long
def test_a_killed_actor_is_told_and_the_other_goes_on(two):
    number = pid(two, 0)
    os.kill(number, signal.SIGKILL)
    two.submit(0, {})
    with pytest.raises(WorkerLost, match=r"worker 0 was lost: its process died: .*worker process has died"):
        two.receive(None)
    two.submit(1, {"k": 1})
    assert two.receive(None)[0] == 1
    two.restart(0, {"n": 0})
    assert pid(two, 0) != number


@pytest.mark.long
def test_a_stopped_or_hanging_actor_is_lost_and_one_that_works_long_is_not(two):
    number = pid(two, 0)
    os.kill(number, signal.SIGSTOP)
    two.submit(0, {})
    two.submit(1, {"do": "compute", "seconds": 1.25 * SILENCE})
    with pytest.raises(WorkerLost, match=f"worker 0 was lost: no answer for {SILENCE:g} s"):
        two.receive(None)
    assert two.receive(None)[0] == 1
    two.restart(0, {"n": 0})
    assert ended(number)
    two.submit(0, {"do": "hang"})
    with pytest.raises(WorkerLost, match=f"worker 0 was lost: no answer for {SILENCE:g} s"):
        two.receive(None)
    two.restart(0, {"n": 0})


OWNER = """
from apportion.train.workers_start import on_ray

if __name__ == "__main__":
    workers = on_ray("local", "workers_for_tests:build", [{}, {}], threads=1, silence=60.0)
    try:
        for i in range(2):
            workers.submit(i, {"do": "about"})
        print(*(workers.receive_from(i, None)["pid"] for i in range(2)), flush=True)
        workers.submit(0, {"do": "compute", "seconds": 1000.0})
        workers.submit(1, {"do": "hang"})
        workers.receive(None)
    except KeyboardInterrupt:
        print("stopping", flush=True)
    finally:
        workers.close()
"""


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_cluster_of_our_own_ends_with_its_owner(tmp_path, number):
    (tmp_path / "owner.py").write_text(OWNER)
    owner = subprocess.Popen(
        [sys.executable, str(tmp_path / "owner.py")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        start_new_session=True,
    )
    assert owner.stdout is not None
    actors = [int(word) for word in owner.stdout.readline().split()]
    if number == signal.SIGINT:
        os.killpg(owner.pid, number)
    else:
        owner.send_signal(number)
    out = owner.communicate(timeout=120)[0]
    assert (out, owner.returncode) == (("stopping\n", 0) if number == signal.SIGINT else ("", -number))
    assert len(actors) == 2 and all(ended(actor) for actor in actors)
