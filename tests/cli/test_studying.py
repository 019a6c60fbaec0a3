"""``sfumato study``: its files and its JSON, bad input of every kind, Ctrl-C and kill -9."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.metrics import Outcome
from sfumato.results.rows import as_csv
from sfumato.runs.finding import Finding
from tests.cli import interrupting
from tests.cli.running import Finished, run
from tests.labels import tiny_labels

FILES = {".sfumato.json", "figure.png", "table.csv", "items.csv", "finding.json"}
CAPTIONS = ("two red circles", "a red circle left of a blue square", "a photo, on the table")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    """A file of three prompts."""
    return written(tmp_path, "\n".join(CAPTIONS))


def written(folder: Path, content: str | bytes) -> str:
    file = folder / "prompts.txt"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


def study(out: Path, *more: str, name: str = "relations") -> Finished:
    return run("study", name, "--steps", "2", "--out", str(out), *more)


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def finding(folder: Path) -> dict[str, Any]:
    """What is in finding.json, which every reader of JSON must take."""
    found: dict[str, Any] = json.loads(
        (folder / "finding.json").read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name}")
    )
    return found


def seen(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_study_of_a_model_on_disk_is_said_and_written(model_folder: Path, tmp_path: Path, prompts: str) -> None:
    out = tmp_path / "new" / "out"
    done = study(out, "--prompts", prompts, "--model", str(model_folder), "--tagger", "lexicon", "--seed", "3")
    assert done.code == 0
    assert done.err.startswith("note: in 1 of 3 prompts the tagger")
    assert seen(out.parent) == ["out"]
    assert set(seen(out)) == FILES
    found = finding(out)
    told = {"model": "tiny", "prompts": 3, "seeds": "3 to 5", "steps": 2, "method": "daam", "tags": "lexicon"}
    assert found["about"].items() >= told.items()
    assert table(out / "table.csv") == list(csv.DictReader(io.StringIO(as_csv(found["rows"]))))
    assert table(out / "table.csv")[0].keys() >= {"mIoD.value", "mIoH.value"}
    items = table(out / "items.csv")
    assert {item["prompt"] for item in items} == set(CAPTIONS[:2])
    assert [item["dependent"] for item in items if item["relation"] != "unlinked words"][:2] == ["two", "red"]
    with Image.open(out / "figure.png") as figure:
        assert np.asarray(figure.convert("L")).std() > 5
    lines = done.out.splitlines()
    assert lines[1] == "relations on tiny"
    assert lines[-5:] == [
        f"found before: {found['source']}",
        f"here: {found['sentence']}",
        "inconclusive on this model: an interval leaves it open, or rests on fewer than 5 seeds or prompts",
        "",
        f"results in {out}: a figure, a table and a finding for each question, and the items where it has some",
    ]


def test_json_stands_alone(lent: Any, tmp_path: Path, prompts: str) -> None:
    out = tmp_path / "out"
    done = study(out, "--prompts", prompts, "--tagger", "lexicon", "--json")
    assert done.code == 0
    assert done.err.startswith("note: in 1 of 3 prompts the tagger")
    assert len(done.err.splitlines()) == 1
    assert json.loads(done.out) == {"findings": [finding(out)], "folder": str(out)}
    assert set(seen(out)) == FILES


def test_notes_stand_beside_the_json(lent: Any, tmp_path: Path) -> None:
    done = study(tmp_path / "out", "--prompts", written(tmp_path, "a red circle"), "--tagger", "lexicon", "--json")
    assert done.code == 0
    assert done.err.splitlines() == ["note: one prompt gives no interval, so no finding can be confirmed"]


def test_one_prompt_is_said_to_show_nothing(lent: Any, tmp_path: Path) -> None:
    done = study(tmp_path / "out", "--prompts", written(tmp_path, "a red circle"))
    assert "inconclusive on this model" in done.out
    assert "replicated on this model" not in done.out


def test_a_number_of_prompts_asks_held_out_captions(lent: Any, tmp_path: Path) -> None:
    from sfumato.studio.scenes import held_out_captions

    assert study(tmp_path / "out", "--prompts", " 2 ").code == 0
    assert {item["prompt"] for item in table(tmp_path / "out" / "items.csv")} == set(held_out_captions(2))


VERDICTS: dict[str, Outcome] = {
    "cohyponyms": "replicated",
    "adjectives": "not replicated",
    "leakage": "inconclusive",
    "numbers": "replicated",
    "scrambled": "replicated",
}


def a_finding(name: str) -> Finding:
    picture = Image.new("RGB", (8, 4))
    return Finding(name, "Before.", VERDICTS[name], "Here.", [{"n": 1}], picture, {"model": "tiny"}, [{"leak": 0.5}])


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, lent: Any) -> list[tuple[str, Any, Any]]:
    """Takes the place of the long studies, and notes what they were told."""
    calls: list[tuple[str, Any, Any]] = []

    def instead(name: str, made: Any) -> None:
        def ask(model: Any, *given: Any, progress: Any, **more: Any) -> Any:
            progress("prompts", 1, 1)
            calls.append((name, given, more))
            return made

        monkeypatch.setattr(f"sfumato.studies.{name}.study_{name}", ask)

    instead("numbers", a_finding("numbers"))
    instead("scrambled", a_finding("scrambled"))
    instead("entanglement", [a_finding(name) for name in ("cohyponyms", "adjectives", "leakage")])
    return calls


def test_several_questions_have_a_folder_each(told: list[Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = study(out, "--pairs", "7", "--seed", "2", "--method", "magic", name="entanglement")
    assert (done.code, done.err) == (0, "")
    assert told == [("entanglement", (7,), {"method": "magic", "seed": 2, "steps": 2})]
    assert seen(out) == [".sfumato.json", "adjectives", "cohyponyms", "leakage"]
    for name in ("adjectives", "cohyponyms", "leakage"):
        assert set(seen(out / name)) == FILES - {".sfumato.json"}
    titles = [line for line in done.out.splitlines() if line.endswith(" on tiny")]
    assert titles == ["cohyponyms on tiny", "adjectives on tiny", "leakage on tiny"]
    said = [line for line in done.out.splitlines() if " on this model" in line]
    assert [line.partition(" on ")[0] for line in said] == ["replicated", "not replicated", "inconclusive"]


@pytest.mark.parametrize("name", ["numbers", "scrambled"])
def test_the_options_reach_the_study(name: str, told: list[Any], tmp_path: Path) -> None:
    assert study(tmp_path / "out", "--prompts", "9", name=name).code == 0
    assert told == [(name, (9,), {"method": "daam", "seed": 0, "steps": 2})]
    assert set(seen(tmp_path / "out")) == FILES


def test_results_lie_by_study_unless_said(told: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("study", "numbers").code == 0
    assert run("study", "entanglement").code == 0
    assert seen(tmp_path / "out") == ["study-entanglement", "study-numbers"]
    assert [given for _, given, _ in told] == [(120,), (60,)]


PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(64)
FILES_OF_PROMPTS: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "holds no prompt; write one a line"),
    "blank lines": ("\n \n", "holds no prompt"),
    "a picture": (PICTURE, "is no text in UTF-8"),
    "UTF-16": ("a cat".encode("utf-16"), "is no text in UTF-8"),
    "NUL": ("a\0cat", "holds NUL characters"),
    "no word": ("a cat\n\u200b\n", "has no words"),
}
WRONG: dict[str, tuple[Sequence[str], str]] = {
    "no file": (["relations", "--prompts", "nowhere.txt"], "cannot read 'nowhere.txt': No such file or directory"),
    "a folder": (["relations", "--prompts", "."], "cannot read '.': Is a directory"),
    "no name": (["relations", "--prompts", ""], "cannot read ''"),
    "no prompts": (["relations", "--prompts", "0"], "--prompts is 0; expected a whole number from 1 to 100000"),
    "below none": (["relations", "--prompts", "-3"], "cannot read '-3'"),
    "too many": (
        ["relations", "--prompts", "123456789"],
        "--prompts is 123456789; expected a whole number from 1 to 100000",
    ),
    "far too many": (["relations", "--prompts", "9" * 5000], "--prompts is 999"),
    "no numerals": (["numbers", "--prompts", "0"], "'--prompts': Input should be greater than or equal to 1"),
    "no scrambled": (["scrambled", "--prompts", "-1"], "'--prompts': Input should be greater than or equal to 1"),
    "no pairs": (["entanglement", "--pairs", "0"], "'--pairs': Input should be greater than or equal to 1"),
    "a word": (["numbers", "--prompts", "many"], "see: sfumato study numbers --help"),
    "no steps": (["relations", "--steps", "0"], "'--steps': Input should be greater than or equal to 1"),
    "seed": (["relations", "--seed", "-1"], "'--seed': Input should be greater than or equal to 0"),
    "last seed": (["relations", "--seed", str(2**63 - 1), "--prompts", "2"], "seed is 9223372036854775808"),
    "method": (["relations", "--method", "magic"], "there is no method 'magic'; choose from: daam"),
    "method of no maps": (["relations", "--prompts", "2", "--method", "df_cam"], "this explanation has no word maps"),
    "tagger": (["relations", "--tagger", "en_nowhere"], "no spaCy model 'en_nowhere' is installed"),
    "other images": (["numbers", "--prompts", "2"], "`study numbers` reads what the images show"),
    "other images again": (["entanglement", "--pairs", "2"], "this model makes 64 x 64"),
    "and again": (["scrambled", "--prompts", "2"], "this model makes 64 x 64"),
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
    assert message in done.error
    assert done.out == ""
    assert not list(place.iterdir())


@pytest.mark.parametrize("name", FILES_OF_PROMPTS)
def test_a_file_without_prompts_is_one_line_and_leaves_nothing(name: str, lent: Any, tmp_path: Path) -> None:
    content, message = FILES_OF_PROMPTS[name]
    file = written(tmp_path, content)
    assert message in study(tmp_path / "new" / "out", "--prompts", file, "--tagger", "lexicon").error
    assert not (tmp_path / "new").exists()


def test_prompts_that_nobody_can_parse_have_no_relations(lent: Any, tmp_path: Path) -> None:
    file = written(tmp_path, "a dog on the table\na cat")
    done = study(tmp_path / "out", "--prompts", file, "--tagger", "lexicon", name="relations")
    assert "finds no word that depends on another" in done.error
    assert not (tmp_path / "out").exists()


def test_models_that_are_not_there_or_read_no_words(
    tmp_path: Path, prompts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new" / "out"
    assert "there is no model" in study(out, "--prompts", prompts, "--model", str(tmp_path / "nothing")).error
    labels = sfumato.wrap(tiny_labels())
    monkeypatch.setattr("sfumato.models.loading.load", lambda source, **more: labels)
    for name, more in {"relations": ("--prompts", prompts, "--tagger", "lexicon"), "numbers": ()}.items():
        assert "a study of words needs a model that reads text" in study(out, *more, name=name).error
    assert not out.parent.exists()


def test_a_folder_of_something_else_is_refused_before_the_work(
    lent: Any, tmp_path: Path, prompts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.mapped.explain", lambda *given, **more: pytest.fail("an image was made"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("mine")
    done = study(tmp_path / "out", "--prompts", prompts, "--tagger", "lexicon")
    assert "is not empty and no earlier result of Sfumato" in done.error
    assert seen(tmp_path / "out") == ["diary.txt"]


def test_an_earlier_result_is_replaced_by_a_finished_one_only(lent: Any, tmp_path: Path, prompts: str) -> None:
    out = tmp_path / "out"
    assert study(out, "--prompts", prompts, "--tagger", "lexicon").code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert study(out, "--prompts", prompts, "--method", "magic").code == 2
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert study(out, "--prompts", prompts, "--tagger", "lexicon", "--seed", "5").code == 0
    assert finding(out)["about"]["seeds"] == "5 to 7"
    assert set(seen(out)) == FILES


def test_a_study_that_became_a_task_names_its_new_form_and_is_carried_out(model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = ("--prompts", written(tmp_path, "\n".join(CAPTIONS)), "--tagger", "lexicon", "--seed", "3")
    given += ("--model", str(model_folder))
    done = study(out, *given, name="pos")
    assert done.code == 0
    new = f"sfumato run parts_of_speech --steps 2 --out {out} {' '.join(given)}"
    assert done.err.splitlines()[0] == f"`sfumato study pos` is now: {new}"
    found = finding(out)
    told = {"prompts": 3, "seeds": "3 to 5", "steps": 2, "method": "daam", "tags": "lexicon"}
    assert found["about"].items() >= told.items()
    lines = done.out.splitlines()
    assert lines[0].startswith("parts_of_speech on ")
    assert f"here: {found['sentence']}" in lines
    assert "see: sfumato study pos --help" in study(out, "--steps", "0", name="pos").err
    assert "Usage: sfumato study pos" in run("study", "pos", "--help").out


# A study that is stopped again and again.


@pytest.fixture(scope="module")
def runs(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What is there after a study that nothing stopped, after each stop of another one, and after its end."""
    done = subprocess.run(
        [sys.executable, interrupting.__file__, "study", str(model_folder), str(tmp_path_factory.mktemp("studies"))],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(1500)  # some seconds, but a busy machine may be very much slower
def test_a_stopped_study_leaves_what_it_knows_and_no_result(runs: list[dict[str, Any]]) -> None:
    whole, *stopped, last = runs
    assert [one["code"] for one in (whole, last)] == [0, 0]
    assert len(stopped) == len(interrupting.STUDY_STOPS)
    for (_, number), one in zip(interrupting.STUDY_STOPS, stopped, strict=True):
        assert one["code"] == {signal.SIGKILL: -9, signal.SIGINT: 130}[number]
        hidden = [name for name in one["left"] if name.startswith(".sfumato-")]
        assert [name for name in one["left"] if name not in hidden] == ["cache", "log", "prompts.txt"]
        assert len(hidden) == (number == signal.SIGKILL)
        told = "stopped; the same command goes on with the prompts that are left\n"
        assert one["log"] == ("" if number == signal.SIGKILL else told)
    assert last["left"] == ["cache", "log", "out", "prompts.txt"]


def test_the_same_command_goes_on_with_what_is_left(runs: list[dict[str, Any]]) -> None:
    whole, *stopped, last = runs
    assert len(whole["kept"]) == len(interrupting.PROMPTS)
    assert 0 < len(stopped[0]["kept"]) < len(interrupting.PROMPTS)
    for before, after in pairwise([*stopped, last]):
        assert before["kept"].items() <= after["kept"].items()  # none of them was made again
    assert last["kept"].keys() == whole["kept"].keys()


def test_no_item_of_a_stopped_study_is_lost_or_twice_there(runs: list[dict[str, Any]]) -> None:
    found, whole = ([*csv.reader(io.StringIO(one["items"]))] for one in (runs[-1], runs[0]))
    assert [row[:5] for row in found] == [row[:5] for row in whole]  # prompt, seed, relation and both words
    assert len({tuple(row[:5]) for row in found}) == len(found)
    numbers = [np.array([row[5:] for row in rows[1:]], float) for rows in (found, whole)]
    np.testing.assert_allclose(*numbers, atol=2e-3)  # images of other batches differ by rounding
