"""What the tab Process asks of models: a profile with its layers, a part of the image, and what was found out of both.

All that touches a model here runs in a worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from sfumato.app.asking.inputs import MOST_STEPS, MOST_TEXT, check_pattern, number, request_fields
from sfumato.app.asking.links import Asked
from sfumato.app.pieces.schematic import drawing
from sfumato.errors import RequestError
from sfumato.generation.feature_layers import Layer, layers_of, usual_layers
from sfumato.metrics.structure import maximum_channel
from sfumato.models.model import Model
from sfumato.models.notes import notes_of, regions_of
from sfumato.request import CompletedRequest, Request
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import resized

MOST_LAYERS = 6
"""As many layers as the source's interface shows at a time."""
BUDGET_MB = 48.0
FIELDS = ("model", "seed", "steps", "guidance", "every")


@dataclass(frozen=True)
class Wanted:
    """A profile, as text of a form.

    Attributes:
        model: Name on the page.
        condition: The prompt or the label; empty for models that read neither.
        seed: Of the image.
        steps: Left empty: the model's own.
        guidance: Likewise.
        every: Keep every so many steps; left empty, about ten are kept.
        layers: Whose activations are kept; none: some that the page chooses.
    """

    model: str
    condition: str = ""
    seed: str = "0"
    steps: str = ""
    guidance: str = ""
    every: str = ""
    layers: tuple[str, ...] = ()

    @classmethod
    def from_query(cls, query: Mapping[str, str], model: str) -> Wanted:
        """What a link asks for; what it does not say is as in an empty form."""
        given = {"model": model} | {name: str(query[name])[:MOST_TEXT] for name in FIELDS if name in query}
        given["condition"] = str(query.get("process", ""))[:MOST_TEXT]
        layers = tuple(one for one in str(query.get("layers", ""))[:MOST_TEXT].split(",") if one)
        return cls(**given, layers=layers)

    @property
    def link(self) -> str:
        """The query string that says the same."""
        said = {"process": self.condition, "model": self.model}
        said |= {name: getattr(self, name) for name in ("steps", "guidance", "every") if getattr(self, name).strip()}
        if self.seed not in ("", "0"):
            said["seed"] = self.seed
        if self.layers:
            said["layers"] = ",".join(self.layers)
        return urlencode(said)

    def request(self, model: Model, *, condition: str | None = None) -> CompletedRequest:
        """The request, completed by the model.

        Args:
            model: The model.
            condition: Another prompt or label than the form's.

        Raises:
            RequestError: A field cannot be read, or is out of bounds; or the condition is missing.
        """
        text = self.condition if condition is None else condition
        if model.features & {"words", "label"}:
            return Asked(self.model, text, self.seed, self.steps, self.guidance).requests(model)[0]
        return model.complete(Request(**request_fields(seed=self.seed, steps=self.steps, guidance=self.guidance)))

    def options(self, facts: Facts) -> dict[str, Any]:
        """Options of the method ``profile``.

        Raises:
            SfumatoError: A number cannot be read, too many layers are chosen, or one is no name of a layer, nor a glob
                that the page takes.
        """
        if len(self.layers) > MOST_LAYERS:
            raise RequestError(
                f"{len(self.layers)} layers are chosen; at most {MOST_LAYERS} are shown at a time: take some away"
            )
        names = {layer.name for layer in facts.layers}
        for one in self.layers:
            if one not in names:
                check_pattern("a layer", one)
        return {
            "every": number("the sampling resolution", self.every, 1, MOST_STEPS) or 0,
            "layers": self.layers or facts.first,
            "budget": BUDGET_MB,
        }


@dataclass(frozen=True)
class Facts:
    """What the page knows of a model.

    Attributes:
        reads: "words", "bits" (a label of yes or no for each attribute), "label" (as text) or "nothing".
        attributes: Names of the bits of a label, in order.
        regions: Parts of its images that the model names.
        layers: Those whose outputs are feature maps, in order of execution.
        first: Layers that are looked into where none are chosen: at most six attention layers, or outputs of blocks.
        schematic: The drawing of the denoiser, for ``pieces.schematic``.
    """

    reads: str
    attributes: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()
    first: tuple[str, ...] = ()
    schematic: dict[str, Any] = field(default_factory=dict)


def what_it_reads(model: Model) -> Facts:
    """What costs nothing to know: how the condition is written, and the named parts."""
    attributes = notes_of(model.pipeline).attributes
    if "words" in model.features:
        reads = "words"
    elif "label" in model.features:
        reads = "bits" if attributes else "label"
    else:
        reads = "nothing"
    return Facts(reads, attributes, tuple(regions_of(model.pipeline)))


def facts_of(model: Model, request: CompletedRequest) -> Facts:
    """All facts, which takes one call of the denoiser.

    Args:
        model: The model.
        request: The grids of layers are those of its size.
    """
    known = tuple(layers_of(model, request))
    plain = what_it_reads(model)
    drawn = drawing(model, known)
    return Facts(plain.reads, plain.attributes, plain.regions, known, first_layers(model, known), drawn)


def first_layers(model: Model, known: Sequence[Layer]) -> tuple[str, ...]:
    """At most six layers to begin with, evenly over the denoiser: attention, or the outputs of its blocks."""
    found = [layer.name for layer in usual_layers(model, known)]
    if len(found) <= MOST_LAYERS:
        return tuple(found)
    places = sorted({round(place) for place in np.linspace(0, len(found) - 1, MOST_LAYERS)})
    return tuple(found[place] for place in places)


def label_from(attributes: Sequence[str], chosen: Sequence[str]) -> str:
    """A label of bits, such as "0011", from the names of those that are on."""
    return "".join("1" if one in chosen else "0" for one in attributes)


def names_of(attributes: Sequence[str], label: str) -> list[str]:
    """The names of the bits that are on."""
    return [name for name, bit in zip(attributes, label, strict=False) if bit == "1"]


def said_condition(facts: Facts, condition: str) -> str:
    """A prompt or a label as people read it: of bits, the names of those that are on."""
    if facts.reads != "bits":
        return condition
    return ", ".join(names_of(facts.attributes, condition)) or f"none of {', '.join(facts.attributes)}"


@dataclass(frozen=True)
class Part:
    """A part of the image that somebody chose.

    Attributes:
        name: "drawn", or what the model calls it.
        inside: (y, x), true inside, at the size of the image.
    """

    name: str
    inside: NDArray[np.bool_]

    @property
    def option(self) -> Any:
        """What a method's option ``mask`` is given."""
        return self.inside if self.name == "drawn" else self.name


def said_of(explanation: Explanation, part: Part) -> Explanation:
    """The same explanation, its provenance naming the part instead of listing its pixels."""
    options = dict(explanation.provenance.get("options", {})) | {"mask": part.name}
    return Explanation(explanation.tree, explanation.request, explanation.provenance | {"options": options})


def strongest(maps: NDArray[Any], part: Part | None) -> list[int]:
    """The maximum channel at every step: c* = argmax_c of the sum over places, inside a part where one is given.

    Args:
        maps: (step, channel, y, x).
        part: Brought to the grid of the maps.
    """
    weights = None if part is None else resized(part.inside, (maps.shape[2], maps.shape[3]))
    return [maximum_channel(one, weights) for one in maps]
