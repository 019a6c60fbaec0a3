"""Shares of words: correlations over words of many prompts, and what both cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.errors import OptionError
from sfumato.models.loading import load
from sfumato.runs.task import Item, Record, find_task
from sfumato.tasks.word_shares import KINDS, WordSharesOptions, agreement, table, within

SHAPLEY = ("shapley (clip)", "shapley (latent)")
Words = list[dict[str, Any]]


def made_up(noise: float, prompts: int = 20) -> tuple[Words, dict[str, list[float]]]:
    """Nouns and colours keep their rank up to noise; other words have the opposite one."""
    chance = np.random.default_rng(0)
    words: Words = []
    for prompt in range(prompts):
        for kind in ("nouns", "colours", "others", "others"):
            worth = float(chance.random())
            told = (-worth if kind == "others" else worth) + noise * float(chance.random())
            about = {"caption": str(prompt), "item": prompt, "word": kind, "kind": kind}
            words.append(about | {"information": told, **dict.fromkeys(SHAPLEY, worth)})
    calls = {
        "shapley (clip)": [1600.0] * prompts,
        "shapley (latent)": [1600.0] * prompts,
        "information": [160.0] * prompts,
    }
    return words, calls


def test_agreement_is_that_of_the_words_of_a_kind() -> None:
    words, _ = made_up(0.0)
    for kind in ("nouns", "colours", "nouns and colours"):
        one = agreement(words, "information", kind)
        assert (one.mean, one.low, one.high) == pytest.approx((1, 1, 1)), kind
    assert [agreement(words, "information", kind).n for kind in KINDS] == [20, 20, 40, 80]
    assert agreement(words, "information", "all").mean < 0.5
    assert agreement(words, "shapley (latent)", "all").mean == pytest.approx(1)
    noisy = agreement(made_up(2.0)[0], "information", "nouns and colours")
    assert noisy.low < noisy.mean < noisy.high < 1
    assert agreement(made_up(2.0, 80)[0], "information", "nouns").n == 80


def test_words_without_a_share_and_kinds_without_a_word_are_left_out() -> None:
    words, _ = made_up(0.0, 3)
    words[0]["information"] = float("nan")
    assert agreement(words, "information", "nouns").n == 2
    assert agreement([one for one in words if one["kind"] == "others"], "information", "nouns").n == 0
    assert agreement(words[:1], "information", "nouns").n == 0


def test_within_a_prompt_only_its_own_words_are_ranked() -> None:
    """Shares that grow from prompt to prompt agree over all words, though within a prompt they run the other way."""
    words = []
    for prompt in range(10):
        for word in range(3):
            about = {"caption": str(prompt), "item": prompt, "word": str(word), "kind": "nouns"}
            words.append(about | {"information": 10.0 * prompt - word, **dict.fromkeys(SHAPLEY, 10.0 * prompt + word)})
    assert agreement(words, "information", "all").mean > 0.9
    assert within(words, "information").mean == pytest.approx(-1)


def test_rows_tell_the_cost_beside_shapleys() -> None:
    latent, row = table(*made_up(0.0))
    assert (latent["method"], row["method"]) == ("shapley (latent)", "information")
    assert (row["calls"], row["calls / Shapley's"]) == (160.0, 0.1)
    assert row["nouns"].mean == pytest.approx(1)


def test_the_table_is_that_of_the_records() -> None:
    words, calls = made_up(1.0, 6)
    for one in words:
        one["leave one out"] = one["shapley (clip)"]
    calls["leave one out"] = [320.0] * 6
    records = []
    for prompt in range(6):
        rows = [{name: v for name, v in one.items() if name != "item"} for one in words if one["item"] == prompt]
        request = sfumato.Request(str(prompt), steps=25)
        record = Record({"calls": {name: values[prompt] for name, values in calls.items()}}, rows=rows)
        records.append((Item(request, {"caption": str(prompt)}), record))
    found = find_task("word_shares").parts.conclude(records, WordSharesOptions(), {})
    assert found.rows == table(words, calls)
    assert found.about["steps"] == 25
    assert "leave one out 1.000 [1.000, 1.000] at 0.20 of the calls" in found.sentence


@pytest.mark.parametrize(("prompts", "samples"), [(0, 48), (5, 1), (True, 48)])
def test_numbers_that_are_too_small_are_refused(prompts: Any, samples: int, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="expected a whole number from [12] to 100000"):
        sfumato.run("word_shares", load("studio/scenes"), out=tmp_path / "run", prompts=prompts, samples=samples)


@pytest.mark.slow
def test_every_word_has_a_share_by_every_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    model: Any = load("studio/scenes")
    found = sfumato.run("word_shares", model, out=tmp_path / "run", prompts=3, samples=6, common={"steps": 4})
    assert found.finding["about"]["steps"] == 4
    items = found.items
    names = ["shapley (clip)", *(row["method"] for row in found.finding["rows"])]
    groups = items.groupby("caption")
    assert len(groups) == 3
    for _, rows in groups:
        for name in names:
            assert rows[name].abs().sum() == pytest.approx(1), name
        assert {"nouns", "colours"} <= set(rows["kind"])
    counts = np.array([len(rows) for _, rows in groups])
    calls = {row["method"]: row["calls"] for row in found.finding["rows"]}
    assert calls["shapley (latent)"] == round(float((2**counts * 4 * 2).mean()), 1)
    assert calls["leave one out"] == round(float(((counts + 2) * 4 * 2).mean()), 1)  # all, none, and without each
    assert names[1:4] == ["leave one out", "shapley (latent)", "information"]
