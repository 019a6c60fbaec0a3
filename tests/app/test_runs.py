"""The tab Runs: what it finds in the folder, what it shows of a run, and that it only looks."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

import sfumato
from sfumato.app.pieces.cells import cell, table, without_paths
from sfumato.app.pieces.runs import MOST_ROWS, line_of, page_of, rows_of
from sfumato.app.server.library import saved_in
from sfumato.app.server.runs import Listed, Runs
from sfumato.app.server.visitors import Gone
from sfumato.app.server.workshop import Workshop
from sfumato.app.tabs.runs import NO_FOLDER, runs_tab
from sfumato.results.interval import Interval
from sfumato.runs import task as tasks
from sfumato.runs.execute import held
from sfumato.runs.opened import is_driven
from sfumato.runs.task import Claim, Task
from sfumato.writing.locks import alone, is_held
from tests.app.drawn_runs import files_of, make_run


def the_run(folder: Path) -> Listed:
    (one,) = Runs(folder).listed()
    return one


def test_runs_are_found_by_id_and_links_are_not_followed(tmp_path: Path) -> None:
    make_run(tmp_path / "cats")
    make_run(tmp_path / "more/deep/dogs", model="/data/models/mine", concluded=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/manifest.json").write_text('{"format": "another-program"}')
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/manifest.json").write_text("no JSON")
    os.utime(tmp_path / "cats/items.parquet", (2e9, 2e9))
    found = Runs(tmp_path)
    cats, dogs = found.listed()
    assert (cats.name, dogs.name) == ("cats", "more/deep/dogs")
    assert found.find(dogs.id) == dogs
    for wrong in ("", "cats", "../cats", str(tmp_path / "cats"), cats.id + "0"):
        with pytest.raises(Gone):
            found.find(wrong)
    line = line_of(dogs)
    assert line["counts"] == {"ok": 9, "failed": 1, "invalid": 1, "open": 1, "total": 12}
    assert (line["task"], line["model"], line["running"], line["wrong"]) == ("generate", "mine", False, "")
    (tmp_path / "links").mkdir()
    (tmp_path / "links/cats").symlink_to(tmp_path / "cats")
    assert Runs(tmp_path / "links").listed() == []
    assert Runs(tmp_path / "nothing").listed() == []
    assert the_run(tmp_path / "cats").name == "cats"  # the folder may be that of a run


def test_the_maps_of_a_run_are_no_saved_explanations(tmp_path: Path) -> None:
    make_run(tmp_path / "cats")
    assert (tmp_path / "cats/arrays.zarr/zarr.json").is_file()
    assert saved_in(tmp_path) == saved_in(tmp_path / "cats") == []


def test_looking_writes_nothing_and_sees_who_works(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "cats")
    before = files_of(folder)
    assert not the_run(tmp_path).driven
    page_of(the_run(tmp_path))
    rows_of(the_run(tmp_path), "red")
    assert files_of(folder) == before
    with held(folder):
        assert the_run(tmp_path).driven
        assert line_of(the_run(tmp_path))["running"]
    assert not is_driven(folder)
    (folder / ".lock").touch()  # of a process that was killed
    assert not the_run(tmp_path).driven


def test_who_looks_keeps_nobody_from_beginning(tmp_path: Path) -> None:
    path, ended = tmp_path / ".lock", threading.Event()

    def look() -> None:
        while not ended.is_set():
            is_held(path)

    watching = [threading.Thread(target=look) for _ in range(2)]
    for one in watching:
        one.start()
    try:
        for _ in range(50):
            path.touch()
            with alone(path) as had:
                assert had
                assert is_held(path)
    finally:
        ended.set()
        for one in watching:
            one.join()
    assert not is_held(path)


def test_a_list_is_told_to_everybody_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    make_run(tmp_path / "cats")
    found = Runs(tmp_path)
    (first,) = found.listed()
    make_run(tmp_path / "dogs")
    assert found.listed() == [first]
    now = 102.0
    assert {one.name for one in found.listed()} == {"cats", "dogs"}
    assert found.find(first.id) is first  # what has not changed is not read again


def test_a_run_is_shown_with_question_claim_settings_finding_and_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claim("Cats sleep more than dogs.", "Cat et al. 2022, figure 5")
    known = tasks.find_task("generate")
    testing = Task("claiming", "Do cats sleep?", known.options, known.cost, frozenset(), 1, claim, None, known.parts)
    monkeypatch.setitem(tasks._tasks._entries, "claiming", testing)
    folder = make_run(tmp_path / "cats", task="claiming", options={"weights": f"{tmp_path}/w.json", "rounds": [1, 2]})
    finding = json.loads((folder / "finding.json").read_text())
    interval = Interval(0.5, 0.4, 0.6, 30).to_dict()
    changed = finding | {"verdict": "replicated", "rows": [{"task": "<b>claiming</b>", "gain": interval}]}
    (folder / "finding.json").write_text(json.dumps(changed))
    page = page_of(the_run(tmp_path))
    assert page["about"] == {"question": "Do cats sleep?", "claim": claim.text, "paper": claim.paper}
    assert page["settings"][:2] == [["weights", "w.json"], ["rounds", "1, 2"]]
    assert ["shard size", "32"] in page["settings"]
    found = page["finding"]
    assert (found["sentence"], found["verdict"]) == ("9 images; 2 rows without one.", "replicated")
    assert found["table"]["head"] == ["task", "gain"]
    assert found["table"]["rows"] == [["<b>claiming</b>", "0.500 [0.400, 0.600]"]]
    assert found["table"]["right"] == [False, True]
    assert page["figure"].startswith("data:image/jpeg;base64,")
    assert page["failures"]["total"] == 2
    assert [row[2:] for row in page["failures"]["table"]["rows"]] == [
        ["failed", "the image holds NaN"],
        ["invalid", "the picture 'my cat.png' cannot be read: it is no PNG"],
    ]
    assert str(tmp_path) not in json.dumps(page)
    again = page_of(the_run(tmp_path), known=page["concluded"])
    assert again["same"]
    assert not {"figure", "finding"} & set(again)
    os.utime(folder / "figure.png", (2e9, 2e9))
    assert "figure" in page_of(the_run(tmp_path), known=page["concluded"])


def test_a_run_that_has_not_ended_says_what_is_to_come(tmp_path: Path) -> None:
    make_run(tmp_path / "cats", concluded=False, task="of-another-package")
    page = page_of(the_run(tmp_path))
    assert "not installed here" in page["about"]["note"]
    assert page["finding"]["note"].startswith("There is no finding yet")
    assert page["figure"] == ""
    assert rows_of(the_run(tmp_path))["said"].startswith("There is no table yet")


def test_the_first_rows_are_shown_of_those_with_a_text(tmp_path: Path) -> None:
    make_run(tmp_path / "cats", ok=60)
    run = the_run(tmp_path)
    shown = rows_of(run)
    assert shown["said"] == "The first 100 of 123 rows."
    assert len(shown["table"]["rows"]) == MOST_ROWS
    word = shown["table"]["head"].index("word")
    found = rows_of(run, "TRIANGLE")
    assert found["text"] == "TRIANGLE"
    assert found["said"] == "36 of 123 rows have this text."  # both words of 18 prompts
    assert {row[word] for row in found["table"]["rows"]} == {"red", "green", "blue", "triangle"}
    assert rows_of(run, "a ")["said"] == "The first 100 rows with this text."
    assert rows_of(run, "NaN")["table"]["rows"][0][word] == "–"
    assert rows_of(run, "my cat.png")["said"] == "1 of 123 rows have this text."
    for nowhere in ("elephant", ".*", "\\", "x" * 1000, tmp_path.name, "/my cat"):  # paths are not found by guessing
        assert rows_of(run, nowhere)["table"]["rows"] == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("manifest.json", '{"format": "sfumato-run", "version": 2}', "of version 2; this Sfumato reads 1"),
        ("manifest.json", "{", "holds no run"),
        ("manifest.json", '{"format": "sfumato-run", "version": 1}', "is damaged: it has no task"),
        (
            "manifest.json",
            '{"format": "sfumato-run", "version": 1, "task": 5, "model": [], "options": 3}',
            "is damaged",
        ),
        ("items.sqlite", "no database", "cannot be read"),
        ("items.sqlite", "", "cannot be read"),
        ("items.sqlite", None, "has lost its items.sqlite"),
    ],
)
def test_what_is_damaged_or_of_another_version_is_one_line(
    tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    folder = make_run(tmp_path / "cats")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    run = the_run(tmp_path)
    line, page, rows = line_of(run), page_of(run), rows_of(run)
    assert says in line["wrong"]
    assert bool(line["wrong"]) == bool(says)
    assert "\n" not in line["wrong"]
    assert page["wrong"] == line["wrong"]
    assert ("table" in rows) == (not says)
    assert str(tmp_path) not in json.dumps([line, page, rows])


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"sentence": 1, "verdict": 2, "rows": [3]}', b"\xff\x00"])
def test_damaged_results_leave_the_rest_as_it_is(tmp_path: Path, content: bytes) -> None:
    folder = make_run(tmp_path / "cats")
    for name in ("finding.json", "figure.png", "items.parquet"):
        (folder / name).write_bytes(content)
    page = page_of(the_run(tmp_path))
    assert page["finding"]["note"].startswith("The finding cannot be read")
    assert page["figure"] == ""
    assert page["failures"]["total"] == 2
    assert rows_of(the_run(tmp_path))["said"].startswith("The table cannot be read")


@dataclass
class Sent:
    """An event that a script of the page has sent."""

    _data: Any


def listeners(folder: Path | None) -> dict[str, Callable[..., Any]]:
    """The functions of the tab by their names, with the components by their ids instead of themselves."""

    async def built() -> gr.Blocks:
        with gr.Blocks(analytics_enabled=False) as blocks, gr.Tabs(), gr.Tab("Runs") as tab:
            runs_tab(Workshop({}, library=folder), blocks, tab)
        return blocks

    with ThreadPoolExecutor(1) as aside:  # Gradio leaves a loop open where it finds none
        blocks = aside.submit(lambda: asyncio.run(built())).result(60)
    found = {one.fn.__name__: one.fn for one in blocks.fns.values() if one.fn is not None}

    def named(ask: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: {one.elem_id or "line": value for one, value in ask(*given).items()}

    return {name: ask if name in ("listed", "cancel") else named(ask) for name, ask in found.items()}


def test_a_visitor_opens_follows_and_searches_by_id_alone(tmp_path: Path) -> None:
    make_run(tmp_path / "cats")
    tab = listeners(tmp_path)
    (line,) = tab["listed"]()["runs"]
    opened = tab["open_one"](Sent({"id": line["id"]}))
    assert opened["sf-run"]["name"] == "cats"
    assert opened["sf-items"]["table"]["rows"]
    followed = tab["follow"](Sent({"id": line["id"], "concluded": opened["sf-run"]["concluded"]}))
    assert set(followed) == {"sf-run"}
    assert followed["sf-run"]["same"]
    assert set(tab["follow"](Sent({"id": line["id"], "concluded": 5}))) == {"sf-run", "sf-items"}
    searched = tab["search"](Sent({"id": line["id"], "text": "blue"}))
    assert searched["sf-items"]["said"] == "6 of 21 rows have this text."
    assert tab["search"](Sent({"id": line["id"], "text": ["blue"]}))["sf-items"]["text"] == ""
    for wrong in (
        {},
        {"id": str(tmp_path / "cats")},
        {"id": "../cats"},
        {"id": ["cats"]},
        {"id": "cats"},
        "cats",
        None,
    ):
        for name in ("open_one", "follow", "search"):
            assert tab[name](Sent(wrong))["line"]["text"].startswith("this run is no longer in the folder")


def test_without_a_folder_the_tab_says_how_to_give_one() -> None:
    tab = listeners(None)
    assert tab["listed"]() == {"runs": [], "empty": NO_FOLDER}
    assert tab["open_one"](Sent({"id": "cats"}))["line"]["text"] == NO_FOLDER


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("'/home/ann/my cats/cat.png' is no PNG", "'cat.png' is no PNG"),
        ("see /var/log/run.txt, and/or https://a.b/c", "see run.txt, and/or https://a.b/c"),
        ("error:/var/log/run.txt", "error:run.txt"),
        ("daam.calibration=/data/w/one.json", "daam.calibration=one.json"),
        ("~/models/mine and ../a/b and C:\\Users\\ann\\c.png", "mine and b and c.png"),
        ("/imagine a cat, 1/2, daam/16x16", "/imagine a cat, 1/2, daam/16x16"),
    ],
)
def test_no_path_of_the_machine_is_shown(text: str, shown: str) -> None:
    assert without_paths(text) == shown


def test_cells_are_short_visible_and_on_one_line() -> None:
    assert cell("a\nred\u202e" + "x" * 1000).startswith("a red[U+202E]x")
    assert len(cell("x" * 1000)) == 300
    assert [cell(one) for one in (None, True, 3, 0.123456, float("nan"), [1, "b"])] == [
        "–",
        "yes",
        "3",
        "0.1235",
        "–",
        "1, b",
    ]
    assert table([{"a": 1}, {"b": "x"}]) == {
        "head": ["a", "b"],
        "right": [True, False],
        "rows": [["1", "–"], ["–", "x"]],
    }


def test_a_run_is_opened_followed_and_its_rows_are_filtered(browser_page: Any, library: Path) -> None:
    page = browser_page
    page.get_by_role("tab", name="Runs").click()
    page.click("#sf-runs .sf-open:has-text('runs/shapes')")
    page.wait_for_selector("#sf-run >> text=What does the model draw for each prompt?")
    assert page.get_attribute("#sf-run progress", "value") == "11"
    page.wait_for_selector("#sf-run >> text=the image holds NaN")
    page.wait_for_selector("#sf-items >> text=21 rows.")
    assert page.locator("#sf-run img").evaluate("(image) => image.complete && image.naturalWidth > 100")
    assert "null" not in page.inner_text("#sf-run")
    with held(library / "runs/shapes"):
        page.click("#sf-runs >> text=Refresh")
        page.wait_for_selector("#sf-runs .sf-running")
        page.wait_for_selector("#sf-run >> text=on studio/scenes · running")
    page.wait_for_selector("#sf-runs td:has-text('stopped')")  # without being asked
    page.wait_for_selector("#sf-run >> text=on studio/scenes · stopped")
    page.fill("#sf-items input", "blue tri")
    page.wait_for_selector("#sf-items >> text=2 of 21 rows have this text.")
    assert page.locator("#sf-items tbody tr").count() == 2
    page.fill("#sf-items input", "")
    page.wait_for_selector("#sf-items >> text=21 rows.")


@pytest.mark.slow
def test_explanations_of_real_prompts_are_seen_with_their_table_and_pictures(
    open_page: Callable[..., Any], library: Path, pictured: Callable[..., None]
) -> None:
    prompts = ["a red circle left of a blue square", "two yellow stars on a purple background", "a striped green cross"]
    folder = library / "runs" / "first"
    sfumato.run("explain", sfumato.load("studio/scenes"), prompts=prompts, method=("daam",), out=folder)
    page = open_page(viewport={"width": 1280, "height": 1500})
    page.get_by_role("tab", name="Runs").click()
    page.click("#sf-runs .sf-open:has-text('runs/first')")
    page.wait_for_selector("#sf-run >> text=3 images explained")
    page.wait_for_selector("#sf-items >> text=stars")
    page.wait_for_function("() => document.querySelector('#sf-run img')?.naturalWidth > 100")
    pictured(page, "runs")
