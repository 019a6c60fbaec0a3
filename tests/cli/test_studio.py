"""``sfumato studio score`` and ``sfumato bench words``: figures as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sfumato.metrics import localisation_table
from sfumato.studio.benches.words import WordBench
from sfumato.studio.scoring import Measured, Scores
from tests.cli.running import run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, lent: Any) -> list[dict[str, Any]]:
    """Takes the place of the long measurements, and notes what they were told."""
    calls: list[dict[str, Any]] = []

    def score(model: Any, prompts: int, **options: Any) -> Scores:
        calls.append({"model": model, "prompts": prompts, **options})
        options["progress"]("prompts", prompts, prompts)
        figures = (
            Measured("one object right", 0.95, 0.9, 1.0, 40, 0.95),
            Measured("counts right", 0.5, 0.1, 0.9, 3, None),
        )
        return Scores("studio/scenes", prompts, figures)

    def bench_words(model: Any, prompts: int, **options: Any) -> WordBench:
        import numpy as np

        calls.append({"model": model, "prompts": prompts, **options})
        maps = np.eye(4, dtype=np.float32)
        table = localisation_table({"daam": [maps, maps]}, [maps > 0, maps > 0], groups=["a", "b"])
        return WordBench("studio/scenes", options["method"], prompts, {"all": table})

    monkeypatch.setattr("sfumato.studio.scoring.score", score)
    monkeypatch.setattr("sfumato.studio.benches.words.bench_words", bench_words)
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


def test_the_bench_is_a_table_and_a_file(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "new" / "words.json"
    done = run("bench", "words", "--prompts", "7", "--out", str(file))
    assert (done.code, done.err) == (0, "")
    assert (asked[0]["prompts"], asked[0]["method"], asked[0]["seed"]) == (7, "daam", 0)
    assert "daam on 7 held-out prompts of studio/scenes" in done.out
    assert "random" in done.out
    assert json.loads(file.read_text())["prompts"] == 7
    assert [path.name for path in file.parent.iterdir()] == ["words.json"]
    assert json.loads(run("bench", "words", "--prompts", "7", "--json").out) == json.loads(file.read_text())


@pytest.mark.parametrize("command", [("studio", "score"), ("bench", "words")])
@pytest.mark.parametrize("prompts", ["0", "-3"])
def test_a_number_of_prompts_that_makes_no_sense(command: tuple[str, ...], prompts: str) -> None:
    assert "'--prompts': Input should be greater than or equal to 1" in run(*command, "--prompts", prompts).error


def test_a_file_that_cannot_be_written(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    assert "is no name for a file" in run("bench", "words", "--out", str(tmp_path)).error


@pytest.mark.parametrize("command", [("studio", "score", "nothing"), ("bench", "words", "--model", "nothing")])
def test_a_model_that_is_not_there(command: tuple[str, ...]) -> None:
    assert "there is no model 'nothing'" in run(*command).error
