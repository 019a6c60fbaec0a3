"""A running page and a browser for it. Without a browser these tests are skipped, and say so."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.app.drawn_runs import make_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 100_000
"""Milliseconds that a page may take for one thing: a machine that is busy is no failure."""
PICTURES = os.environ.get("SFUMATO_PICTURES")
"""A folder that screenshots are written to; `make screenshots` names the documentation's."""


@dataclass
class Served:
    """A page that is being served by a process of its own."""

    address: str
    process: subprocess.Popen[str]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit code."""
        self.process.send_signal(how)
        ended = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return ended


@dataclass
class Watched:
    """What a page said that it must not say."""

    said: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


def installed() -> str | None:
    """Where a browser is."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def start(*arguments: str) -> Served:
    """Serve the page on a free port; the caller ends the process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sfumato", "app", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://\S+?:(\d+)", line):
            return Served(f"http://127.0.0.1:{found[1]}", process)
    raise AssertionError(f"the page was not served: exit code {process.wait()}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of the page as long as they are patient, and those in a browser two more tries."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))
            if "browser" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one saved explanation, and one run."""
    import sfumato

    folder: Path = tmp_path_factory.mktemp("library")
    model = sfumato.load("studio/scenes")
    sfumato.explain(model, sfumato.Request("a green triangle", seed=3, steps=4)).save(folder / "triangle.zarr")
    make_run(folder / "runs" / "shapes")
    return folder


@pytest.fixture(scope="session")
def server(library: Path) -> Iterator[Served]:
    """The page with the three embedded models and a library."""
    found = start("--library", str(library))
    yield found
    found.stop()


@pytest.fixture(scope="session")
def served(server: Served) -> str:
    """The address of the page."""
    return server.address


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A browser without a window."""
    found = installed()
    if found is None:
        pytest.skip(f"no browser is installed ({', '.join(BROWSERS)}); make browser installs one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def contexts() -> dict[str, list[Any]]:
    """Contexts of the browser that no test has at the moment, by their options; they keep the scripts of the page."""
    return {}


@pytest.fixture
def open_page(browser: Any, served: str, contexts: dict[str, list[Any]]) -> Iterator[Callable[..., Any]]:
    """Open the page as a new visitor; at the end no page may have said an error or asked anything of another host."""
    watched, taken = Watched(), []

    def open_page(query: str = "", **options: Any) -> Any:
        wanted = {"viewport": {"width": 1280, "height": 900}} | options
        free = contexts.setdefault(repr(wanted), [])
        context = free.pop() if free else browser.new_context(**wanted)
        taken.append((context, free))
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: watched.said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: watched.said.append(str(error)))
        page.on("request", lambda request: _note(watched, request.url, served))
        page.goto(served + query)
        page.wait_for_timeout(300)  # until what is drawn also listens
        page.wait_for_selector("#prompt textarea", state="attached")  # a link may open another tab
        return page

    yield open_page
    for context, free in taken:
        for page in context.pages:
            page.close()
        context.clear_cookies()  # once no answer can bring one any more
        free.append(context)
    assert watched.said == []
    assert watched.outside == []


@pytest.fixture
def browser_page(open_page: Callable[..., Any]) -> Any:
    """The page of a new visitor, 1280 pixels wide."""
    return open_page()


@pytest.fixture(scope="session")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any, str], None]:
    """Take a screenshot of a page or an element, into the documentation where that was asked for."""
    folder = Path(PICTURES) if PICTURES else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)

    def picture(what: Any, name: str, **options: Any) -> None:
        what.screenshot(path=str(folder / f"{name}.png"), **options)
        assert (folder / f"{name}.png").stat().st_size > 2000

    return picture


def _note(watched: Watched, url: str, served: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(served).netloc:
        watched.outside.append(url)
