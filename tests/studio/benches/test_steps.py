"""The bench of step saliency: who takes part, what is counted, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.errors import OptionError
from sfumato.methods.df_rise import CHOICES
from sfumato.studio.benches import steps as bench
from sfumato.studio.benches.steps import COMPARED, StepsBench, bench_steps, contenders

MASKS = 8


@pytest.fixture(autouse=True)
def few_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bench, "POINTS", 3)


def played(found: StepsBench) -> set[str]:
    return {one.map for one in found.verdict.played}


@pytest.mark.soak
def test_every_method_and_control_plays_both_games_at_three_steps() -> None:
    found = bench_steps(sfumato.load("studio/scenes"), 1, masks=MASKS)
    assert found.steps == (6, 12, 18)
    names = {"df_rise", "df_rise (grid)", "df_cam", "lime", "gradient", "integrated_gradients", "attention"}
    assert played(found) == names | {"random", "centre"}
    assert {one.step for one in found.verdict.played} == set(found.steps)
    assert {one.curve.game for one in found.verdict.played} == {"deletion", "insertion"}
    assert all(len(one.curve.values) == 4 and np.isfinite(one.curve.values).all() for one in found.verdict.played)
    # a call for every mask and branch, and those for what they are compared with
    assert 2 * MASKS <= found.calls["df_rise"] <= 2 * MASKS + 6
    assert found.calls["df_cam"] < 6
    assert {row["calls"] for row in found.rows() if row["map"] in ("random", "centre")} == {0.0}
    assert len(json.loads(found.to_json())["rows"]) == len(found.rows())


@pytest.mark.soak
def test_similarities_are_compared_on_the_same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    some = contenders("similarities", MASKS)[:2]
    assert [one.note for one in contenders("similarities", MASKS)] == list(CHOICES["similarity"])
    monkeypatch.setattr(bench, "contenders", lambda compare, masks: some)
    model = sfumato.load("studio/scenes")
    found = bench_steps(model, 1, compare="similarities", masks=MASKS)
    assert played(found) == {"df_rise (structure)", "df_rise (local_ssim)", "random", "centre"}


@pytest.mark.slow
def test_what_was_played_is_not_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    some = contenders("methods", MASKS)[2:3]
    monkeypatch.setattr(bench, "contenders", lambda compare, masks: some)
    model = sfumato.load("studio/scenes")
    first = bench_steps(model, 1, masks=MASKS)

    def fail(*given: Any, **more: Any) -> Any:
        raise AssertionError("explained again")

    monkeypatch.setattr(bench, "explain", fail)
    assert bench_steps(model, 1, masks=MASKS).rows() == first.rows()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"prompts": 0}, "prompts is 0"), ({"compare": "both"}, f"choose from: {', '.join(COMPARED)}")],
)
def test_what_cannot_be_compared_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        bench_steps(sfumato.load("studio/scenes"), **options)
