"""Tabs of the page: each registered once, by one decorator, in the file that builds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from sfumato.app.server.workshop import Workshop
from sfumato.errors import SfumatoError
from sfumato.registry import Registry

Build = Callable[[Workshop, gr.Blocks, gr.Tab], None]


@dataclass(frozen=True)
class Tab:
    """A registered tab.

    Attributes:
        name: On the page; in lower case it is the tab's id in a link.
        place: Tabs stand in the order of their places.
        build: Puts the components and their listeners onto the page; it runs inside the tab.
    """

    name: str
    place: float
    build: Build


_tabs: Registry[Tab] = Registry("tab", "sfumato.app.tabs", "sfumato.tabs", SfumatoError)


def tab(name: str, *, place: float) -> Callable[[Build], Build]:
    """Register a tab.

    Args:
        name: See `Tab`.
        place: Those of Sfumato have 1 to 6.

    Raises:
        SfumatoError: The name is taken.
    """

    def register(build: Build) -> Build:
        _tabs.add(name, Tab(name, place, build))
        return build

    return register


def tabs() -> tuple[Tab, ...]:
    """All tabs in their order: those of Sfumato, and those that installed packages offer as `sfumato.tabs`."""
    return tuple(sorted(_tabs.all(), key=lambda one: (one.place, one.name)))
