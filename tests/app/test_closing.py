"""What is left when things end: a closed tab, stopped work, an error. The server runs in this process, to look in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sfumato.app.server.workshop import Workshop
from sfumato.app.serving import _listening, application
from tests.app.driving import fill, line
from tests.pipelines import fingerprint


@dataclass
class Inside:
    """A page that is served by this process."""

    address: str
    workshop: Workshop


@pytest.fixture(scope="module")
def inside() -> Iterator[Inside]:
    import uvicorn

    with _listening("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        app, workshop = application(["studio/scenes"], port=port)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield Inside(f"http://127.0.0.1:{port}", workshop)
        server.should_exit = True
        thread.join(timeout=30)
        workshop.close()


def jobs(inside: Inside) -> Any:
    return inside.workshop.worker("studio/scenes").jobs()


def until(condition: Any, seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def begin(browser: Any, inside: Inside) -> Any:
    """A page with a long generation under way."""
    page = browser.new_context().new_page()
    page.set_default_timeout(100_000)
    page.goto(inside.address)
    page.click("#settings > button")
    fill(page, "steps", "200")
    fill(page, "prompt", "a red circle")
    page.click("#explain")
    page.wait_for_selector(".sf-line.running:visible >> text=of 200")
    return page


def test_a_closed_tab_stops_its_work_and_the_model_is_as_before(browser: Any, inside: Inside) -> None:
    until(lambda: inside.workshop.worker("studio/scenes").model is not None)
    pipeline = inside.workshop.model("studio/scenes").pipeline
    before = fingerprint(pipeline)
    page = begin(browser, inside)
    (job,) = jobs(inside)
    assert job.state == "running"
    page.context.close()
    until(lambda: job.state != "running", 30)
    assert (job.state, job.error) == ("stopped", "the tab was closed")
    until(lambda: not jobs(inside))
    assert fingerprint(pipeline) == before


def test_an_error_in_the_middle_leaves_no_hook_and_no_half_result(
    browser: Any, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    until(lambda: inside.workshop.worker("studio/scenes").model is not None)
    model = inside.workshop.model("studio/scenes")
    before = fingerprint(model.pipeline)
    whole, calls = model.denoiser.forward, [0]

    def breaks(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise RuntimeError("a cable was pulled")
        return whole(*args, **kwargs)

    page = browser.new_context().new_page()
    page.set_default_timeout(100_000)
    page.goto(inside.address)
    with monkeypatch.context() as patch:
        patch.setattr(model.denoiser, "forward", breaks)
        fill(page, "prompt", "a red circle")
        page.click("#explain")
        assert line(page) == "RuntimeError: a cable was pulled (a bug in Sfumato; the server's log has the rest)"
    assert calls == [3]
    assert fingerprint(model.pipeline) == before
    page.get_by_role("tab", name="Library").click()
    page.wait_for_selector("#sf-shelf >> text=Nothing yet")
    page.get_by_role("tab", name="Explain").click()
    page.click("#settings > button")
    fill(page, "steps", "2")
    page.click("#explain")
    page.wait_for_selector("#sf-stage-explain .sf-stage[data-ready]")
    page.context.close()
