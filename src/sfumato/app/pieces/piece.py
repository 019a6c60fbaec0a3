"""A component of our own: a Gradio HTML component whose script draws its value, a JSON object, and sends events."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import gradio as gr

from sfumato.report.page import template

DRAWS_MAPS = {"stage", "stepmaps", "across"}


def piece(name: str, value: dict[str, Any], *, elem_id: str | None = None, **props: Any) -> gr.HTML:
    """A component by the name of its script.

    Its script may ``trigger(event, data)``; a listener is attached with the event's name as a method, such as
    ``stage.pick(...)``, and reads the data with ``data_of``.

    Args:
        name: Of the script in ``static``, without ending.
        value: What it shows at first.
        elem_id: Its id in the page, where it needs one.
        props: What else the script reads, as ``props.NAME``.
    """
    return gr.HTML(
        value,
        html_template="<div></div>",
        js_on_load=script(name),
        apply_default_css=False,
        elem_id=elem_id,
        **props,
    )


def script(name: str) -> str:
    """All that runs for a component: the helpers of every script, those that draw maps where it does, and its own."""
    return static("dom.js") + (template("heat.js") if name in DRAWS_MAPS else "") + static(f"{name}.js")


def static(name: str) -> str:
    """A file of the page."""
    return (files("sfumato.app") / "static" / name).read_text(encoding="utf-8")


def data_of(event: gr.EventData) -> dict[str, Any]:
    """What a script sent with an event."""
    found = event._data
    return found if isinstance(found, dict) else {}
