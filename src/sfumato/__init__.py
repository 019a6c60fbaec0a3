"""Sfumato explains image diffusion models: where each word acted, which words mattered, when, and what if."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.explain import explain as explain
    from sfumato.models.loading import load as load
    from sfumato.models.loading import wrap as wrap
    from sfumato.registry import methods as methods
    from sfumato.request import Request as Request
    from sfumato.results.explanation import Explanation as Explanation
    from sfumato.results.opening import open as open
    from sfumato.runs.opened import open_run as open_run
    from sfumato.runs.running import run as run
    from sfumato.runs.task import tasks as tasks

__version__ = "0.1.0"

_HOMES = {
    "Explanation": "sfumato.results.explanation",
    "Request": "sfumato.request",
    "explain": "sfumato.explain",
    "load": "sfumato.models.loading",
    "methods": "sfumato.registry",
    "open": "sfumato.results.opening",
    "open_run": "sfumato.runs.opened",
    "run": "sfumato.runs.running",
    "tasks": "sfumato.runs.task",
    "wrap": "sfumato.models.loading",
}
__all__ = ["Explanation", "Request", "explain", "load", "methods", "open", "open_run", "run", "tasks", "wrap"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package loads no PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """The package itself: importing sfumato.explain or sfumato.methods must not hide the function of that name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
