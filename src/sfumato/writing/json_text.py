"""JSON that every reader takes: NaN and infinity become null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(value: Any, **how: Any) -> str:
    """A value as JSON, readable and in any script.

    Args:
        value: What JSON can hold; numbers that are not finite become null.
        how: As of ``json.dumps``, where it is to be written in another way.

    Example:
        >>> json_text({"share": float("nan")}, indent=None)
        '{"share": null}'
    """
    return json.dumps(finite(value), **{"indent": 2, "ensure_ascii": False, "allow_nan": False} | how)


def finite(value: Any) -> Any:
    """The same value with null where JSON has no number."""
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
