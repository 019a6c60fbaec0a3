"""Commands that became tasks: they name the new form on standard error, and do what they did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato.cli import running
from sfumato.cli.aliases import commands_of
from sfumato.studio.scenes import scene_of
from sfumato.tasks import word_localisation
from tests.cli.running import run


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn scenes with the true masks as maps take the place of generated images."""

    def perfect(model: Any, items: Any, method: str, progress: Any) -> list[Any]:
        scenes = [scene_of(one.request.prompt, one.request.seed) for one in items]
        return [(scene.image, scene.masks.astype(np.float32)) for scene in scenes]

    monkeypatch.setattr(word_localisation, "images_and_maps", perfect)


@pytest.mark.usefixtures("drawn")
def test_bench_words_is_a_run_with_a_table(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "words"
    done = run("bench", "words", "--prompts", "7", "--out", str(folder))
    assert done.code == 0, done
    first = f"`sfumato bench words` is now: sfumato run word_localisation --prompts 7 --out {folder}"
    assert done.err.splitlines()[0] == first
    assert "word_localisation on studio/scenes" in done.out
    assert "random" in done.out
    found = json.loads((folder / "finding.json").read_text())
    assert (found["about"]["rows"], found["about"]["method"]) == (7, "daam")
    again = run("bench", "words", "--prompts", "7", "--out", str(folder), "--json")
    assert json.loads(again.out.splitlines()[-1])["finding"] == found


@pytest.mark.usefixtures("drawn")
def test_rows_without_a_result_are_an_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_text("a red circle\nsomething else\n")
    done = run("bench", "words", "--prompts", str(file), "--out", str(tmp_path / "run"))
    assert done.code == 3
    assert "0 rows failed and 1 are invalid" in done.err


def test_bench_ranks_takes_prompts_steps_guidance_and_options(tmp_path: Path) -> None:
    file, folder = tmp_path / "own.txt", tmp_path / "run"
    file.write_text("red circle | 0.2 0.8\n\nblue square | 0.5 0.5\n")
    command = ("bench", "ranks", "--prompts", str(file), "--steps", "1", "--guidance", "1.5", "--out")
    options = ("--option", "similarity=latent", "--option", "budget=4", "--option", "draw=7")
    done = run(*command, str(folder), *options, "--json")
    assert done.code == 0, done
    assert "sfumato run rank_agreement --prompts" in done.err
    found = json.loads(done.out.splitlines()[-1])["finding"]
    assert (found["about"]["rows"], found["about"]["steps"], found["about"]["guidance"]) == (2, 1, 1.5)
    given = found["about"]["options"]
    assert (given["similarity"], given["budget"], given["draw"]) == ("latent", 4, 7)
    baseline = "uninformative baseline (an even share)"
    assert {one["of"] for one in found["rows"]} == {"shapley", baseline}  # the paper has other prompts
    assert baseline in run(*command, str(folder), *options).out  # on one line
    wrong = run(*command, str(tmp_path / "other"), "--option", "sise=3")
    assert wrong.code == 2
    assert "shapley has no option 'sise'" in wrong.err


@pytest.mark.parametrize(
    ("given", "new"),
    [
        ("", "--model studio/scenes --prompts 100 --samples 32 --seed 1000"),
        (
            "my-model --prompts own.txt --steps 3 --seed 0 --samples 4 --out a --device cpu --json",
            "--model my-model --prompts own.txt --samples 4 --seed 0 --steps 3 --out a --device cpu --json",
        ),
    ],
)
def test_calibrate_keeps_its_argument_and_its_first_seed(given: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(running, "_run", lambda context, task, options, **given: told.append(options | given))
    done = run("calibrate", *given.split())
    assert (done.code, done.err) == (0, f"`sfumato calibrate` is now: sfumato run calibration {new}\n")
    names = ("model", "prompts", "seed", "steps", "out", "device", "as_json")
    plain = ("studio/scenes", "100", 1000, None, None, None, False)
    expected = ("my-model", "own.txt", 0, 3, "a", "cpu", True) if given else plain
    assert [tuple(one[name] for name in names) for one in told] == [expected]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("words", "--prompts", "0"), "prompts is 0; expected a whole number from 1"),
        (("segments", "--prompts", "0"), "prompts is 0; expected a whole number from 1"),
        (("words-importance", "--prompts", "0"), "prompts is 0; expected a whole number from 1"),
        (("maps", "--only", "dam"), "'dam' does not compete; choose from: daam, ovam"),
        (("steps", "--prompts", "0"), "prompts is 0; expected a whole number from 1"),
        (("steps", "--compare", "both"), "compare is 'both'"),
        (("steps", "--masks", "3"), "'--masks': Input should be greater than or equal to 4"),
        (("worths", "--prompts", "200"), "there are no 200 held-out captions of 6 words or fewer"),
        (("words", "--model", "nothing"), "there is no model 'nothing'"),
        (("ranks", "--at", "300"), "No such option: --at"),
        (("ranks", "--prompts", "11"), "has 10 prompts, and 11 are asked for"),
    ],
)
def test_what_cannot_be_is_an_error(arguments: tuple[str, ...], message: str) -> None:
    done = run("bench", *arguments)
    assert done.code == 2
    assert message in done.err


@pytest.mark.parametrize(
    ("old", "given", "new"),
    [
        ("bench reference", "--pairs 3 --out a", ["reference_pointing --pairs 3 --out a"]),
        (
            "study entanglement",
            "--pairs 3 --method ovam --out a",
            [
                "cohyponyms --prompts 3 --method ovam --out a/cohyponyms",
                "swapped_adjectives --prompts 3 --out a/swapped_adjectives",
                "colour_leakage --prompts 3 --method ovam --out a/colour_leakage",
            ],
        ),
        (
            "study entanglement",
            "--method=ovam",
            ["cohyponyms --method=ovam", "swapped_adjectives", "colour_leakage --method=ovam"],
        ),
    ],
)
def test_options_are_handed_on_by_the_names_of_the_tasks_that_take_them(old: str, given: str, new: list[str]) -> None:
    assert [" ".join(one) for one in commands_of(old, given.split())] == new
