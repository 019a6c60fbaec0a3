"""``sfumato open``: a stored result, all of it or some steps, layers and heads."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.cli.tables import say_results, say_rows
from sfumato.methods.daam import select
from sfumato.results.interval import Interval, decimal
from sfumato.results.opening import open as open_explanation
from tests.cli.conftest import PROMPT
from tests.cli.running import run
from tests.labels import REQUEST, tiny_labels
from tests.results import synthetic


def test_the_numbers_are_those_of_the_run(made: Path) -> None:
    shown = run("open", str(made))
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines()[0] == f'"{PROMPT}" by daam'
    assert [line.split()[0] for line in shown.out.splitlines() if "%" in line] == [
        "a",
        "red",
        "cat",
        ",",
        "on",
        "the",
        "table",
    ]
    assert json.loads(run("open", str(made), "--json").out) == json.loads((made / "summary.json").read_text())


def test_a_result_of_a_label_is_headed_by_it_and_has_its_numbers(tmp_path: Path) -> None:
    made = sfumato.explain(sfumato.wrap(tiny_labels()), REQUEST, "ablation", rank="downs.0.3")
    made.save(tmp_path / "swept.zarr")
    shown = run("open", str(tmp_path / "swept.zarr"))
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines()[0] == "label 0011 by ablation"
    data = made.tree["sweep"].to_dataset()
    lines = [line.split() for line in shown.out.splitlines()]
    for channel, value in zip(
        data["channel_number"].values.tolist(), data["normalised_ssim"].values.tolist(), strict=True
    ):
        assert any(str(channel) in line and decimal(value) in line and "downs.0.3" in line for line in lines)


def test_small_attributions_are_not_printed_as_zero(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"image": 0, "player": "red", "phi": 0.000123, "share": None, "low": -0.00004, "high": 0.0004}
    summary = {
        "importance": {"shapley": [row]},
        "words": [],
        "numbers": {},
        "meanings": {},
        "notes": {},
        "images": [{"image": 0, "seed": 1}],
    }
    say_results(summary)
    assert re.search(r"red +0.00012 +-4e-05 to 0.0004 +-", capsys.readouterr().out)


def test_intervals_are_printed_with_their_count_once(capsys: pytest.CaptureFixture[str]) -> None:
    one, other, none = Interval(0.5, 0.4, 0.6, 8), Interval(0.25, 0.2, 0.3, 8), Interval(np.nan, np.nan, np.nan, 0)
    say_rows("scores", [{"map": "daam", "AP": one}, {"map": "random", "AP": other}])
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], *lines[3].split()] == ["scores", "daam", "0.500", "[0.400,", "0.600]"]
    assert lines[-1] == "n = 8 for every interval"
    say_rows("scores", [{"map": "daam", "AP": one}, {"map": "random", "AP": none}])
    printed = capsys.readouterr().out
    assert "0.500 [0.400, 0.600] (n=8)" in printed
    assert printed.splitlines()[-1].split() == ["random", "-"]


def test_the_store_inside_opens_as_well(made: Path) -> None:
    assert run("open", str(made / "explanation.zarr")).out == run("open", str(made)).out


def test_what_a_reader_must_know_first_is_said_again(tmp_path: Path) -> None:
    synthetic.explanation("red circle", unknown=["circle"]).save(tmp_path / "a.zarr")
    assert run("open", str(tmp_path / "a.zarr")).err == "note: never seen in training: circle\n"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--steps", "0:1"], {"steps": [0]}),
        (["--layers", "up_blocks"], {"layers": "up_blocks"}),
        (["--heads", "0,2"], {"heads": [0, 2]}),
        (["--steps", "1", "--layers", "down", "--heads", "3"], {"steps": [1], "layers": "down", "heads": [3]}),
    ],
)
def test_a_selection_is_the_one_of_the_library(made: Path, given: list[str], wanted: dict[str, Any]) -> None:
    shown = json.loads(run("open", str(made), *given, "--json").out)
    expected = select(open_explanation(made), **wanted).summary()
    assert shown["words"] == expected["words"]
    assert shown["words"] != json.loads((made / "summary.json").read_text())["words"]
    assert shown["provenance"]["selected"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--steps", "9"], "9 was not kept; kept are: 0, 1"),
        (["--steps", "x"], "--steps is 'x'; expected whole numbers such as 0,1,2 or a range such as 0:10"),
        (["--steps", "3:3"], "--steps is '3:3'"),
        (["--heads", "99"], "99 was not kept"),
        (["--layers", "("], "--layers is '(', no regular expression"),
        (["--layers", "nowhere"], "no attention map is left"),
    ],
)
def test_a_selection_that_cannot_be(made: Path, given: list[str], message: str) -> None:
    assert message in run("open", str(made), *given).error


def test_the_page_is_written_again(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "again.html"
    shown = run("open", str(made), "--report", str(page))
    assert shown.code == 0
    assert str(page) in shown.out
    assert page.read_text(encoding="utf-8") == (made / "report.html").read_text(encoding="utf-8")
    assert [path.name for path in page.parent.iterdir()] == ["again.html"]


@pytest.mark.parametrize("name", ["", "folder", "a\0b", "file/page.html"])
def test_a_page_that_cannot_be_written(made: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    assert run("open", str(made), "--report", name).error
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def nothing(folder: Path) -> str:
    shutil.rmtree(folder)
    return "does not exist; give a folder that explanation.save() or `sfumato explain` wrote"


def no_result(folder: Path) -> str:
    shutil.rmtree(folder)
    folder.mkdir()
    return "is not an explanation"


def one_array_short(folder: Path) -> str:
    next((folder / "explanation.zarr" / "words" / "map").rglob("0")).rename(folder / "lost")
    return "is incomplete or damaged"


def one_bit_changed(folder: Path) -> str:
    path = next(
        path
        for path in (folder / "explanation.zarr" / "words" / "map").rglob("*")
        if path.name.isdecimal() and path.is_file()
    )
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return "words/map differs from what was written"


def unreadable_attributes(folder: Path) -> str:
    os.truncate(folder / "explanation.zarr" / "zarr.json", 100)
    return "is incomplete or damaged: zarr.json cannot be read: it is no JSON"


@pytest.mark.parametrize("damage", [nothing, no_result, one_array_short, one_bit_changed, unreadable_attributes])
def test_a_result_that_cannot_be_opened(made: Path, tmp_path: Path, damage: Any) -> None:
    folder = tmp_path / "out"
    shutil.copytree(made, folder)
    message = damage(folder)
    assert message in run("open", str(folder)).error


@pytest.mark.parametrize("name", ["", "\0", "\udcff", "x" * 5000])
def test_a_name_that_no_folder_can_have(name: str) -> None:
    assert run("open", name).error


@pytest.mark.usefixtures("lent")
def test_a_selection_needs_kept_axes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("explain", "a cat", "--steps", "1", "--size", "32x32", "--out", str(out)).code == 0
    assert "this explanation kept no axis" in run("open", str(out), "--heads", "0").error
