"""The old name of `sfumato.generation`, for one release."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

_HOMES = {"generate": "sfumato.generation.generate", "Trace": "sfumato.generation.trace"}


def __getattr__(name: str) -> Any:
    """The documented names of this module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"sfumato.trace.{name} is now {_HOMES[name]}.{name}", DeprecationWarning, stacklevel=2)
    return getattr(import_module(_HOMES[name]), name)
