"""One thread at a time on a model: who waits for whom, in which order, and what is never waited for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from sfumato.errors import ModelError
from sfumato.models import turns
from sfumato.models.turns import alone


def pipeline(*networks: nn.Module, scheduler: object = None) -> Any:
    """What has components, as a pipeline has."""
    parts = {str(number): network for number, network in enumerate(networks)}
    return SimpleNamespace(components=parts, scheduler=scheduler or object())


def begun(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def until_waiting(count: int) -> None:
    end = time.monotonic() + 20
    while len(turns._turns.waiting) != count:
        assert time.monotonic() < end
        time.sleep(0.001)


def taken(whole: Any) -> threading.Event:
    """Begin a thread that takes something; set once it had it."""
    had = threading.Event()

    def work() -> None:
        with alone(whole):
            had.set()

    begun(work)
    return had


@pytest.mark.parametrize("shared", ["pipeline", "network", "scheduler"])
def test_what_shares_a_part_waits_and_what_shares_none_does_not(shared: str) -> None:
    unet, scheduler = nn.Linear(1, 1), object()
    first = pipeline(unet, nn.Linear(1, 1), scheduler=scheduler)
    second = {
        "pipeline": first,
        "network": pipeline(nn.Linear(1, 1), unet),
        "scheduler": pipeline(nn.Linear(1, 1), scheduler=scheduler),
    }[shared]
    with alone(first):
        had = taken(second)
        until_waiting(1)
        assert taken(pipeline(nn.Linear(1, 1))).wait(20)
        assert not had.is_set()
    assert had.wait(20)
    assert turns._turns.held == turns._turns.waiting == []


def test_a_thread_enters_again_and_holds_until_it_has_left_as_often() -> None:
    one = pipeline(nn.Linear(1, 1))
    with alone(one):
        with alone(one), alone(one.components["0"]):
            had = taken(one)
            until_waiting(1)
        time.sleep(0.01)
        assert not had.is_set()
    assert had.wait(20)


def test_turns_are_taken_in_the_order_of_asking_also_by_who_asks_again_and_again() -> None:
    one, order = pipeline(nn.Linear(1, 1)), list[str]()

    def work(name: str, times: int) -> None:
        for _ in range(times):
            with alone(one):
                order.append(name)

    threads = []
    with alone(one):
        for count, name in enumerate("abc", start=1):
            threads.append(begun(lambda name=name: work(name, 3)))  # type: ignore[misc]
            until_waiting(count)
    for thread in threads:
        thread.join(20)
    assert order[:3] == ["a", "b", "c"]
    assert sorted(order) == sorted("abc" * 3)


def test_an_error_ends_a_turn() -> None:
    one = pipeline(nn.Linear(1, 1))
    with pytest.raises(ZeroDivisionError), alone(one):
        raise ZeroDivisionError
    assert taken(one).wait(20)
    assert turns._turns.held == turns._turns.waiting == []


def test_two_threads_that_would_wait_for_each_other_for_ever_are_an_error_in_one_and_the_other_goes_on() -> None:
    models = [pipeline(nn.Linear(1, 1)) for _ in range(3)]
    both, said, done = threading.Barrier(3), list[str](), list[int]()

    def work(number: int) -> None:
        try:
            with alone(models[number]):
                both.wait(20)
                with alone(models[(number + 1) % 3]):
                    done.append(number)
        except ModelError as error:
            said.append(str(error))

    threads = [begun(lambda number=number: work(number)) for number in range(3)]  # type: ignore[misc]
    for thread in threads:
        thread.join(20)
    assert len(said) == 1
    assert "after the other, not with one inside the other" in said[0]
    assert len(done) == 2
    assert turns._turns.held == turns._turns.waiting == []


def test_who_holds_a_model_does_not_queue_behind_who_waits_for_it() -> None:
    one, other = pipeline(nn.Linear(1, 1)), pipeline(nn.Linear(1, 1))
    both = pipeline(*one.components.values(), *(nn.Sequential(),), scheduler=other.scheduler)
    with alone(one):
        had = taken(both)
        until_waiting(1)
        with alone(other):  # is free, although a thread that waits for both came first
            assert not had.is_set()
    assert had.wait(20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_waits_for_no_thread_that_it_does_not_have() -> None:
    one, free, held = pipeline(nn.Linear(1, 1)), threading.Event(), threading.Event()

    def work() -> None:
        with alone(one):
            held.set()
            free.wait(20)

    thread = begun(work)
    assert held.wait(20)
    child = os.fork()
    if child == 0:
        try:
            with alone(one):
                os._exit(0)
        finally:
            os._exit(1)
    end = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, 9)
            ended = os.waitpid(child, 0)
            break
        time.sleep(0.01)
    free.set()
    thread.join(20)
    assert ended[1] == 0
