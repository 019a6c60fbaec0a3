"""``sfumato studio score``: figures as a table and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sfumato.studio.scoring import Figure, Scores
from tests.cli.running import run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, lent: Any) -> list[dict[str, Any]]:
    """Takes the place of the long measurements, and notes what they were told."""
    calls: list[dict[str, Any]] = []

    def score(model: Any, prompts: int, **options: Any) -> Scores:
        calls.append({"model": model, "prompts": prompts, **options})
        options["progress"]("prompts", prompts, prompts)
        figures = (
            Figure("one object right", 0.95, 0.9, 1.0, 40, 0.95),
            Figure("counts right", 0.5, 0.1, 0.9, 3, None),
        )
        return Scores("studio/scenes", prompts, figures)

    monkeypatch.setattr("sfumato.studio.scoring.score", score)
    return calls


def test_scores_are_shown_as_a_table(asked: list[dict[str, Any]], lent: Any) -> None:
    done = run("studio", "score", "scenes", "--prompts", "12", "--seed", "5")
    assert (done.code, done.err) == (0, "")
    assert (asked[0]["model"], asked[0]["prompts"], asked[0]["seed"]) == (lent, 12, 5)
    lines = done.out.splitlines()
    assert lines[0] == "studio/scenes on 12 images"
    assert lines[-1].split() == ["counts", "right", "0.500", "0.100", "0.900", "3", "-"]


def test_scores_as_json(asked: list[dict[str, Any]]) -> None:
    done = run("studio", "score", "--json")
    found = json.loads(done.out)
    assert (found["prompts"], found["figures"][0]["mean"]) == (200, 0.95)
    assert asked[0]["prompts"] == 200


@pytest.mark.parametrize("prompts", ["0", "-3"])
def test_a_number_of_prompts_that_makes_no_sense(prompts: str) -> None:
    done = run("studio", "score", "--prompts", prompts)
    assert "'--prompts': Input should be greater than or equal to 1" in done.error


def test_a_model_that_is_not_there() -> None:
    assert "there is no model 'nothing'" in run("studio", "score", "nothing").error
