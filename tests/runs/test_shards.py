"""What a shard holds, and what becomes of damaged ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sfumato.errors import StoreError
from sfumato.models.model import Model
from sfumato.runs.execute import Means, resume
from sfumato.runs.manifest import Counts, Planned
from sfumato.runs.opened import open_run
from sfumato.runs.shards import Outcome, read_shard, write_shard
from sfumato.runs.task import Record
from sfumato.runs.worker import shards_of
from tests.runs.driving import PROMPTS, contents, counts, drive, measured

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
ARRAYS = st.dictionaries(NAMES, arrays.arrays(st.sampled_from([np.float32, np.int64, np.bool_, np.uint8]), (2, 3)))
PLAIN = st.dictionaries(NAMES, st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | NAMES)


@settings(max_examples=30)
@given(arrays=ARRAYS, maps=ARRAYS, values=PLAIN, rows=st.lists(PLAIN, max_size=3))
def test_a_record_comes_back_as_it_was(
    arrays: dict[str, np.ndarray],
    maps: dict[str, np.ndarray],
    values: dict[str, object],
    rows: list[dict[str, object]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    finite = {name: value for name, value in values.items() if value not in (float("inf"), float("-inf"))}
    plain = [{name: value for name, value in row.items() if value not in (float("inf"), -float("inf"))} for row in rows]
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    given = [
        Outcome(4, "a", "ok", record=Record(finite, arrays, plain, maps, picture)),
        Outcome(5, "b", "failed", "ValueError: no"),
    ]
    path = tmp_path_factory.mktemp("shards") / "00000.npz"
    write_shard(path, given)
    content = path.read_bytes()
    one, other = read_shard(path)
    assert (other.state, other.reason) == ("failed", "ValueError: no")
    assert (one.record.values, one.record.rows) == (finite, plain)
    assert one.record.picture is not None
    np.testing.assert_array_equal(one.record.picture, picture)
    for found, wanted in ((one.record.arrays, arrays), (one.record.maps, maps)):
        assert found.keys() == wanted.keys()
        for name in wanted:
            assert found[name].dtype == wanted[name].dtype
            np.testing.assert_array_equal(found[name], wanted[name])
    write_shard(path, read_shard(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize("place", ["index", "middle", "end"])
def test_a_flipped_bit_is_noticed_and_the_shard_is_measured_again(
    place: str, model: Model, whole: Path, tmp_path: Path, log: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    shard = copy / "shards" / "00001.npz"
    content = bytearray(shard.read_bytes())
    content[{"index": 60, "middle": len(content) // 2, "end": len(content) - 30}[place]] ^= 4
    shard.write_bytes(content)
    with pytest.raises(StoreError, match=r"00001\.npz cannot be read.*resume the run to measure the 4 items") as error:
        drive(model, copy)
    assert "\n" not in str(error.value)
    assert counts(copy) == Counts(ok=6, open=4)
    resume(copy, model, Means())
    assert len(measured(log)) == 4
    assert contents(copy) == contents(whole)


@pytest.mark.parametrize("way", ["lost", "short", "empty", "all lost"])
def test_a_shard_that_is_lost_or_of_another_size_is_measured_again(
    way: str, model: Model, whole: Path, tmp_path: Path, log: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    shard = copy / "shards" / "00001.npz"
    if way == "lost":
        shard.unlink()
    elif way == "all lost":
        shutil.rmtree(copy / "shards")
    else:
        shard.write_bytes(shard.read_bytes()[:-1] if way == "short" else b"")
    assert len(open_run(copy).items) == len(open_run(whole).items)
    drive(model, copy)
    assert len(measured(log)) == (10 if way == "all lost" else 4)
    assert contents(copy) == contents(whole)


def test_the_shard_of_another_run_is_not_taken_over(model: Model, whole: Path, tmp_path: Path, log: Path) -> None:
    class Killed(BaseException):
        pass

    def stop(status: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        drive(model, tmp_path / "run", factor=2, means=Means(report=stop))
    shutil.copytree(whole / "shards", tmp_path / "run" / "shards")
    out = drive(model, tmp_path / "run", factor=2)
    assert len(measured(log)) == 10
    assert contents(out) == contents(drive(model, tmp_path / "fresh", factor=2))


def test_a_whole_shard_that_no_row_tells_of_is_taken_over(model: Model, whole: Path, tmp_path: Path, log: Path) -> None:
    class Killed(BaseException):
        pass

    def stop(status: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        drive(model, tmp_path / "run", means=Means(report=stop))
    (tmp_path / "run" / "shards").mkdir()
    shutil.copy(whole / "shards" / "00001.npz", tmp_path / "run" / "shards")
    out = drive(model, tmp_path / "run")
    assert [line.partition("|")[0] for line in measured(log)] == PROMPTS[:4] + PROMPTS[8:]
    assert contents(out) == contents(whole)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), unique_by=lambda one: one[0]), st.integers(1, 7))
def test_no_two_parts_of_work_have_one_file(given: list[tuple[int, int]], size: int) -> None:
    items = [Planned(number, str(number), {}, {}, attempts) for number, attempts in sorted(given)]
    works = list(shards_of(items, size))
    assert len({(one.shard, one.attempt) for one in works}) == len(works)
    assert sorted(item.number for one in works for item in one.items) == [item.number for item in items]
    for one in works:
        assert {(item.number // size, item.attempts) for item in one.items} == {(one.shard, one.attempt)}
