"""The methods that fit a model as cards with forms, built from the registry: a method that lands later is here too."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import gradio as gr

from sfumato.app.asking.inputs import offered_options
from sfumato.app.pieces.piece import piece
from sfumato.models.model import Model
from sfumato.options import expected, option_types, written
from sfumato.registry import Method, methods


def methods_form(hint: str, elem_id: str) -> gr.HTML:
    """The component, empty; its events are ``run`` and ``price``, with the method's name and its options as text."""
    return piece("methods", {"methods": [], "hint": hint}, elem_id=elem_id)


def fitting(model: Model, *, only: Sequence[str] | None = None, without: Sequence[str] = ()) -> list[Method]:
    """The registered methods that fit a model, in their order; `only` some, or all but some."""
    return [
        one
        for one in methods()
        if not one.missing(model) and one.name not in without and (only is None or one.name in only)
    ]


def forms(chosen: Sequence[Method], hint: str, costs: dict[str, str] | None = None) -> dict[str, Any]:
    """The value that shows these methods."""
    return {"methods": [_form(one) for one in chosen], "hint": hint, "costs": costs or {}}


def _form(method: Method) -> dict[str, Any]:
    question, mark, answer = method.summary.partition("?")
    return {
        "name": method.name,
        "question": question + mark,
        "answer": answer.strip() or method.summary,
        "paper": method.paper,
        "fields": [_field(method, name) for name in offered_options(method)],
    }


def _field(method: Method, name: str) -> dict[str, Any]:
    kind = option_types(method)[name]
    option = next(one for one in fields(method.options) if one.name == name)
    default = written(option.default if option.default is not None else None)
    shown: dict[str, Any] = {
        "name": name,
        "label": name.replace("_", " "),
        "default": "the method's own" if default in ("none", "(empty)") else default,
        "help": str(option.metadata.get("help", "")),
        "kind": "text",
    }
    if kind is bool:
        return shown | {"kind": "switch", "default": default}
    if typing.get_origin(kind) is typing.Literal:
        return shown | {"kind": "choice", "choices": [str(one) for one in typing.get_args(kind)], "default": default}
    return shown | {
        "kind": "number" if kind in (int, float) else "text",
        "help": f"{shown['help']} ({expected(kind)})" if shown["help"] else expected(kind),
    }
