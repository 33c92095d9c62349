"""Workers here and in processes: the same answers, and every way to lose one is told."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from apportion.train import workers_remote
from apportion.train.workers import WorkerLost
from apportion.train.workers_remote import Remote
from apportion.train.workers_start import in_process, processes

BUILD = "workers_for_tests:build"
SILENCE = 2.5
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pool():
    """Two processes that the tests share; each puts right what it breaks."""
    workers = processes(BUILD, [{"n": 0}, {"n": 1}], threads=1, silence=SILENCE)
    yield workers
    workers.close()


@pytest.fixture
def two(pool):
    for i in range(pool.count):
        assert pool.outstanding(i) == 0
    return pool


@pytest.fixture(params=["here", "processes"])
def either(request):
    return request.getfixturevalue("two") if request.param == "processes" else in_process(BUILD, [{"n": 0}, {"n": 1}])


def pid(workers, i):
    workers.submit(i, {"do": "about"})
    return workers.receive_from(i, None)["pid"]


def gone(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{number}/stat").read_text().split(") ")[1][0] == "Z"


# -------------------------------------------------------------------- answers


def test_requests_are_answered_in_order_and_counted(either):
    x = np.float32([1.0, np.nan])
    for k in range(3):
        either.submit(1, {"k": k, "x": x})
        x[0] += 1  # what was submitted is what was sent
    assert (either.outstanding(0), either.outstanding(1)) == (0, 3)
    replies = [either.receive(None) for _ in range(3)]
    assert [(i, reply["request"]["k"], reply["request"]["x"][0]) for i, reply in replies] == [
        (1, 0, 1.0), (1, 1, 2.0), (1, 2, 3.0)
    ]  # fmt: skip
    assert replies[0][1]["spec"] == {"n": 1}
    assert either.outstanding(1) == 0
    assert either.receive(0.0) is None


def test_one_workers_reply_can_be_had_before_the_others(either):
    for i in (0, 1, 0):
        either.submit(i, {"of": i})
    assert either.receive_from(1, 60.0)["request"] == {"of": 1}
    assert [either.receive(None)[0] for _ in range(2)] == [0, 0]


def test_waiting_for_what_nobody_owes_is_refused(either):
    with pytest.raises(ValueError, match="nothing is outstanding"):
        either.receive(None)
    with pytest.raises(ValueError, match="nothing is outstanding at worker 1"):
        either.receive_from(1, None)


def test_a_failure_is_told_once_with_its_traceback_and_the_other_goes_on(either):
    either.submit(0, {"do": "echo"})
    either.submit(0, {"do": "fail", "of": "green cheese"})
    either.submit(0, {"do": "echo"})
    assert either.receive_from(0, None)["request"] == {"do": "echo"}  # what was answered before counts
    with pytest.raises(WorkerLost) as caught:
        either.receive(None)
    assert caught.value.i == 0 and caught.value.why.startswith("Traceback")
    assert "the moon is made of green cheese" in caught.value.why and "workers_for_tests.py" in caught.value.why
    assert either.outstanding(0) == 0
    either.submit(1, {"k": 1})
    assert either.receive(None)[0] == 1
    for ask in (lambda: either.submit(0, {}), lambda: either.receive_from(0, None)):
        with pytest.raises(WorkerLost, match="green cheese"):
            ask()
    either.restart(0, {"n": "new"})
    either.submit(0, {})
    assert either.receive(None)[1]["spec"] == {"n": "new"}
    either.restart(0, {"n": 0})


def test_a_worker_that_cannot_be_built_is_lost_with_its_traceback(either):
    either.restart(0, {"broken": True})
    either.submit(0, {})
    with pytest.raises(WorkerLost, match="no such world"):
        either.receive_from(0, None)
    either.restart(0, {"n": 0})


def test_a_restart_forgets_what_was_outstanding(either):
    for k in range(3):
        either.submit(0, {"k": k})
    either.submit(1, {"k": 9})
    either.restart(0, {"n": 0})
    assert (either.outstanding(0), either.outstanding(1)) == (0, 1)
    either.submit(0, {"k": 5})
    assert either.receive_from(0, None)["request"] == {"k": 5}
    assert either.receive(None)[1]["request"] == {"k": 9}


def test_processes_say_bit_for_bit_what_is_said_here(two):
    here = in_process(BUILD, [{"n": 0}])
    request = {"do": "echo", "x": np.random.default_rng(0).normal(size=(5, 4)), "tiny": np.float32([1e-40])}
    for workers in (here, two):
        workers.submit(0, request)
    ours, theirs = (workers.receive(None)[1]["request"] for workers in (here, two))
    assert all(ours[name].tobytes() == theirs[name].tobytes() == request[name].tobytes() for name in ("x", "tiny"))


# -------------------------------------------------------------------- processes


def test_a_process_has_its_threads_and_leaves_ctrl_c_to_its_owner(two):
    before = dict(os.environ)
    workers = processes(BUILD, [{}], threads=2, silence=60.0)
    assert dict(os.environ) == before
    workers.submit(0, {"do": "about"})
    about = workers.receive(None)[1]
    workers.close()
    assert (about["threads"], about["omp"], about["ignores_ctrl_c"]) == (2, "2", True)
    assert about["pid"] != os.getpid() and gone(about["pid"])
    workers.close()  # twice does no harm


def test_a_killed_process_is_told_with_its_signal_and_replaced(two):
    number = pid(two, 0)
    os.kill(number, signal.SIGKILL)
    two.submit(0, {})  # nobody knows yet
    with pytest.raises(WorkerLost, match="worker 0 was lost: its process was killed by SIGKILL"):
        two.receive(None)
    two.submit(1, {"k": 1})
    assert two.receive(None)[0] == 1
    two.restart(0, {"n": 0})
    assert pid(two, 0) not in (number, pid(two, 1))


def test_a_process_that_ends_is_told_with_its_exit_code_after_its_replies(two):
    two.submit(0, {"k": 1})
    two.submit(0, {"do": "leave"})
    assert two.receive(None)[1]["request"] == {"k": 1}
    with pytest.raises(WorkerLost, match="its process ended with exit code 7"):
        two.receive(None)
    two.restart(0, {"n": 0})


def test_a_stopped_process_is_lost_and_holds_nobody_up(two):
    number = pid(two, 0)
    os.kill(number, signal.SIGSTOP)
    two.submit(0, {"x": np.zeros(2_000_000)})  # more than any pipe holds
    with pytest.raises(WorkerLost, match=f"worker 0 was lost: no answer for {SILENCE} s"):
        two.receive(None)
    two.restart(0, {"n": 0})
    assert gone(number)
    assert pid(two, 0) != number


def test_a_process_that_waits_for_ever_is_lost_and_one_that_works_long_is_not(two):
    two.submit(0, {"do": "hang"})
    two.submit(1, {"do": "compute", "seconds": 2 * SILENCE})
    with pytest.raises(WorkerLost, match="worker 0 was lost: no answer"):
        two.receive_from(0, None)
    assert two.receive(None)[0] == 1
    two.restart(0, {"n": 0})


OWNER = """
import sys
from apportion.train.workers_start import processes

if __name__ == "__main__":
    workers = processes("workers_for_tests:build", [{}, {}], threads=1, silence=60.0)
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


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_no_process_outlives_its_owner(tmp_path, number):
    (tmp_path / "owner.py").write_text(OWNER)
    owner = subprocess.Popen(
        [sys.executable, str(tmp_path / "owner.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        start_new_session=True,
    )
    assert owner.stdout is not None
    children = [int(word) for word in owner.stdout.readline().split()]
    if number == signal.SIGINT:
        os.killpg(owner.pid, number)  # as the terminal does: to the children too
    else:
        owner.send_signal(number)
    out, err = owner.communicate(timeout=120)  # ends when nobody has the pipes any more: no child either
    assert len(children) == 2 and all(gone(child) for child in children)
    assert "Traceback" not in err
    assert (out, owner.returncode) == (("stopping\n", 0) if number == signal.SIGINT else ("", -number))


def test_ctrl_c_at_any_moment_of_waiting_is_a_keyboard_interrupt_and_leaves_nothing_locked():
    remote = Remote([{}], lambda spec, seat: NoLink(seat, deque()), silence=10.0)
    before = signal.signal(signal.SIGVTALRM, signal.default_int_handler)  # a clock that runs while Python does
    try:
        for delay in np.random.default_rng(0).uniform(1e-4, 5e-3, 100):
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_VIRTUAL, delay)
                while True:
                    remote.receive(1e-6)  # looks only
                    remote.receive(1e-3)  # and waits
            heard = threading.Thread(target=remote._seats[0].beat, args=[False, 0.0], daemon=True)
            heard.start()
            heard.join(10.0)
            assert not heard.is_alive(), "the lock was left locked"
    finally:
        signal.signal(signal.SIGVTALRM, before)


# -------------------------------------------------------------------- silence, by a clock of our own


class Clock:
    """`time` for workers_remote."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class NoLink:
    def __init__(self, seat, sent):
        self.seat, self.sent = seat, sent

    def send(self, data):
        self.sent.append((self.seat.number, data))

    def ask_to_end(self):
        pass

    def end(self, patience):
        pass


@pytest.fixture
def watched(monkeypatch):
    clock, sent = Clock(), deque()
    monkeypatch.setattr(workers_remote, "time", clock)
    remote = Remote([{}, {}], lambda spec, seat: NoLink(seat, sent), silence=10.0)
    for seat in remote._seats:
        seat.beat(False, 0.0)

    def look(seconds):
        for _ in range(round(seconds)):
            clock.now += 1.0
            assert remote.receive(0.0) is None

    return remote, clock, look


def test_silence_is_ten_seconds_without_a_beat(watched):
    remote, clock, look = watched
    look(9)
    remote._seats[0].beat(False, 0.0)
    clock.now += 1.0
    with pytest.raises(WorkerLost, match="worker 1 was lost: no answer for 10 s"):
        remote.receive(0.0)
    look(8)
    assert remote._seats[0].lost is None


def test_a_busy_workers_beats_count_only_if_it_has_worked(watched):
    remote, clock, look = watched
    for k in range(1, 40):
        look(1)
        remote._seats[0].beat(True, 0.001)  # it waits for something
        remote._seats[1].beat(True, 0.02 * k)  # slow, but at work
        if remote._seats[0].quiet >= 9.0:
            break
    clock.now += 1.0
    with pytest.raises(WorkerLost, match="worker 0"):
        remote.receive(0.0)


def test_an_owner_that_was_asleep_does_not_blame_its_workers(watched):
    remote, clock, look = watched
    look(5)
    clock.now += 10_000.0
    assert remote.receive(0.0) is None
    for seat in remote._seats:
        seat.beat(False, 0.0)
    look(9)


def test_a_worker_that_never_spoke_has_two_minutes_to_start(watched):
    remote, clock, look = watched
    remote.restart(0, {})
    remote._seats[1].beat(False, 0.0)
    for _ in range(119):
        look(1)
        remote._seats[1].beat(False, 0.0)
    clock.now += 1.0
    with pytest.raises(WorkerLost, match="worker 0 was lost: no answer for 120 s: it did not start"):
        remote.receive(0.0)
