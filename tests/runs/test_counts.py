"""The counts of a run, carried along from shard to shard, equal those that its manifest would count."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sfumato.runs.manifest import Counts, Manifest, Planning, create
from sfumato.runs.settings import NEEDED, write_settings
from sfumato.runs.shards import Outcome


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Fifty rows: every fifth is invalid, and some of the others share an item."""
    rows = (
        Planning(line, {}, reason="no number") if line % 5 == 0 else Planning(line, {}, f"key {line % 17}", {}, {})
        for line in range(50)
    )
    create(tmp_path, rows)
    write_settings(tmp_path, dict.fromkeys(NEEDED, "") | {"shard_size": 4, "rows": 50})
    return Manifest(tmp_path)


def test_counts_that_are_carried_along_are_those_that_would_be_counted(manifest: Manifest) -> None:
    draws = random.Random(0)
    items = list(manifest.waiting())
    with manifest:
        assert manifest.counts.total == 50
        for _ in range(30):  # with items that fail, are tried again, or are noted twice
            outcomes = [
                Outcome(one.number, one.key, draws.choice(("ok", "failed"))) for one in draws.sample(items, k=4)
            ]
            manifest.note("", "", 0, 0.0, outcomes)

            with Manifest(manifest.folder) as anew:
                assert manifest.counts == anew.counts
            assert manifest.counts.total == 50


def test_an_outcome_of_another_item_changes_nothing(manifest: Manifest) -> None:
    with manifest:
        manifest.note("", "", 0, 0.0, [Outcome(0, "key of another run", "ok"), Outcome(999, "key 1", "ok")])

        assert manifest.counts == Counts(invalid=10, open=40)
