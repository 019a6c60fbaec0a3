"""The layers of a denoiser by name: which have feature maps as outputs, how large those are, and which a glob means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from re import Pattern
from typing import Any

from torch import nn

from sfumato.errors import OptionError
from sfumato.generation.context import GenerationContext
from sfumato.generation.generate import generate
from sfumato.generation.recorders.activations import FeatureMaps
from sfumato.models.model import Model
from sfumato.request import CompletedRequest


@dataclass(frozen=True)
class Layer:
    """A module of the denoiser whose output is a feature map.

    Attributes:
        name: Its path inside the denoiser.
        kind: Its class.
        channels: Of the output.
        height: Of the output.
        width: Of the output.
    """

    name: str
    kind: str
    channels: int
    height: int
    width: int

    @property
    def bytes(self) -> int:
        """Of one output in float32."""
        return 4 * self.channels * self.height * self.width


def layers_of(model: Model, request: CompletedRequest) -> list[Layer]:
    """Every module whose output is a feature map, in order of execution, found by one call of the denoiser.

    Args:
        model: The model.
        request: Completed; its size counts, and its first step is run.
    """
    found: dict[str, Layer] = {}
    others: set[str] = set()  # modules that are also called on something else, such as the time's embedding
    maps = FeatureMaps(model, request)

    def see(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        features = maps.of(name, output)
        if features is None:
            others.add(name)
        elif name not in found:
            kind = type(module).__name__
            found[name] = Layer(name, kind, features.shape[1], features.shape[2], features.shape[3])

    def look(run: GenerationContext) -> None:
        for name, module in run.model.denoiser.named_modules():
            if name:
                run.hooks.after(module, lambda *told, name=name: see(name, *told))

    first_call(model, request, look)
    return [layer for name, layer in found.items() if name not in others]


def attention_layers(model: Model, layers: Sequence[Layer]) -> list[Layer]:
    """Those layers in which positions of the image attend to one another, alone or together with the text.

    Args:
        model: The model.
        layers: From ``layers_of``.
    """
    sites = {site.name for site in model.sites() if site.mixes_positions}
    return [layer for layer in layers if layer.name in sites]


def usual_layers(model: Model, layers: Sequence[Layer]) -> list[Layer]:
    """The layers that are looked into where none are chosen: of attention, or the outputs of blocks where it has none.

    Args:
        model: The model.
        layers: From ``layers_of``.

    Raises:
        OptionError: The denoiser has neither.
    """
    found = attention_layers(model, layers)
    found = found or [layer for layer in layers if layer.name.count(".") <= 1 and layer.channels > 1]
    if not found:
        raise OptionError(f"the denoiser of {model.source.name} has no layer whose output is a feature map")
    return found


def first_call(model: Model, request: CompletedRequest, look: Callable[[GenerationContext], None]) -> None:
    """Run the first call of the denoiser and no more.

    Args:
        model: The model.
        request: Completed; one image of it is begun.
        look: Registers hooks on the run.
    """

    class Look:
        def install(self, run: GenerationContext) -> None:
            look(run)
            run.hooks.after(run.model.denoiser, _stop)

    with suppress(_Seen):
        generate(model, request.with_(images=1), attachments=[Look()])


def chosen(patterns: Sequence[str], layers: Sequence[Layer]) -> list[Layer]:
    """The layers that names or globs mean, in order of execution.

    Args:
        patterns: Such as "downs.*.3", where ``*`` is one part of a name, or "**.fn", where ``**`` is any.
        layers: From ``layers_of``.

    Raises:
        OptionError: A pattern matches nothing; the message lists the closest names.
    """
    names = [layer.name for layer in layers]
    rules = [_rule(pattern) for pattern in patterns]
    for pattern, rule in zip(patterns, rules, strict=True):
        if not any(rule.fullmatch(name) for name in names):
            near = difflib.get_close_matches(pattern.replace("*", ""), names, n=4, cutoff=0.3) or names[:4]
            raise OptionError(
                f"no layer matches {pattern!r}; near are: {', '.join(near)} (`sfumato layers MODEL` lists all)"
            )
    return [layer for layer in layers if any(rule.fullmatch(layer.name) for rule in rules)]


def _rule(pattern: str) -> Pattern[str]:
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    table = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    return re.compile("".join(table.get(part, re.escape(part)) for part in parts))


class _Seen(Exception):
    """The first call of the denoiser is done."""


def _stop(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
    raise _Seen
