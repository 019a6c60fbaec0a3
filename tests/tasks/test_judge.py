"""The task of judging: the numbers of the checks of every explanation, and what they give together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.judging.checks import CheckResult, measured
from sfumato.judging.trust import trust
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.results.interval import Interval
from sfumato.runs.running import run
from sfumato.runs.task import Item, Record, find_task
from sfumato.tasks.judge import JudgeOptions, _row

PROMPTS = ("red cat, dog", "blue dog")
COMMON = {"seed": 2, "steps": 2, "guidance": 3.0, "height": 16, "width": 24}
FEW: dict[str, Any] = {"repeats": 1, "stages": 1, "points": 2, "measure": ("local_ssim",), "game": ("deletion",)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model(tiny_sd: Callable[..., StableDiffusionPipeline]) -> Model:
    return sfumato.wrap(tiny_sd())


def test_every_explanation_is_checked_as_by_the_library(model: Model, tmp_path: Path) -> None:
    done = run("judge", model, out=tmp_path / "run", prompts=PROMPTS, common=COMMON, batch=1, **FEW)
    assert done.counts.ok == 2
    items, finding = done.items, done.finding
    for number, prompt in enumerate(PROMPTS):
        made = sfumato.explain(model, Request(prompt, **COMMON | {"seed": 2 + number}))
        expected = trust(model, made, repeats=1, stages=1).measured
        own = items[(items["prompt"] == prompt) & (items["check"] != "games")]
        assert own["check"].tolist() == [one.check for one in expected]
        np.testing.assert_allclose(own["value"].astype(float), [one.value.mean for one in expected], atol=1e-4)
        np.testing.assert_allclose(own["difference"].astype(float), [one.gain.mean for one in expected], atol=1e-4)
        assert own["verdict"].tolist() == [one.verdict for one in expected]
    games = items[items["check"] == "games"]
    assert games["control"].tolist() == ["random", "centre"] * 2
    assert set(games["number"]) == {"area of words, deletion by local_ssim"}
    assert [row["check"] for row in finding["rows"]] == [
        "removal", "removal", "randomisation", "seeds", "seeds", "noise", "games", "games"
    ]  # fmt: skip
    for row in finding["rows"]:
        assert sum(row[f"{verdict} alone"] for verdict in ("passed", "failed", "inconclusive")) == 2
        assert row["verdict"] == "inconclusive"  # of two images
    assert finding["sentence"] == "Over 2 images, of 8 numbers 0 passed, 0 failed, 8 inconclusive."
    assert finding["verdict"] is None
    assert any("the score with the prompt" in line for line in finding["about"]["left_out"])  # there is no CLIP
    assert (tmp_path / "run" / "figure.png").exists()


def recorded(value: float, control: float, *, verdict_of: int = 8) -> Record:
    one = measured("removal", "agreement", [value] * verdict_of, "others", [control] * verdict_of, "above")
    return Record({"left_out": ["games: no map"], "notes": []}, rows=[_row(one)])


def test_means_are_those_over_images_and_each_says_its_own_verdict() -> None:
    records = [(Item(Request("a", seed=seed)), recorded(0.5 + seed / 10, 0.1)) for seed in range(5)]
    records.append((Item(Request("a", seed=5)), recorded(0.1, 0.6)))
    records.append((Item(Request("a", seed=6)), recorded(float("nan"), 0.6)))
    plain = [(item, Record(one.values, rows=[_finite(row) for row in one.rows])) for item, one in records]
    found = find_task("judge").parts.conclude(plain, JudgeOptions(), {"model": "made up"})
    (row,) = found.rows
    assert row["value"].mean == pytest.approx(np.mean([0.5, 0.6, 0.7, 0.8, 0.9, 0.1]))
    assert row["difference"].n == 6
    assert [row[f"{verdict} alone"] for verdict in ("passed", "failed", "inconclusive")] == [5, 1, 1]
    assert found.about["left_out"] == {"games: no map": 7}


def _finite(row: Any) -> dict[str, Any]:
    """A row as it comes back from the disk."""
    return {name: None if isinstance(cell, float) and np.isnan(cell) else cell for name, cell in row.items()}


def test_a_number_of_an_image_is_plain() -> None:
    same = Interval(0.5, 0.4, 0.6, 8)
    row = _row(CheckResult("seeds", "shares", same, "words", same, same, "below"))
    assert {type(cell) for cell in row.values()} <= {str, float, int}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"check": "magic"}, OptionError, "there is no check 'magic'; choose from: removal, randomisation, seeds"),
        ({"strength": 1}, OptionError, "strength is 1"),
        ({"method": "i2am"}, ModelError, "i2am needs reference"),
        ({"method": "daam", "option": "magic=1"}, OptionError, "daam has no option 'magic'"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing(
    model: Model, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run("judge", model, out=tmp_path / "run", prompts=PROMPTS, common=COMMON, **options)
    assert not (tmp_path / "run").exists()


def test_a_check_that_was_asked_for_and_does_not_fit_fails_its_item(model: Model, tmp_path: Path) -> None:
    done = run("judge", model, out=tmp_path / "run", prompts=["cat"], common=COMMON, method="profile", check="removal")
    assert done.counts.failed == 1
    assert "removal cannot be checked: the explanation has no maps" in done.items["reason"][0]
