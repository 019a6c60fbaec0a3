"""Fitting attention to information, from the prompts to the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato import mapped
from sfumato.errors import ModelError, OptionError
from sfumato.information.calibrating import GROUPS, load
from sfumato.request import Request
from sfumato.studies import calibration
from sfumato.studies.calibration import calibrate
from sfumato.studio.grammar import held_out, parsed
from sfumato.tasks.shared.captions import drawn_captions
from tests.cli.running import run
from tests.labels import tiny_labels


def test_captions_are_drawn_as_in_training_and_never_held_out() -> None:
    captions = drawn_captions(40)
    assert len(set(captions)) == 40
    assert not any(held_out(one) for one in captions)
    assert {parsed(one).kind for one in captions} == {"one", "count", "relation", "and"}
    assert {parsed(one).kind for one in drawn_captions(5, 3, "count")} == {"count"}
    with pytest.raises(OptionError, match="prompts is 0"):
        drawn_captions(0)


def test_attention_is_kept_by_part_of_the_run_layer_and_head(scenes: Any) -> None:
    request = scenes.complete(Request("two red circles", seed=1, steps=5))
    found = calibration._attention(scenes, request)
    groups, layers, heads, words = found["features"].shape[:4]
    assert (groups, words) == (GROUPS, 3)
    assert len(found["layers"]) == layers
    assert found["heads"].shape == (1, layers, heads)
    plain = sfumato.explain(scenes, request, "daam").words["map"].values
    present = np.broadcast_to(found["heads"], (groups, layers, heads))
    mean = np.einsum("glh,glhwyx->wyx", present, found["features"].astype(np.float64)) / present.sum()
    np.testing.assert_allclose(mean, plain, atol=2e-3)  # half precision


def test_a_calibration_is_made_kept_and_used(scenes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = drawn_captions(5)
    made, finding = calibrate(scenes, captions, samples=3, steps=2)
    assert made.weights.min() >= 0
    assert made.weights.sum() == pytest.approx(1)
    assert [row["maps"] for row in finding.rows] == ["plain attention", "calibrated, unseen prompts", "gain"]
    assert finding.about["samples"] == 3
    made.save(tmp_path / "weights.json")
    assert load(str(tmp_path / "weights.json")).layers == made.layers
    found = sfumato.explain(scenes, Request(captions[0], steps=2), "daam", calibration=str(tmp_path / "weights.json"))
    assert np.isfinite(found.words["map"].values).all()

    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("what was computed is kept")

    monkeypatch.setattr(mapped, "explain", never)
    monkeypatch.setattr(calibration, "explain", never)
    again, _ = calibrate(scenes, captions, samples=3, steps=2)
    np.testing.assert_array_equal(again.weights, made.weights)


def test_a_model_without_words_is_refused() -> None:
    with pytest.raises(ModelError, match="reads text"):
        calibrate(sfumato.wrap(tiny_labels()), ["a red circle"] * 5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--prompts", "missing.txt"), "cannot read 'missing.txt'"),
        (("--prompts", "1234567"), "--prompts is 1234567; expected a whole number from 1 to 100000"),
        (("--prompts", "2", "--steps", "1", "--samples", "2"), "2 prompts are too few to be divided into 5 parts"),
        (("--samples", "1"), "'--samples': Input should be greater than or equal to 2"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    out = tmp_path / "new"
    done = run("calibrate", *arguments, "--out", str(out))
    assert done.code == 2
    assert said in done.err.splitlines()[-1]
    assert not out.exists()
