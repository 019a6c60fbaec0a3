"""Diffusers pipelines of every family with random weights: the real classes and topologies at tiny sizes.

Nothing is downloaded or read from disk. `FAMILIES` lists them all; `family("Flux dev").build()` is a pipeline ready to
be called with `family("Flux dev").arguments` and a generator.
"""

from __future__ import annotations

from tests.families.adapters import ADAPTERS
from tests.families.cross import CROSS
from tests.families.family import Family
from tests.families.joint import JOINT
from tests.families.kandinsky import KANDINSKY
from tests.families.qwen import QWEN
from tests.families.textless import TEXTLESS
from tests.families.unets import UNETS

__all__ = ["FAMILIES", "Family", "family"]

FAMILIES: tuple[Family, ...] = (*UNETS, *ADAPTERS, *JOINT, *QWEN, *CROSS, *KANDINSKY, *TEXTLESS)


def family(name: str) -> Family:
    """The family of that name.

    Raises:
        LookupError: If there is none.
    """
    for found in FAMILIES:
        if found.name == name:
            return found
    raise LookupError(f"{name!r} is not a family; the families are: {'; '.join(each.name for each in FAMILIES)}")
