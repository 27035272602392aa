"""Work over processes gives what one process gives, tells of its progress, and says what happened when one fails."""

import os
import signal
import time

import pytest

from phaselens.engines import forked_workers
from phaselens.engines.forked_workers import spread
from phaselens.errors import InputError, OutputError, StateError

pytestmark = pytest.mark.skipif(not forked_workers.can_spread(), reason="forking is for Linux")


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_results_stand_in_the_order_of_the_tasks(n):
    def slow_first(i, say):
        time.sleep(0.02 * (i == 0))
        return i * i

    assert spread(slow_first, 5, n) == [0, 1, 4, 9, 16]


def test_two_processes_share_the_work_and_neither_is_this_one():
    def who(i, say):
        time.sleep(0.02)
        return os.getpid()

    pids = spread(who, 6, 2)
    assert len(set(pids)) == 2 and os.getpid() not in pids
    assert set(spread(who, 3, 1)) == {os.getpid()}


@pytest.mark.parametrize("n", [1, 3])
def test_what_is_said_is_heard_here_in_order(n):
    heard: dict[int, list] = {0: [], 1: [], 2: []}

    def talk(i, say):
        for k in range(4):
            say(i, k)

    spread(talk, 3, n, lambda i, *said: heard[i].append(said))
    assert heard == {i: [(i, k) for k in range(4)] for i in range(3)}


def test_no_task_is_no_process():
    assert spread(lambda i, say: i, 0, 4) == []


@pytest.mark.parametrize("n", [1, 2])
def test_an_error_comes_through_with_its_kind(n):
    def fail(i, say):
        if i == 1:
            raise OutputError("the disk is full")
        return i

    with pytest.raises(OutputError, match="the disk is full"):
        spread(fail, 4, n)


def test_the_place_of_an_error_comes_with_it():
    def fail(i, say):
        raise KeyError("who")

    with pytest.raises(KeyError) as caught:
        spread(fail, 2, 2)
    assert any("in fail" in note for note in caught.value.__notes__)


def test_an_error_that_cannot_be_sent_is_told():
    class Local(Exception):
        pass

    def fail(i, say):
        raise Local("odd")

    with pytest.raises(StateError, match="Local: odd"):
        spread(fail, 2, 2)


def test_a_killed_process_is_an_error_that_says_what_to_do():
    def die(i, say):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(StateError, match="fewer --workers"):
        spread(die, 2, 2)


def test_processes_end_with_the_one_that_started_them(tmp_path):
    def wait(i, say):
        (tmp_path / str(i)).write_text(str(os.getpid()))
        time.sleep(60)

    pid = os.fork()
    if pid == 0:
        spread(wait, 2, 2)
        os._exit(0)
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("[01]"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pids = [int(f.read_text()) for f in tmp_path.glob("[01]")]
    assert len(pids) == 2
    while any(alive(p) for p in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(alive(p) for p in pids)


def alive(pid: int) -> bool:
    """Whether the process runs (one that is dead and not yet buried does not)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_fewer_than_one_worker_is_an_error():
    with pytest.raises(InputError, match="at least 1; got 0"):
        forked_workers.checked(0)


def test_another_system_is_an_error(monkeypatch):
    monkeypatch.setattr(forked_workers, "can_spread", lambda: False)
    assert forked_workers.checked(1) == 1 and forked_workers.spare_cores() == 1
    with pytest.raises(InputError, match="on Linux only"):
        forked_workers.checked(2)
