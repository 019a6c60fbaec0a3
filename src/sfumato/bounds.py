"""Bounds of what users give: whole numbers, numbers and texts, checked before any work starts."""

from __future__ import annotations

import math
import os
from numbers import Integral, Real

from sfumato.errors import SfumatoError

MOST_TEXT = 100_000
"""Characters of a prompt, a name or a pattern."""
LONGEST = 80
"""Characters of a value in a message."""
LONGEST_PATH = 400
"""Characters of a path in a message."""


def shown(value: object, most: int = LONGEST) -> str:
    """A value in a message: on one line and of at most so many characters, even where Python cannot write it."""
    if isinstance(value, int) and value.bit_length() > 4000:
        return f"a whole number of about {int(value.bit_length() * math.log10(2)):,} digits"
    try:
        text = " ".join(repr(value[:most] if isinstance(value, str) else value).splitlines())
    except Exception:  # nested too deeply, or a class that cannot be written
        return f"a value of type {type(value).__name__}"
    cut = len(text) > most or (isinstance(value, str) and len(value) > most)
    return text[: most - 3] + "..." if cut else text


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path in a message: as `shown`, but longer, and cut in its middle, since its end says most."""
    text = os.fspath(path)
    half = (LONGEST_PATH - len("...")) // 2
    return shown(text if len(text) <= LONGEST_PATH else f"{text[:half]}...{text[-half:]}", 2 * LONGEST_PATH)


def checked_int(name: str, value: object, least: int, most: int, error: type[SfumatoError]) -> int:
    """A whole number within bounds.

    Args:
        name: How the message calls it.
        value: What was given.
        least: The smallest that is accepted.
        most: The largest.
        error: What is raised.

    Raises:
        SfumatoError: It is another type, or out of bounds.

    Example:
        >>> from sfumato.errors import OptionError
        >>> checked_int("masks", 500, 1, 100_000, OptionError)
        500
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= int(value) <= most:
        raise error(f"{name} is {shown(value)}; expected a whole number from {least} to {most}")
    return int(value)


def checked_number(
    name: str,
    value: object,
    error: type[SfumatoError],
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """A finite number within bounds; one that is an int stays an int.

    Args:
        name: How the message calls it.
        value: What was given.
        error: What is raised.
        least: The smallest that is accepted.
        most: The largest.
        above: All that is accepted is larger than this.
        below: All that is accepted is smaller than this.

    Raises:
        SfumatoError: It is another type, not finite, or out of bounds.
    """
    number = _finite(value)
    if (
        number is None
        or (least is not None and number < least)
        or (most is not None and number > most)
        or (above is not None and number <= above)
        or (below is not None and number >= below)
    ):
        raise error(f"{name} is {shown(value)}; expected {_expected(least, most, above, below)}")
    return number


def checked_text(name: str, value: object, error: type[SfumatoError], most: int = MOST_TEXT) -> str:
    """A text that can be stored and printed.

    Args:
        name: How the message calls it.
        value: What was given.
        error: What is raised.
        most: Characters that it may have.

    Raises:
        SfumatoError: It is no text, too long, or holds NUL or half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise error(f"{name} is {type(value).__name__}; expected text")
    if len(value) > most:
        raise error(f"{name} has {len(value):,} characters; at most {most:,} are accepted")
    if "\0" in value:
        raise error(f"{name} contains a NUL character at place {value.index(chr(0))}; remove it")
    try:
        value.encode()
    except UnicodeEncodeError as wrong:
        raise error(
            f"{name} contains half of a surrogate pair at place {wrong.start}, which is no valid text; remove it"
        ) from None
    return value


def _finite(value: object) -> float | None:
    """A finite number as an int or a float; None for all else."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = int(value) if isinstance(value, Integral) else float(value)
        return number if math.isfinite(number) else None
    except OverflowError:  # a whole number beyond all floating-point numbers
        return None


def _expected(least: float | None, most: float | None, above: float | None, below: float | None) -> str:
    """Bounds in words."""
    if least is not None and most is not None:
        return f"a number from {least:.12g} to {most:.12g}"
    if above is not None and below is not None:
        return f"a number between {above:.12g} and {below:.12g}, both excluded"
    lower = f"above {above:.12g}" if above is not None else f"{least:.12g} or more" if least is not None else ""
    upper = f"below {below:.12g}" if below is not None else f"at most {most:.12g}" if most is not None else ""
    return (
        f"a number {lower}, {upper}" if lower and upper else ", ".join(filter(None, ("a finite number", lower, upper)))
    )
