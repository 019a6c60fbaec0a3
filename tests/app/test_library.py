"""The tab Library in a real browser, and the folder behind it."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from sfumato.app.server import library as shelves
from sfumato.app.server import results
from sfumato.app.server.library import opened, saved, saved_in
from sfumato.app.server.visitors import COOKIE, Gone, Visitors
from tests.app.driving import explain
from tests.app.test_visitors import explanation

STAGE = "#sf-stage-library .sf-stage[data-ready]"


def library_of(page: Any) -> None:
    page.get_by_role("tab", name="Library").click()
    page.wait_for_selector("#sf-shelf .sf-book")


def test_what_was_made_and_what_was_saved_is_listed_opened_and_compared(
    browser_page: Any, pictured: Callable[..., None]
) -> None:
    page = browser_page
    explain(page, "a red circle", steps=4)
    library_of(page)
    page.wait_for_selector(".sf-open:has-text('a red circle')")
    titles = page.locator("#sf-shelf b").all_inner_texts()
    assert titles == ["a red circle · seed 0", "triangle"]
    page.click(".sf-open >> nth=1")
    page.wait_for_selector(STAGE)
    assert page.locator(f"{STAGE} .sf-chip").all_inner_texts() == ["a", "green", "triangle"]
    key = page.get_attribute(STAGE, "data-ready")
    for number in range(2):
        page.locator("#sf-shelf input[type=checkbox]").nth(number).check()
    page.click("text=Compare the two")
    page.wait_for_function("([w, old]) => document.querySelector(w).dataset.ready !== old", arg=[STAGE, key])
    assert page.locator(f"{STAGE} .sf-picture").count() == 2
    pictured(page, "library")


def test_results_are_taken_away_and_nobody_else_can_have_them(browser_page: Any) -> None:
    page = browser_page
    explain(page, "a red circle", steps=2)
    library_of(page)
    page.click(".sf-open:has-text('a red circle')")
    links = page.locator("#sf-sections-library .links a")
    links.first.wait_for()
    for name, kind in (
        ("image.png", b"\x89PNG"),
        ("report.html", b"<!doctype html>"),
        ("explanation.zarr.zip", b"PK"),
        ("summary.json", b"{"),
        ("numbers.csv", b"name,"),
    ):
        address = page.locator(f"#sf-sections-library .links a[href$='{name}']").evaluate("(link) => link.href")
        answer = page.request.get(address)
        assert answer.status == 200
        assert answer.body().startswith(kind), name
        with pytest.raises(urllib.error.HTTPError) as refused:  # without the visitor's cookie
            urllib.request.urlopen(address, timeout=30)
        assert refused.value.code == 404
        refused.value.close()


def test_an_empty_library_says_what_will_be_there(browser_page: Any) -> None:
    page = browser_page
    page.get_by_role("tab", name="Library").click()
    page.locator("text=what you explain on the other tabs is kept here").wait_for()


def test_saved_results_are_found_by_id_and_links_are_not_followed(library: Path, tmp_path: Path) -> None:
    (one,) = saved_in(library)
    assert one.name == "triangle"
    assert opened(saved(library, one.id)).request.prompt == "a green triangle"
    for wrong in ("", "../triangle.zarr", "triangle", one.id + "0"):
        with pytest.raises(Gone):
            saved(library, wrong)
    (tmp_path / "link").symlink_to(library)
    assert saved_in(tmp_path) == []
    assert saved_in(tmp_path / "nothing") == []


def test_a_result_that_goes_away_meanwhile_is_left_out(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(library, tmp_path / "copy")
    (one,) = saved_in(tmp_path)
    found = list(shelves._explanations(tmp_path, 3))
    monkeypatch.setattr(shelves, "_explanations", lambda folder, deep: found)
    shutil.rmtree(one.path)
    assert saved_in(tmp_path) == []
    with pytest.raises(Gone):
        saved(tmp_path, one.id)


def test_a_saved_result_is_copied_once_and_is_not_listed_as_made_here(browser_page: Any) -> None:
    page = browser_page
    library_of(page)
    keys = set()
    for _ in range(2):
        page.click(".sf-open:has-text('triangle')")
        page.wait_for_selector(STAGE)
        keys.add(page.get_attribute(STAGE, "data-ready"))
        page.get_by_role("tab", name="Explain").click()
        library_of(page)
    assert len(keys) == 1
    assert page.locator("#sf-shelf b").all_inner_texts() == ["triangle"]


def test_forms_are_built_two_at_a_time_and_not_stored_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def build(explanation: Any) -> bytes:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return b"{}"

    monkeypatch.setitem(results.FORMS, "summary.json", ("application/json", build))
    everybody = Visitors()
    kept = everybody.of("one").keep(explanation(), "a circle")
    give = results.results_route(everybody)

    def asks(key: str) -> Request:
        place = {"id": kept.id, "name": "summary.json"}
        cookie = (b"cookie", f"{COOKIE}={key}".encode())
        return Request({"type": "http", "method": "GET", "path": "/", "headers": [cookie], "path_params": place})

    async def all_at_once() -> list[Any]:
        return list(await asyncio.gather(*(give(asks("one")) for _ in range(8)), give(asks("other"))))

    with ThreadPoolExecutor(1) as aside:  # the browser's loop runs in this thread
        *mine, theirs = aside.submit(lambda: asyncio.run(all_at_once())).result(60)
    assert most == 2
    assert [one.status_code for one in mine] == [200] * 8
    assert theirs.status_code == 404
    assert {one.headers["cache-control"] for one in (*mine, theirs)} == {"no-store"}
