"""The tasks that follow the steps of a run: their sums on made-up numbers, then prompts from beginning to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.errors import OptionError
from sfumato.models.model import Model
from sfumato.runs.running import run
from sfumato.studio.grammar import parsed
from sfumato.studio.scenes import held_out_captions
from sfumato.tasks import leading_words, relevance_by_schedule
from sfumato.tasks.frequency_levels import energies, levels_finding
from sfumato.tasks.leading_words import words_finding
from sfumato.tasks.settled_attributes import ATTRIBUTES, settled_finding
from sfumato.tasks.shared import clean_estimates
from sfumato.tasks.shared.captions import PARTS, by_part, parts_of, relation_captions

ABOUT = {"model": "made up"}
TIMES = np.array([900.0, 600.0, 300.0, 0.0])
FOLLOWING = ("frequency_levels", "leading_words", "settled_attributes")


@pytest.fixture(scope="module")
def scenes() -> Model:
    """The embedded model."""
    return sfumato.load("studio/scenes")


def test_prompts_are_held_out_and_say_a_relation() -> None:
    found = relation_captions(5)
    assert len(found) == 5
    assert set(found) <= set(held_out_captions(40))
    assert all(parsed(one).kind == "relation" for one in found)
    with pytest.raises(OptionError, match="prompts is 0"):
        relation_captions(0)


def test_words_belong_to_subject_relation_object_or_background() -> None:
    caption = "a red circle left of a blue square, gray background"
    assert parts_of(caption) == (
        "subject", "subject", "subject", "relation", "relation", "object", "object", "object", None, "background",
        "background",
    )  # fmt: skip
    scores = np.arange(11.0)
    assert by_part(scores, caption, PARTS) == [0 + 1 + 2, 3 + 4, 5 + 6 + 7, 9 + 10]


def test_a_flat_change_is_low_and_a_checkerboard_is_high() -> None:
    grey = np.full((64, 64, 3), 100, np.uint8)
    inside = np.zeros((64, 64), bool)
    inside[16:48, 16:48] = True
    low_in, low_out, high_in, high_out = energies(grey, grey + 50, inside)
    assert low_in == pytest.approx((50 / 255) ** 2)
    assert low_out == pytest.approx((50 / 255) ** 2)
    assert max(high_in, high_out) < 1e-9
    board = np.where((np.indices((64, 64)).sum(0) % 2)[..., None], 150, 50).astype(np.uint8)
    board = np.where(inside[..., None], board, grey)
    low_in, low_out, high_in, high_out = energies(grey, np.broadcast_to(board, grey.shape).copy(), inside)
    assert high_in > 0.8 * (50 / 255) ** 2 > 100 * low_in
    assert high_in > 100 * high_out
    assert np.isnan(energies(grey, grey, np.zeros((64, 64), bool))[0])


def test_an_attribute_is_settled_after_the_last_step_that_differs() -> None:
    alike = np.ones((4, len(ATTRIBUTES)))
    alike[0, 0] = 0  # position: only the first step differs
    alike[:2, 1] = 0  # colour: the first two
    alike[[0, 2], 2] = 0  # shape: right in between, but not yet to stay
    alike[3, 3] = 0  # texture: the last estimate still differs
    unread = np.full_like(alike, np.nan)
    found = settled_finding(np.stack([*([alike] * 5), unread]), ABOUT)
    shares = [row["settled after, as a share of the run"].mean for row in found.rows]
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert found.verdict == "replicated"
    assert "position after 25% of the run, colour after 50%" in found.sentence


def test_the_leader_and_the_smallest_part_are_found() -> None:
    led = np.tile([3.0, 1.0, 6.0, 0.0], (4, 1))
    led[:2, 0] = 5.0
    found = words_finding(np.stack([led] * 5), TIMES, ABOUT)
    assert found.verdict == "replicated"
    assert "the object leads" in found.sentence
    assert [row["part"] for row in found.rows] == ["subject", "relation", "object"]
    swapped = led[:, [1, 0, 2, 3]]
    assert words_finding(np.stack([swapped] * 5), TIMES, ABOUT).verdict == "not replicated"


def test_low_frequencies_that_change_earlier_make_the_finding_hold() -> None:
    early, late = np.array([4.0, 1.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 4.0])
    energy = np.stack([early, early, late, late], axis=1)
    found = levels_finding(np.stack([energy] * 5), TIMES, ABOUT)
    assert found.verdict == "replicated"
    assert levels_finding(np.stack([energy[:, ::-1]] * 5), TIMES, ABOUT).verdict == "not replicated"


@pytest.mark.parametrize("task", FOLLOWING)
def test_two_prompts_are_followed_from_beginning_to_end(
    task: str, scenes: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(task, scenes, out=tmp_path / "run", prompts=2, common={"steps": 4})
    assert done.finding["name"] == task
    assert done.finding["verdict"] == "inconclusive"  # of two prompts
    assert done.finding["about"].items() >= {"prompts": 2, "steps": 4, "seeds": "0 to 1"}.items()
    assert (tmp_path / "run" / "figure.png").exists()

    def fail(*given: Any, **more: Any) -> Any:
        raise AssertionError("generated again")

    for module in (clean_estimates, leading_words):
        monkeypatch.setattr(module, "generate", fail)
    again = run(task, scenes, out=tmp_path / "run", prompts=2, common={"steps": 4})
    assert again.finding == done.finding


def test_captions_without_a_relation_are_invalid(scenes: Model, tmp_path: Path) -> None:
    prompts = ["a red circle", "a red circle above a blue star"]
    done = run("leading_words", scenes, out=tmp_path / "run", prompts=prompts, common={"steps": 2})
    assert (done.counts.ok, done.counts.invalid) == (1, 1)
    assert "it names no relation between two objects" in done.items.set_index("line")["reason"][1]


def test_shares_of_parts_sum_to_one_under_every_schedule(scenes: Model, tmp_path: Path) -> None:
    done = run("relevance_by_schedule", scenes, out=tmp_path / "run", prompts=1, common={"steps": 4})
    rows, (schedules, three) = done.finding["rows"], (relevance_by_schedule.SCHEDULES, relevance_by_schedule.THREE)
    assert [row["schedule"] for row in rows] == [name for name in schedules for _ in three]
    shares = [row["share"]["value"] for row in rows]
    np.testing.assert_allclose(np.reshape(shares, (3, 3)).sum(1), 1, atol=0.002)
    printed = [float(row["share in the paper"]) for row in rows]
    np.testing.assert_allclose(np.reshape(printed, (3, 3)).sum(1), 1, atol=0.002)
