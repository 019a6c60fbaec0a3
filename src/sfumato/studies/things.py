"""What several studies ask of an image's objects."""

from __future__ import annotations

from sfumato.mapped import Mapped
from sfumato.studio.grammar import parsed
from sfumato.studio.reader import Reading, SeenThing

EXAMPLES = 4
"""So many examples are drawn."""


def of_shape(reading: Reading, shape: str) -> SeenThing | None:
    """The largest seen object of a shape."""
    return next((thing for thing in reading.things if thing.shape == shape), None)


def title(one: Mapped) -> str:
    """The objects of a prompt: "red circle and blue square"."""
    return " and ".join(f"{group.colour} {group.shape}" for group in parsed(one.request.prompt).groups)
