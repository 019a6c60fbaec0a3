"""Findings on disk: what they are written as, and files of their own, which go when the finding does."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sfumato.errors import RunError
from sfumato.models.model import Model
from sfumato.runs.finding import FILES, Finding, written_in
from sfumato.runs.merging import merge
from sfumato.runs.running import conclude_run
from tests.runs.driving import PROMPTS, drive, finding
from tests.runs.made_up import MadeUp

AWKWARD = 'a "red" circle, blue\nsquare, 红色'
WEIGHTS = "weights.json"


def a_finding(**more: Any) -> Finding:
    rows = [{"word": AWKWARD, "coverage": 0.25}, {"word": "dog", "note": "only here"}]
    return Finding(
        "pos", "Found before.", "replicated", "Here.", rows, Image.new("RGB", (8, 4), "red"), {"steps": 2}, **more
    )


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def test_a_finding_is_written_as_three_files(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    one = a_finding()
    one.write(folder)
    assert {path.name for path in folder.iterdir()} == {"figure.png", "table.csv", "finding.json"}
    assert read(folder / "table.csv") == [
        {"word": AWKWARD, "coverage": "0.25", "note": ""},
        {"word": "dog", "coverage": "", "note": "only here"},
    ]
    with Image.open(folder / "figure.png") as figure:
        assert figure.size == (8, 4)
    found = json.loads((folder / "finding.json").read_text(encoding="utf-8"))
    assert found == json.loads(one.to_json())
    assert set(found) == {"name", "source", "verdict", "sentence", "about", "metrics", "rows"}
    assert found["rows"][0]["word"] == AWKWARD


def test_files_of_its_own_are_written_beside_and_named_in_the_finding(tmp_path: Path) -> None:
    one = a_finding(files={WEIGHTS: '{"red": 1}\n', "n_2.json": "[]"})
    one.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, WEIGHTS, "n_2.json"} == set(one.written)
    assert (tmp_path / WEIGHTS).read_text() == '{"red": 1}\n'
    found = json.loads((tmp_path / "finding.json").read_text(encoding="utf-8"))
    assert found["files"] == [WEIGHTS, "n_2.json"]
    assert sorted(written_in(tmp_path)) == sorted(one.written)
    again = Finding.from_json(found)
    assert (again.sentence, again.files) == (one.sentence, {})
    assert replace(one, figure=None).written == (WEIGHTS, "n_2.json", "finding.json", "table.csv")


@pytest.mark.parametrize(
    "name", ["", "finding.json", "manifest.json", "../a.json", "a/b.json", "a.txt", "items.sqlite", ".json", "A.json"]
)
def test_names_of_the_run_and_of_other_places_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="pos cannot have a file") as error:
        a_finding(files={name: ""})
    assert "\n" not in str(error.value)
    (tmp_path / "finding.json").write_text(json.dumps({"files": [name, WEIGHTS, 3]}))
    assert written_in(tmp_path) == (WEIGHTS, *FILES)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}', '{"files": {"weights.json": ""}}'])
def test_a_damaged_finding_has_no_files_of_its_own(content: str, tmp_path: Path) -> None:
    assert written_in(tmp_path) == FILES
    (tmp_path / "finding.json").write_text(content)
    assert written_in(tmp_path) == FILES


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files that the finding of every run is given."""
    given = {WEIGHTS: "first"}
    own = MadeUp.conclude

    def conclude(self: MadeUp, records: Any, options: Any, about: Mapping[str, Any]) -> Finding:
        return replace(own(self, records, options, about), files=dict(given))

    monkeypatch.setattr(MadeUp, "conclude", conclude)
    return given


def test_another_conclusion_replaces_the_files_and_removes_those_that_it_has_no_more(
    files: dict[str, str], model: Model, tmp_path: Path
) -> None:
    out = drive(model, tmp_path / "run")
    (out / "mine.json").write_text("mine")
    assert (out / WEIGHTS).read_text() == "first"
    files |= {WEIGHTS: "second", "more.json": "more"}
    conclude_run(out)
    assert ((out / WEIGHTS).read_text(), (out / "more.json").read_text()) == ("second", "more")
    assert finding(out)["files"] == [WEIGHTS, "more.json"]
    files.clear()
    conclude_run(out)
    assert {path.name for path in out.glob("*.json")} == {"finding.json", "manifest.json", "mine.json"}
    assert "files" not in finding(out)


def test_a_restart_removes_the_files_and_nothing_else(files: dict[str, str], model: Model, tmp_path: Path) -> None:
    out = drive(model, tmp_path / "run")
    (out / "mine.json").write_text("mine")
    files.clear()
    drive(model, out, ["raise nothing"], restart=True)
    assert {path.name for path in out.glob("*.json")} == {"manifest.json", "mine.json"}


def test_parts_that_are_merged_have_the_files_of_the_whole(files: dict[str, str], model: Model, tmp_path: Path) -> None:
    out = drive(model, tmp_path / "run", PROMPTS)
    files[WEIGHTS] = "of the whole"
    merged = merge([out], tmp_path / "merged")
    assert (merged / WEIGHTS).read_text() == "of the whole"
    assert (out / WEIGHTS).read_text() == "first"
