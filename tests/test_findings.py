"""Work that is done once for each request, however often it is asked for or cut off."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sfumato import findings
from sfumato.cache import Cache
from sfumato.findings import one_by_one, remembered
from sfumato.registry import find
from sfumato.request import Request

MODEL: Any = {"weights": "w"}


@pytest.fixture(autouse=True, scope="module")
def known_model() -> Any:
    """A model is what it says it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "identity", lambda model: model)
        yield


class Counting:
    """Work that notes what it was given, and fails on its call of a number."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.fails_at = fails_at

    def __call__(self, requests: Sequence[Request]) -> list[dict[str, NDArray[Any]]]:
        if len(self.batches) == self.fails_at:
            raise KeyboardInterrupt
        self.batches.append([request.seed for request in requests])
        return [{"seed": np.array(request.seed), "pixels": np.full((2, 3), request.seed)} for request in requests]

    @property
    def seeds(self) -> list[int]:
        return [seed for batch in self.batches for seed in batch]


def silent(done: int, total: int) -> None:
    pass


def ask(seeds: Sequence[int], work: Any, folder: Path | None, *, model: Any = MODEL, **more: Any) -> list[int]:
    """The seeds of the results, in order."""
    told = more.pop("told", silent)
    requests = [Request("a red circle", seed=seed, steps=2) for seed in seeds]
    found = remembered(model, more.pop("name", "counting"), requests, work, Cache(folder), told, **more)
    for one in found:
        np.testing.assert_array_equal(one["pixels"], np.full((2, 3), one["seed"]))
    return [int(one["seed"]) for one in found]


def test_each_result_is_made_once(tmp_path: Path) -> None:
    first, again = Counting(), Counting()
    assert ask([3, 1, 2], first, tmp_path) == [3, 1, 2]
    assert first.batches == [[3], [1], [2]]
    assert ask([2, 3, 1], again, tmp_path) == [2, 3, 1]
    assert again.batches == []


def test_work_is_done_in_batches_of_what_is_not_known(tmp_path: Path) -> None:
    ask([1, 4], Counting(), tmp_path)
    work = Counting()
    assert ask([0, 1, 2, 3, 4, 5, 6], work, tmp_path, batch=2) == [0, 1, 2, 3, 4, 5, 6]
    assert work.batches == [[0, 2], [3, 5], [6]]


def test_what_is_asked_for_twice_is_made_once_and_given_twice(tmp_path: Path) -> None:
    for batch in (1, 2, 8):
        work = Counting()
        assert ask([5, 5, 6, 5, 6], work, tmp_path / str(batch), batch=batch) == [5, 5, 6, 5, 6]
        assert sorted(work.seeds) == [5, 6]


def test_without_a_cache_it_works_too() -> None:
    work = Counting()
    assert ask([1, 2, 1], work, None, batch=2) == [1, 2, 1]
    assert work.seeds == [1, 2]
    assert ask([], work, None) == []


def test_a_finished_batch_survives_what_comes_after(tmp_path: Path) -> None:
    stopped, rest = Counting(fails_at=1), Counting()
    with pytest.raises(KeyboardInterrupt):
        ask(range(7), stopped, tmp_path, batch=3)
    assert stopped.batches == [[0, 1, 2]]
    assert ask(range(7), rest, tmp_path, batch=3) == list(range(7))
    assert rest.batches == [[3, 4, 5], [6]]


@given(
    st.lists(st.integers(0, 9), max_size=14),
    st.integers(1, 5),
    st.lists(st.integers(0, 3), max_size=4),
)
def test_however_often_it_is_cut_off_nothing_is_lost_or_made_twice(
    seeds: list[int], batch: int, failures: list[int]
) -> None:
    made: list[int] = []
    with tempfile.TemporaryDirectory() as place:
        for fails_at in (*failures, None):
            work = Counting(fails_at)
            try:
                assert ask(seeds, work, Path(place), batch=batch) == seeds
            except KeyboardInterrupt:
                assert fails_at is not None
            made += work.seeds
    assert sorted(made) == sorted(set(seeds))


def test_progress_grows_to_the_number_of_requests(tmp_path: Path) -> None:
    ask([2], Counting(), tmp_path)
    told: list[tuple[int, int]] = []
    ask(range(5), Counting(), tmp_path, batch=2, told=lambda done, total: told.append((done, total)))
    done = [one for one, _ in told]
    assert {total for _, total in told} == {5}
    assert done == sorted(done)
    assert done[-1] == 5


@pytest.mark.parametrize(
    "other", [{"model": {"weights": "v"}}, {"name": "another"}, {"options": {"layers": "up"}}, {"options": {}}]
)
def test_what_a_result_depends_on_is_in_its_key(other: dict[str, Any], tmp_path: Path) -> None:
    ask([1], Counting(), tmp_path)
    work = Counting()
    for _ in range(2):
        ask([1], work, tmp_path, **other)
    assert work.seeds == [1]


def test_work_that_loses_a_request_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        ask([1, 2], lambda requests: Counting()(requests[:1]), tmp_path, batch=2)


def test_work_on_single_requests_is_work_on_several(tmp_path: Path) -> None:
    single = one_by_one(lambda request: {"seed": np.array(request.seed), "pixels": np.full((2, 3), request.seed)})
    assert ask([4, 2], single, tmp_path, batch=8) == [4, 2]


def test_a_result_is_of_a_method_in_its_version(tmp_path: Path) -> None:
    daam = find("daam")
    made = []
    for methods in ([], [daam], [daam], [replace(daam, version=daam.version + 1)]):
        work = Counting()
        ask([1], work, tmp_path, methods=methods)
        made.append(len(work.batches))
    assert made == [1, 1, 0, 1]
