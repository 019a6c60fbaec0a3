"""A component of our own: a Gradio HTML component whose script draws its value, a JSON object, and sends events."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import gradio as gr

from sfumato.report.page import template


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
    """All that runs for a component: the helpers of every script, those that draw maps where it uses them, its own."""
    own = static(f"{name}.js")
    return static("dom.js") + (template("heat.js") if re.search(r"\bheat\.", own) else "") + own


def styles() -> str:
    """The styles of all components."""
    return "".join(static(name) for name in sorted(one.name for one in _folder().iterdir()) if name.endswith(".css"))


def static(name: str) -> str:
    """A file of the page."""
    return (_folder() / name).read_text(encoding="utf-8")


def _folder() -> Traversable:
    return files("sfumato.app") / "static"


def data_of(event: gr.EventData) -> dict[str, Any]:
    """What a script sent with an event."""
    found = event._data
    return found if isinstance(found, dict) else {}
