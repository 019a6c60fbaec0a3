"""What the engine itself takes: time for each item, and memory that does not grow with their number."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sfumato.models.model import Model
from sfumato.runs.execute import Means, execute
from sfumato.runs.manifest import Counts, Manifest, Planning, create
from sfumato.runs.planning import planned
from sfumato.runs.prompts import rows_of
from sfumato.runs.settings import write_settings
from sfumato.runs.shards import Outcome
from tests.runs.driving import counts

MEGABYTE = 2**20


def driven(model: Model, out: Path, items: int, **means: Any) -> float:
    """Seconds of computing for each item of a run, whose prompts are drawn as they are read."""
    plan = planned("made-up", {}, lambda: rows_of(f"a cat number {number}" for number in range(items)))
    started = time.process_time()
    execute(plan, model, out, Means(**means))
    return (time.process_time() - started) / items


def peak(model: Model, out: Path, items: int) -> int:
    """Bytes that a run takes at most."""
    tracemalloc.start()
    try:
        driven(model, out, items)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_does_not_grow_with_the_number_of_items(model: Model, tmp_path: Path) -> None:
    peak(model, tmp_path / "first", 20)  # what is loaded once
    few, many = (peak(model, tmp_path / str(items), items) for items in (100, 1000))
    assert abs(many - few) < 2 * MEGABYTE


@pytest.mark.soak
def test_the_memory_does_not_grow_up_to_twenty_thousand_items(model: Model, tmp_path: Path) -> None:
    peak(model, tmp_path / "first", 20)
    few, many = (peak(model, tmp_path / str(items), items) for items in (2000, 20_000))
    assert abs(many - few) < 4 * MEGABYTE


@pytest.mark.slow
def test_an_item_costs_the_engine_five_milliseconds_at_most(model: Model, tmp_path: Path) -> None:
    driven(model, tmp_path / "first", 20)
    assert min(driven(model, tmp_path / str(turn), 1000) for turn in range(3)) < 0.005


@pytest.mark.slow
def test_noting_a_shard_takes_as_long_in_a_large_run_as_in_a_small_one(model: Model, tmp_path: Path) -> None:
    def noted(rows: int) -> float:
        folder = tmp_path / str(rows)
        folder.mkdir()
        create(folder, (Planning(n, {}, f"{n % (rows - 1)}", {"prompt": "a"}, {}) for n in range(rows)))
        write_settings(folder, settings | {"rows": rows})
        with Manifest(folder) as manifest:
            assert manifest.counts == Counts(open=rows)
            started = time.process_time()
            for start in range(0, 3200, 32):
                ended = [Outcome(n, str(n), "failed" if n % 2 else "ok") for n in range(start, start + 32)]
                manifest.note("", "", 0, 0.0, ended)
                assert manifest.counts.total == rows
            took = time.process_time() - started
            assert manifest.counts == Counts(ok=1601, failed=1600, open=rows - 3201)
        assert counts(folder) == Counts(ok=1601, failed=1600, open=rows - 3201)
        return took

    driven(model, tmp_path / "settings", 2)
    with Manifest(tmp_path / "settings") as manifest:
        settings = {name: value for name, value in manifest.settings.items() if name not in ("format", "version")}
    small, large = noted(5000), noted(300_000)
    assert large < 3 * small + 1
