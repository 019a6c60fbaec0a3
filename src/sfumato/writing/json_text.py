"""Values as JSON: one conversion and one writer for summaries, findings and tables, on disk, terminal and page."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Named(Protocol):
    """What has names for its parts, such as an interval."""

    def to_dict(self) -> dict[str, Any]:
        """The parts by name."""
        ...


def json_value(value: Any) -> Any:
    """The same value as JSON holds it: what has `to_dict` is a mapping, a number that is not finite is None."""
    match value:
        case None | bool() | int() | str():  # first, since most values are such
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(name): json_value(part) for name, part in value.items()}
        case Named():  # an interval is a tuple as well
            return json_value(value.to_dict())
        case list() | tuple():
            return [json_value(part) for part in value]
        case _:
            return value


def json_text(
    value: Any, *, indent: int | None = 2, ascii_only: bool = False, default: Callable[[Any], Any] | None = None
) -> str:
    """A value as JSON text that any reader takes, without NaN and infinity.

    Args:
        value: See `json_value`.
        indent: Spaces for each level; None for a single line.
        ascii_only: Escape all other characters, for a text that may hold half of a surrogate pair, as paths do.
        default: What becomes of a value that JSON cannot say.

    Raises:
        TypeError: There is such a value, and no default.
    """
    plain = json_value(value)
    return json.dumps(plain, indent=indent, ensure_ascii=ascii_only, allow_nan=False, default=default)
