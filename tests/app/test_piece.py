"""What scripts of the page send: of events that come while a listener is at work, the last one counts."""

from __future__ import annotations

import time
from importlib.resources import files
from typing import Any

import gradio as gr
import pytest

from sfumato.app.pieces.piece import data_of, script, static

SENDS = """
const button = make("button", { type: "button", onclick: () => {
  for (const number of [1, 2, 3, 4]) setTimeout(() => trigger("sent", { number }), 100 * number);
} }, "send");
element.replaceChildren(button);
"""


def test_every_script_goes_with_the_helpers_that_stand_before_it(browser: Any) -> None:
    names = [path.name.removesuffix(".js") for path in (files("sfumato.app") / "static").iterdir()]
    page = browser.new_page()
    try:
        wrong = {
            name: page.evaluate(
                "(code) => { try { new Function(code); return ''; } catch (error) { return `${error}`; } }", code
            )
            for name, code in {name: script(name) for name in names if "." not in name and name != "dom"}.items()
        }
    finally:
        page.close()
    assert len(wrong) > 10
    assert {name: said for name, said in wrong.items() if said} == {}


@pytest.mark.filterwarnings("ignore")
def test_the_last_of_many_events_is_heard(browser: Any) -> None:
    heard: list[int] = []

    def hear(event: gr.EventData) -> str:
        time.sleep(0.6)
        heard.append(data_of(event)["number"])
        return str(heard)

    with gr.Blocks(analytics_enabled=False) as blocks:
        sender = gr.HTML({}, html_template="<div></div>", js_on_load=static("dom.js") + SENDS, elem_id="sender")
        said = gr.Textbox(elem_id="heard")
        sender.sent(hear, None, [said], trigger_mode="always_last", concurrency_limit=None)
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    page = browser.new_page()
    try:
        page.goto(address)
        page.click("#sender button")
        page.wait_for_function(
            "() => document.querySelector('#heard textarea, #heard input').value.endsWith('4]')", timeout=20_000
        )
    finally:
        page.close()
        blocks.close(verbose=False)
    assert heard == [1, 4]
