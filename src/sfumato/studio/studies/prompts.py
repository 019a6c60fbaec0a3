"""The prompts of studies, and what each of their words speaks of."""

from __future__ import annotations

from typing import Literal

from sfumato.errors import OptionError
from sfumato.studio.grammar import parsed, say
from sfumato.studio.scenes import held_out_captions

Part = Literal["subject", "relation", "object", "background"]
PARTS: tuple[Part, ...] = ("subject", "relation", "object", "background")


def relation_captions(count: int) -> tuple[str, ...]:
    """Held-out captions of two objects and how one stands to the other.

    Raises:
        OptionError: There are not so many, or none is asked for.
    """
    if isinstance(count, bool) or count < 1:
        raise OptionError(f"prompts is {count}; expected a whole number, 1 or more")
    found = [one for one in held_out_captions(4 * count) if parsed(one).kind == "relation"]
    return tuple(found[:count])


def parts_of(caption: str) -> tuple[Part | None, ...]:
    """For every word of a relation caption the part that it belongs to; None for what belongs to no one part."""
    table: dict[tuple[int, ...], Part] = {(0,): "subject", (0, 1): "relation", (1,): "object"}
    return tuple(
        "background" if said.role == "background" else table.get(said.groups) if said.role == "things" else None
        for said in say(parsed(caption))
    )
