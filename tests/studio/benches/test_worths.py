"""The bench of worths: correlations over words of many prompts, and what both cost."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.errors import OptionError
from sfumato.studio.benches.worths import KINDS, WorthBench, bench_worths

SHAPLEY = ("shapley (clip)", "shapley (latent)")


def made_up(noise: float, prompts: int = 20) -> WorthBench:
    """Nouns and colours keep their rank up to noise; other words have the opposite one."""
    chance = np.random.default_rng(0)
    items: list[dict[str, Any]] = []
    for prompt in range(prompts):
        for kind in ("nouns", "colours", "others", "others"):
            worth = float(chance.random())
            told = (-worth if kind == "others" else worth) + noise * float(chance.random())
            about = {"prompt": str(prompt), "word": kind, "kind": kind}
            items.append(about | {"information": told, **dict.fromkeys(SHAPLEY, worth)})
    calls = {
        "shapley (clip)": [1600.0] * prompts,
        "shapley (latent)": [1600.0] * prompts,
        "information": [160.0] * prompts,
    }
    return WorthBench("made up", prompts, 25, items, calls)


def test_agreement_is_that_of_the_words_of_a_kind() -> None:
    bench = made_up(0.0)
    for kind in ("nouns", "colours", "nouns and colours"):
        one = bench.agreement("information", kind)
        assert (one.mean, one.low, one.high) == pytest.approx((1, 1, 1)), kind
    assert [bench.agreement("information", kind).n for kind in KINDS] == [20, 20, 40, 80]
    assert bench.agreement("information", "all").mean < 0.5
    assert bench.agreement("shapley (latent)", "all").mean == pytest.approx(1)
    noisy = made_up(2.0).agreement("information", "nouns and colours")
    assert noisy.low < noisy.mean < noisy.high < 1
    assert made_up(2.0, 80).agreement("information", "nouns").n == 80


def test_within_a_prompt_only_its_own_words_are_ranked() -> None:
    """Shares that grow from prompt to prompt agree over all words, though within a prompt they run the other way."""
    items = []
    for prompt in range(10):
        for word in range(3):
            about = {"prompt": str(prompt), "word": str(word), "kind": "nouns"}
            items.append(about | {"information": 10.0 * prompt - word, **dict.fromkeys(SHAPLEY, 10.0 * prompt + word)})
    bench = WorthBench("made up", 10, 25, items, {"shapley (clip)": [1.0], "information": [1.0]})
    assert bench.agreement("information", "all").mean > 0.9
    assert bench.within("information").mean == pytest.approx(-1)


def test_rows_tell_the_cost_beside_shapleys() -> None:
    latent, row = made_up(0.0).rows()
    assert (latent["method"], row["method"]) == ("shapley (latent)", "information")
    assert (row["calls"], row["calls / Shapley's"]) == (160.0, 0.1)
    assert row["nouns"].mean == pytest.approx(1)


@pytest.mark.parametrize(("prompts", "samples"), [(1, 48), (5, 1), (True, 48)])
def test_numbers_that_are_too_small_are_refused(prompts: Any, samples: int) -> None:
    with pytest.raises(OptionError, match="expected a whole number from 2 to 100000"):
        bench_worths(sfumato.load("studio/scenes"), prompts, samples=samples)


@pytest.mark.slow
def test_every_word_has_a_share_by_every_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    bench = bench_worths(sfumato.load("studio/scenes"), 3, samples=6, steps=4)
    assert bench.steps == 4
    told = json.loads(bench.to_json())
    prompts = {item["prompt"] for item in bench.items}
    assert len(prompts) == bench.prompts == 3
    for prompt in prompts:
        rows = [item for item in bench.items if item["prompt"] == prompt]
        for name in bench.calls:
            assert sum(abs(row[name]) for row in rows) == pytest.approx(1), name
        assert {"nouns", "colours"} <= {row["kind"] for row in rows}
    counts = list(Counter(item["prompt"] for item in bench.items).values())
    assert list(bench.calls["shapley (clip)"]) == [2**count * 4 * 2 for count in counts]
    assert list(bench.calls["leave one out"]) == [
        (count + 2) * 4 * 2 for count in counts
    ]  # all, none, and without each
    assert [row["method"] for row in told["rows"]][:3] == ["leave one out", "shapley (latent)", "information"]
