"""One thread owns a model: its queue, its progress, its end."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from sfumato.app.server.workers import MOST_OF_ONE, Busy, Job, Worker
from sfumato.errors import ModelError, RequestError

MODEL: Any = object()


def worker(**settings: Any) -> Worker:
    return Worker("a model", lambda: MODEL, threading.Lock(), **settings)


def finished(job: Job[Any]) -> Job[Any]:
    assert job.wait(20), job
    return job


def test_work_runs_in_the_thread_that_owns_the_model() -> None:
    one = worker()
    job = one.submit("me", lambda model, job: (model, threading.current_thread().name))
    assert finished(job).value == (MODEL, "model a model")
    assert job.state == "done"
    one.close()


def test_two_jobs_never_run_at_once_whatever_the_model() -> None:
    turns, running, most = threading.Lock(), [0], [0]

    def work(model: Any, job: Job[Any]) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.01)
        running[0] -= 1

    workers = [Worker(name, lambda: MODEL, turns) for name in ("one", "two")]
    for job in [one.submit("me", work) for _ in range(5) for one in workers]:
        finished(job)
    assert most == [1]
    for one in workers:
        one.close()


def test_jobs_run_in_the_order_in_which_they_were_asked_for() -> None:
    one, order = worker(), list[int]()
    jobs = [one.submit(str(number), lambda model, job, number=number: order.append(number)) for number in range(6)]
    for job in jobs:
        finished(job)
    assert order == list(range(6))
    one.close()


def held(one: Worker) -> tuple[Job[Any], threading.Event]:
    """A job that runs until it is let go, or stopped."""
    free, begun = threading.Event(), threading.Event()

    def work(model: Any, job: Job[Any]) -> str:
        begun.set()
        while not free.wait(0.01):
            job.progress("holding", 1, 10)
        return "let go"

    job = one.submit("holder", work)
    assert begun.wait(20)
    return job, free


def test_a_full_queue_says_so_and_takes_more_once_it_is_shorter() -> None:
    one = worker(most=2)
    job, free = held(one)
    waiting = [one.submit("me", lambda model, job: 1) for _ in range(2)]
    with pytest.raises(Busy, match="2 others are waiting for a model"):
        one.submit("me", lambda model, job: 1)
    assert [one.ahead(each) for each in waiting] == [1, 2]
    free.set()
    assert [finished(each).value for each in waiting] == [1, 1]
    assert finished(one.submit("me", lambda model, job: 2)).value == 2
    assert job.value == "let go"
    one.close()


def test_a_job_that_runs_is_stopped_at_its_next_sign_of_progress_and_one_that_waits_at_once() -> None:
    one = worker()
    running, _ = held(one)
    waiting = one.submit("me", lambda model, job: 1)
    other = one.submit("somebody else", lambda model, job: 2)
    one.stop("me", "cancelled")
    assert waiting.state == "stopped"
    assert waiting.error == "cancelled"
    one.stop("holder", "cancelled")
    assert finished(running).state == "stopped"
    assert finished(other).value == 2
    one.close()


def test_what_was_called_off_does_not_stand_in_the_way() -> None:
    one = worker(most=3)
    _, free = held(one)
    for _ in range(20):
        one.submit("me/tab", lambda model, job: 1).stop()
    last = one.submit("me/tab", lambda model, job: 2)
    assert one.ahead(last) == 1
    free.set()
    assert finished(last).value == 2
    one.close()


def test_one_visitor_cannot_take_all_places_whatever_the_tab() -> None:
    one = worker()
    _, free = held(one)
    mine = [one.submit(f"me/{number}", lambda model, job: 1) for number in range(MOST_OF_ONE)]
    with pytest.raises(Busy, match="6 pieces of your work wait for a model already; wait for one, or cancel it"):
        one.submit("me/another", lambda model, job: 1)
    other = one.submit("you/tab", lambda model, job: 2)
    free.set()
    assert finished(other).value == 2
    assert all(finished(job).value == 1 for job in mine)
    one.close()


def test_a_job_that_takes_too_long_is_stopped() -> None:
    one = worker(longest=0.1)
    job, _ = held(one)
    assert finished(job).state == "stopped"
    assert "longest allowed here" in job.error
    one.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RequestError("the prompt is empty;\n write one"), "the prompt is empty; write one"),
        (MemoryError(), "there is not enough memory for this; ask for a smaller image or for fewer of them"),
    ],
)
def test_an_error_is_one_line_and_the_next_job_works(error: Exception, said: str) -> None:
    one = worker()

    def fail(model: Any, job: Job[Any]) -> None:
        raise error

    job = finished(one.submit("me", fail))
    assert (job.state, job.error) == ("failed", said)
    assert finished(one.submit("me", lambda model, job: 3)).value == 3
    one.close()


def test_a_bug_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    one = worker()
    job = finished(one.submit("me", lambda model, job: 1 / 0))
    assert job.error == "ZeroDivisionError: division by zero (a bug in Sfumato; the server's log has the rest)"
    one.close()
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_model_that_cannot_be_loaded_says_why_at_every_request() -> None:
    def load() -> Any:
        raise ModelError("there is no folder here; name another")

    one = Worker("a model", load, threading.Lock())
    for _ in range(2):
        job = finished(one.submit("me", lambda model, job: 1))
        assert job.error == "a model could not be loaded: there is no folder here; name another"
    one.close()


def test_what_is_left_is_told_from_the_speed_so_far() -> None:
    job: Job[Any] = Job("me", lambda model, job: None)
    assert job.left is None
    job.state = "running"
    job.progress("steps", 0, 4)
    time.sleep(0.1)
    job.progress("steps", 1, 4)
    assert job.left is not None
    assert 0.25 < job.left < 3
    job.progress("other work", 1, 2)
    assert job.left is not None
    assert job.left < 0.1
