"""A drawing of a denoiser from its real module tree, on which layers are picked by clicking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from torch import nn

from sfumato.app.pieces.piece import piece
from sfumato.generation.feature_layers import Layer
from sfumato.models.model import Model

EMPTY = "The drawing comes with the first look at the model; it takes one call of its network."
MAIN = 2
"""Parts that a layer's name may have inside its block to be listed before all are asked for."""


@dataclass(frozen=True)
class Block:
    """A part of the denoiser: an entry of one of its lists, or a module that stands alone.

    Attributes:
        name: Its path inside the denoiser.
        kind: Its class.
        alone: Whether it is no entry of a list.
        layers: Those inside it whose outputs are feature maps, in order of execution.
    """

    name: str
    kind: str
    alone: bool
    layers: tuple[Layer, ...]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width on which most of its layers work."""
        return Counter((layer.height, layer.width) for layer in self.layers).most_common(1)[0][0]

    @property
    def cells(self) -> list[Layer]:
        """Its largest parts: the layers that lie in no other layer of it; the block itself where it has no parts."""
        names = {layer.name for layer in self.layers} - {self.name}
        inner = [layer for layer in self.layers if layer.name in names and not _lies_in(layer.name, names)]
        return inner or list(self.layers[-1:])


def schematic(elem_id: str, *, most: int, note: str) -> gr.HTML:
    """The component, empty. Its value has ``chosen``, the names of the layers that are picked.

    Args:
        elem_id: Its own.
        most: How many layers can be picked; one takes the place of another where it is 1.
        note: What it says while nothing is picked.
    """
    return piece("schematic", {"empty": EMPTY, "most": most, "note": note, "chosen": []}, elem_id=elem_id)


def picked(value: Any) -> tuple[str, ...]:
    """The names in a component's value, as they came from the browser: to be checked against the model."""
    chosen = value.get("chosen", ()) if isinstance(value, dict) else ()
    return tuple(str(one)[:300] for one in chosen)[:64] if isinstance(chosen, list | tuple) else ()


def blocks_of(denoiser: nn.Module, layers: Sequence[Layer]) -> list[Block]:
    """The blocks of a denoiser that hold layers, in order of execution."""
    kinds: dict[str, tuple[str, bool]] = {}
    for name, child in denoiser.named_children():
        if isinstance(child, nn.ModuleList):
            kinds |= {f"{name}.{number}": (type(one).__name__, False) for number, one in enumerate(child)}
        else:
            kinds[name] = (type(child).__name__, True)
    found: dict[str, list[Layer]] = {}
    for layer in layers:
        owner = next((name for name in kinds if layer.name == name or layer.name.startswith(f"{name}.")), None)
        if owner is not None:
            found.setdefault(owner, []).append(layer)
    return [Block(name, *kinds[name], tuple(inside)) for name, inside in found.items()]


def sides_of(blocks: Sequence[Block], *, transformer: bool = False) -> list[str]:
    """Where each block stands: "down", "middle" or "up" of a U; "column" where all work on one grid.

    Args:
        blocks: In order of execution.
        transformer: Whether they are those of one, whatever the shapes of what they compute on the way.
    """
    areas = [block.grid[0] * block.grid[1] for block in blocks]
    lowest = min(areas, default=0)
    if transformer or lowest == max(areas, default=0):
        return ["column"] * len(blocks)
    at_bottom = [place for place, area in enumerate(areas) if area == lowest]
    middle = [place for place in at_bottom if blocks[place].alone] or at_bottom[len(at_bottom) // 2 :][:1]
    sides = ["down" if place < middle[0] else "up" for place in range(len(blocks))]
    for place in middle:
        sides[place] = "middle"
    return sides


def drawing(model: Model, layers: Sequence[Layer]) -> dict[str, Any]:
    """What the component draws: blocks in order with their side and level, and the layers inside each.

    Args:
        model: Whose denoiser it is.
        layers: From ``layers_of``.
    """
    blocks = blocks_of(model.denoiser, layers)
    attention = {site.name for site in model.sites()}
    transformer = any(site.place in ("block", "single") for site in model.sites())
    grids = sorted({block.grid for block in blocks}, key=lambda grid: -grid[0] * grid[1])
    drawn = []
    for block, side in zip(blocks, sides_of(blocks, transformer=transformer), strict=True):
        cells = {layer.name for layer in block.cells}
        drawn.append(
            {
                "name": block.name,
                "kind": block.kind,
                "side": side,
                "level": grids.index(block.grid),
                "layers": [_layer(layer, block, attention, layer.name in cells) for layer in block.layers],
            }
        )
    return {"blocks": drawn, "levels": [f"{height} × {width}" for height, width in grids]}


def _layer(layer: Layer, block: Block, attention: set[str], cell: bool) -> dict[str, Any]:
    within = layer.name[len(block.name) + 1 :]
    if any(_lies_in(site, {layer.name}) or site == layer.name for site in attention):
        role = "attention"
    elif cell and (layer.height, layer.width) != block.grid:
        role = "sampling"
    else:
        role = ""
    return {
        "name": layer.name,
        "short": within or "whole block",
        "kind": layer.kind,
        "size": f"{layer.channels} × {layer.height} × {layer.width}",
        "role": role,
        "cell": cell,
        "main": cell or within.count(".") < MAIN or layer.name in attention,
    }


def _lies_in(name: str, others: set[str]) -> bool:
    """Whether a module is inside one of others."""
    parts = name.split(".")
    return any(".".join(parts[:count]) in others for count in range(1, len(parts)))
