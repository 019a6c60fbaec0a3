"""Parts of a run that were measured apart make the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sfumato.errors import RunError, SfumatoError, StoreError
from sfumato.models.model import Model
from sfumato.runs.execute import Means, resume
from sfumato.runs.manifest import Counts
from sfumato.runs.merging import merge
from tests.runs.driving import PROMPTS, contents, counts, drive

ALL = ["a picture", "raise nothing", *PROMPTS]


@pytest.fixture
def parts(model: Model, tmp_path: Path) -> list[Path]:
    """Three parts of one run."""
    return [drive(model, tmp_path / f"part-{n}", ALL, means=Means(part=(n, 3)), shard_size=2) for n in (1, 2, 3)]


def test_the_parts_of_a_run_make_the_whole(model: Model, parts: list[Path], tmp_path: Path) -> None:
    assert [counts(one) for one in parts] == [
        Counts(ok=3, failed=1, open=8),
        Counts(ok=4, open=8),
        Counts(ok=4, open=8),
    ]
    before = [contents(one) for one in parts]
    merged = merge([parts[2], parts[0], parts[1]], tmp_path / "merged")
    assert contents(merged) == contents(drive(model, tmp_path / "whole", ALL, shard_size=2))
    assert counts(merged) == Counts(ok=11, failed=1)
    assert [contents(one) for one in parts] == before
    assert drive(model, merged, ALL, shard_size=2) == merged


@pytest.mark.parametrize("again", [resume, None], ids=["by its folder", "by its prompts"])
def test_a_merged_run_without_a_part_is_resumed(
    again: Callable[..., Path] | None, model: Model, parts: list[Path], tmp_path: Path, log: Path
) -> None:
    merged = merge([parts[0], parts[2]], tmp_path / "merged")
    assert counts(merged) == Counts(ok=7, failed=1, open=4)
    if again is None:
        drive(model, merged, ALL, shard_size=2)
    else:
        again(merged, model, Means())
    assert len(log.read_text().splitlines()) == 4
    assert contents(merged) == contents(drive(model, tmp_path / "whole", ALL, shard_size=2))


def test_what_cannot_be_merged_is_refused_and_leaves_nothing(model: Model, parts: list[Path], tmp_path: Path) -> None:
    other = drive(model, tmp_path / "other", ALL, means=Means(part=(2, 3)), shard_size=2, factor=2)
    fewer = drive(model, tmp_path / "fewer", ALL[:-1], means=Means(part=(2, 3)), shard_size=2)
    whole = drive(model, tmp_path / "whole", ALL, shard_size=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for folders, out, kind, said in (
        ([], "merged", RunError, "there is nothing to merge"),
        ([parts[0], other], "merged", RunError, "is a run of another plan than .* (options differ|.*options)"),
        ([parts[0], fewer], "merged", RunError, "is a run of another plan than"),
        ([parts[0], parts[0]], "merged", RunError, "two parts have measured the shard"),
        ([parts[0], whole], "merged", RunError, "two parts have measured the shard"),
        ([parts[0], tmp_path], "merged", RunError, "holds no run"),
        (parts, "full", StoreError, "is not empty"),
        (parts, "whole", StoreError, "is not empty"),
    ):
        before = contents(tmp_path)
        with pytest.raises(kind, match=said) as error:
            merge(folders, tmp_path / out)
        assert "\n" not in str(error.value)
        assert isinstance(error.value, SfumatoError)
        assert contents(tmp_path) == before
        assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("way", ["lost", "damaged"])
def test_a_part_with_a_bad_shard_is_named(way: str, model: Model, parts: list[Path], tmp_path: Path) -> None:
    shard = parts[1] / "shards" / "00001.npz"
    if way == "lost":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-9] + b"x" * 9)
    with pytest.raises(StoreError, match=r"00001\.npz") as error:
        merge(parts, tmp_path / "merged")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "merged").exists()
