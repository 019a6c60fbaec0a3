"""``sfumato study``: its files and its JSON, bad input, and the commands that became tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

import sfumato
from sfumato.cli import running
from tests.cli.running import Finished, run
from tests.labels import tiny_labels

CAPTIONS = ("two red circles", "a red circle left of a blue square", "a photo, on the table")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(folder: Path, content: str | bytes) -> str:
    file = folder / "prompts.txt"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


def study(out: Path, *more: str, name: str) -> Finished:
    return run("study", name, "--steps", "2", "--out", str(out), *more)


def finding(folder: Path) -> dict[str, Any]:
    """What is in finding.json, which every reader of JSON must take."""
    found: dict[str, Any] = json.loads(
        (folder / "finding.json").read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name}")
    )
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Takes the place of runs, and notes what they were told."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def run_instead(context: Any, task: Any, options: dict[str, Any], **given: Any) -> None:
        calls.append((task.name, options | {name: given[name] for name in ("prompts", "out", "seed", "steps")}))
        if task.name == "swapped_adjectives":
            raise typer.Exit(3)

    monkeypatch.setattr(running, "_run", run_instead)
    return calls


@pytest.mark.parametrize("out", [("--out", "new"), ("--out=new",)])
def test_a_study_of_several_questions_is_a_run_for_each(out: Sequence[str], told: list[Any]) -> None:
    done = run("study", "entanglement", "--pairs", "7", *out, "--seed=2", "--steps", "5")
    assert done.code == 3  # of the second one, which does not keep the third from running
    common = {"prompts": "7", "seed": 2, "steps": 5}
    assert told == [
        (task, common | {"out": f"new/{task}"}) for task in ("cohyponyms", "swapped_adjectives", "colour_leakage")
    ]
    assert done.err.splitlines()[1] == (
        "`sfumato study entanglement` is now: sfumato run swapped_adjectives --prompts 7 "
        f"{' '.join(out)}/swapped_adjectives --seed=2 --steps 5"
    )
    assert run("study", "entanglement", "--pairs=3").code == 3
    assert {(one["prompts"], one["out"]) for _, one in told[3:]} == {("3", None)}


@pytest.mark.parametrize(
    ("name", "task"), [("numbers", "counts"), ("scrambled", "scrambled"), ("parts", "relevance_by_schedule")]
)
def test_the_options_reach_the_task(name: str, task: str, told: list[Any]) -> None:
    assert study(Path("new"), "--prompts", "9", name=name).code == 0
    assert told == [(task, {"prompts": "9", "out": "new", "seed": 0, "steps": 2})]


WRONG: dict[str, tuple[Sequence[str], str]] = {
    "no numerals": (["numbers", "--prompts", "0"], "prompts is 0; expected a whole number from 1 to 100000"),
    "no pairs": (["entanglement", "--pairs", "0"], "prompts is 0; expected a whole number from 1 to 100000"),
    "a word": (["numbers", "--prompts", "many"], "'many' cannot be read: No such file or directory"),
    "no steps": (["numbers", "--steps", "0"], "'--steps': Input should be greater than or equal to 1"),
    "seed": (["numbers", "--seed", "-1"], "'--seed': Input should be greater than or equal to 0"),
    "method": (["scrambled", "--method", "magic"], "there is no method 'magic'; choose from: ablation"),
    "other images": (["numbers", "--prompts", "2"], "counts reads what the images show"),
    "other images again": (["entanglement", "--pairs", "2"], "makes 64 x 64; take studio/scenes"),
    "and again": (["scrambled", "--prompts", "2"], "makes 64 x 64; take studio/scenes"),
    "study": (["relation"], "Did you mean 'relations'?; see: sfumato study --help"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_one_line_and_leaves_nothing(
    name: str, lent: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    (command, *more), message = WRONG[name]
    done = study(place / "new" / "out", *more, name=command)
    assert message in done.err
    assert (done.code, done.out) == (2, "")
    assert not list(place.iterdir())


def test_a_model_that_reads_no_words_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "new" / "out"
    labels = sfumato.wrap(tiny_labels())
    monkeypatch.setattr("sfumato.models.loading.load", lambda source, **more: labels)
    assert "counts needs words, which" in study(out, name="numbers").err
    assert not out.parent.exists()


@pytest.mark.parametrize(("name", "task"), [("pos", "parts_of_speech"), ("relations", "relations")])
def test_a_study_that_became_a_task_names_its_new_form_and_is_carried_out(
    name: str, task: str, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    given = ("--prompts", written(tmp_path, "\n".join(CAPTIONS)), "--tagger", "lexicon", "--seed", "3")
    given += ("--model", str(model_folder))
    done = study(out, *given, name=name)
    assert done.code == 0
    new = f"sfumato run {task} --steps 2 --out {out} {' '.join(given)}"
    assert done.err.splitlines()[0] == f"`sfumato study {name}` is now: {new}"
    found = finding(out)
    told = {"prompts": 3, "seeds": "3 to 5", "steps": 2, "method": "daam", "tags": "lexicon"}
    assert found["about"].items() >= told.items()
    lines = done.out.splitlines()
    assert lines[0].startswith("cost: daam: one generation (2 denoiser calls)")
    assert lines[1].startswith("cost: all of it for each of 3 images")
    assert lines[2].startswith(f"{task} on ")
    assert f"here: {found['sentence']}" in lines
    assert f"see: sfumato study {name} --help" in study(out, "--steps", "0", name=name).err
    assert f"Usage: sfumato study {name}" in run("study", name, "--help").out
