"""Channel ablation: what does the image lose without a channel, a head, or each layer's strongest channel?

Source: the thesis on an XAI interface for diffusion models, sections 4.1.3 and 5.2.2: the output of a channel is set to
zero for the whole sampling process; normalised SSIM compares the final samples (tables 5.1 and 5.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

from sfumato.bounds import shown
from sfumato.errors import OptionError
from sfumato.generation.context import Attachment
from sfumato.generation.feature_layers import Layer, chosen, layers_of
from sfumato.generation.generate import generate
from sfumato.generation.interventions.channels import AblateChannels, AblateHeads, How
from sfumato.generation.recorders.activations import Activations
from sfumato.generation.step_gradients import region_gradients, step_with_gradients
from sfumato.generation.trace import Trace
from sfumato.methods.costs import runs
from sfumato.methods.masks import mask_of, on_latent
from sfumato.metrics.structure import maximum_channel, normalised_ssim
from sfumato.models.model import Model
from sfumato.models.schedulers import nearest_steps
from sfumato.option_values import STEPS, TIMESTEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import resized

BATCH = 8
WATCHED = 10
CHANGED = 0.1
"""A pixel has changed where its colours moved by more than this share of their range."""


@dataclass(frozen=True)
class AblationOptions:
    """Options of ``ablation``."""

    channels: tuple[str, ...] = field(
        default=(),
        metadata={"pattern": "glob", "help": "LAYER:CHANNEL, such as downs.0.3:41 (several: all of them at once)"},
    )
    heads: tuple[str, ...] = field(
        default=(), metadata={"pattern": "glob", "help": "LAYER:HEAD of attention layers, likewise"}
    )
    sweep: tuple[str, ...] = field(
        default=(),
        metadata={
            "pattern": "glob",
            "help": "instead: of each of these layers (names or globs), its maximum channel alone",
        },
    )
    rank: str | None = field(
        default=None,
        metadata={
            "pattern": "glob",
            "help": "instead: of this layer every channel alone, ranked by what it changes",
        },
    )
    how: Literal["zero", "mean", "scale"] = field(
        default="zero", metadata={"help": "set to zero, to the mean over places, or multiply by the factor"}
    )
    factor: float = field(default=0.0, metadata={"least": -1e6, "most": 1e6, "help": "of how=scale"})
    steps: tuple[int, ...] | None = field(default=None, metadata=STEPS | {"help": "only at these steps (from 0); all"})
    mask: str | None = field(
        default=None,
        metadata={
            "disk": "mask",
            "help": "a region or a black and white PNG: for maximum channels and for the ranking",
        },
    )
    by: Literal["activations", "gradients"] = field(
        default="activations", metadata={"help": "what the maximum channel of a sweep is the maximum of"}
    )
    at: int = field(default=200, metadata=TIMESTEPS | {"help": "timestep at which the maximum channel is found"})

    def __post_init__(self) -> None:
        """Check what the options mean together."""
        for name in ("channels", "heads"):
            pairs = [_pair(name, one) for one in getattr(self, name)]
            if twice := [pair for pair in dict.fromkeys(pairs) if pairs.count(pair) > 1]:
                raise OptionError(f"{name} names {twice[0][0]}:{twice[0][1]} twice; one intervention on each")
        if self.by == "gradients" and self.mask is None:
            raise OptionError("by=gradients needs a mask: the gradients are those of a part of the image")

    @property
    def change(self) -> tuple[How, float]:
        """How, and the value, as the changes take them."""
        table: dict[str, tuple[How, float]] = {
            "zero": ("value", 0.0),
            "mean": ("mean", 0.0),
            "scale": ("scale", self.factor),
        }
        return table[self.how]


def _cost(model: Model, request: CompletedRequest, options: AblationOptions) -> str:
    _check_what(options)
    if options.channels or options.heads:
        return runs(model, request, 2)
    known = layers_of(model, request)
    if options.sweep:
        count = len(chosen(options.sweep, known))
    else:
        count = sum(layer.channels for layer in chosen([str(options.rank)], known))
    more = f", then {len(model.branches(request).names)} calls with gradients" if options.by == "gradients" else ""
    return runs(model, request, count + 1) + (more if options.sweep else "")


@method(
    "ablation",
    summary="What does the image lose without a channel, a head, or each layer's strongest channel?",
    options=AblationOptions,
    needs=("replay",),
    cost=_cost,
    paper="An XAI interface for diffusion models (thesis), section 4.1.3: channel ablation",
)
def ablation(
    model: Model, requests: Sequence[CompletedRequest], options: AblationOptions, progress: Progress
) -> list[Explanation]:
    """Ablate in the generation of every request."""
    return [_explained(model, request, options, progress) for request in requests]


def _explained(model: Model, request: CompletedRequest, options: AblationOptions, progress: Progress) -> Explanation:
    _check_what(options)
    if request.images != 1:
        raise OptionError("ablation follows one image; explain each seed by itself")
    if options.steps is not None and (wrong := [s for s in options.steps if not 0 <= s < model.steps(request)]):
        raise OptionError(f"steps has {wrong[0]}; this run has steps 0 to {model.steps(request) - 1}")
    mask = None
    if options.mask is not None:
        mask = mask_of(model, request, options.mask)
    if options.channels or options.heads:
        return _once(model, request, options, mask, progress)
    return _swept(model, request, options, mask, progress)


def _check_what(options: AblationOptions) -> None:
    ways = (bool(options.channels or options.heads), bool(options.sweep), options.rank is not None)
    if sum(ways) != 1:
        raise OptionError(
            "say what to ablate, in one way: channels=LAYER:CHANNEL and heads=LAYER:HEAD, sweep=LAYERS, or rank=LAYER"
        )


def _once(
    model: Model,
    request: CompletedRequest,
    options: AblationOptions,
    mask: NDArray[np.bool_] | None,
    progress: Progress,
) -> Explanation:
    """All interventions together, with the touched layers' activations before and after."""
    changes = _changes(model, request, options)
    layers = list(dict.fromkeys(layer for layer, _ in (_pair("channels", one) for one in options.channels)))
    count = model.steps(request)
    steps = sorted({round(i * (count - 1) / max(1, min(WATCHED, count) - 1)) for i in range(min(WATCHED, count))})
    seen: list[dict[tuple[str, int], NDArray[Any]]] = [{}, {}]
    traces = []
    for number, attached in enumerate(([], changes)):
        watch = Activations(layers, _collect(seen[number]), set(steps))
        traces.append(generate(model, request, attachments=[*attached, watch], progress=progress))
    plain, ablated = traces
    nodes = {"ablation": _compared(plain.images[0], [ablated.images[0]], mask).isel(run=0)}
    for layer in layers:
        numbers = [channel for name, channel in (_pair("channels", one) for one in options.channels) if name == layer]
        before, after = (np.stack([of[layer, step][numbers] for step in steps]) for of in seen)
        dims = ("step", "channel", "y", "x")
        nodes[f"ablated_layers/{layer}"] = xr.Dataset(
            {"before": (dims, before), "after": (dims, after)},
            coords={"step": ("step", steps), "channel": ("channel", numbers)},
        )
    return plain.explanation(0, nodes)


def _swept(
    model: Model,
    request: CompletedRequest,
    options: AblationOptions,
    mask: NDArray[np.bool_] | None,
    progress: Progress,
) -> Explanation:
    """One channel at a time, several images of the batch with different channels."""
    known = layers_of(model, request)
    how, value = options.change
    step = nearest_steps(model, request, [options.at])[0]
    if options.rank is not None:
        found = chosen([options.rank], known)
        pairs = [(layer.name, channel) for layer in found for channel in range(layer.channels)]
        plain = generate(model, request, progress=progress)
    else:
        names = [layer.name for layer in chosen(options.sweep, known)]
        plain, channels = _maximum_channels(model, request, names, step, mask, options.by, progress)
        pairs = list(zip(names, channels, strict=True))
    images: list[Image.Image] = []
    for start in range(0, len(pairs), BATCH):
        some = pairs[start : start + BATCH]
        changes: list[Attachment] = [
            AblateChannels(layer, (channel,), value, how, options.steps, items=(item,))
            for item, (layer, channel) in enumerate(some)
        ]
        images += generate(model, [request] * len(some), attachments=changes).images
        progress("ablations", min(start + BATCH, len(pairs)), len(pairs))
    compared = _compared(plain.images[0], images, mask)
    effect = 1 - compared["normalised_ssim"].values if mask is None else compared["change_in_mask"].values
    order = np.argsort(-effect, kind="stable") if options.rank is not None else np.arange(len(pairs))
    labelled = compared.assign_coords(
        layer=("run", [layer for layer, _ in pairs]), channel_number=("run", [channel for _, channel in pairs])
    )
    return plain.explanation(0, {"sweep": labelled.isel(run=order)})


def _maximum_channels(
    model: Model,
    request: CompletedRequest,
    names: Sequence[str],
    step: int,
    mask: NDArray[np.bool_] | None,
    by: str,
    progress: Progress,
) -> tuple[Trace, list[int]]:
    """The plain run, and each layer's maximum channel at a step: of its activations, or of its gradient maps."""
    seen: dict[tuple[str, int], NDArray[Any]] = {}
    watch = Activations(names, _collect(seen), {step})
    record = {step} if by == "gradients" else False
    plain = generate(model, request, attachments=[watch], record=record, progress=progress)
    maps = {name: seen[name, step] for name in names}
    if by == "gradients":
        assert mask is not None
        inside = torch.from_numpy(on_latent(mask, model, request))
        stepped = step_with_gradients(plain, step, layers=names)
        _, *found = region_gradients(stepped, inside)
        pairs = zip(stepped.features, found, strict=True)
        maps = {name: gradient[0].float().cpu().numpy() for name, gradient in pairs}
    weights = {name: None if mask is None else resized(mask, maps[name].shape[-2:]) for name in names}
    return plain, [maximum_channel(maps[name], weights[name]) for name in names]


def _compared(plain: Image.Image, images: Sequence[Image.Image], mask: NDArray[np.bool_] | None) -> xr.Dataset:
    """Every image and the plain one: picture, normalised SSIM, where it changed, how much in the mask and outside."""
    before = np.asarray(plain.convert("RGB"), np.float64)
    pictures = np.stack([np.asarray(image.convert("RGB")) for image in images])
    moved = np.abs(pictures - before).max(-1) / 255  # (run, y, x)
    data: dict[str, Any] = {
        "picture": (("run", "row", "column", "channel"), pictures),
        "normalised_ssim": (
            "run",
            [normalised_ssim(before.transpose(2, 0, 1), one.transpose(2, 0, 1)) for one in pictures],
        ),
        "moved": (("run", "y", "x"), moved.astype(np.float32)),
        "changed": (("run", "y", "x"), moved > CHANGED),
    }
    if mask is not None:
        data["change_in_mask"] = ("run", moved[:, mask].mean(1))
        data["change_outside"] = ("run", moved[:, ~mask].mean(1))
        data["mask"] = (("y", "x"), mask)
    return xr.Dataset(data, attrs={"method": "ablation", "changed": f"moved by more than {CHANGED:.0%} of the range"})


def _changes(model: Model, request: CompletedRequest, options: AblationOptions) -> list[Attachment]:
    """The interventions of the options, each layer and number checked against the model."""
    known = layers_of(model, request)
    how, value = options.change
    grouped: dict[str, list[int]] = {}
    for one in options.channels:
        name, channel = _pair("channels", one)
        layer = _exact(name, known)
        if channel >= layer.channels:
            raise OptionError(f"{name} has channels 0 to {layer.channels - 1}; there is no channel {channel}")
        grouped.setdefault(name, []).append(channel)
    heads: dict[str, list[int]] = {}
    for one in options.heads:
        name, head = _pair("heads", one)
        _exact(name, known)
        heads.setdefault(name, []).append(head)
    return [
        *(AblateChannels(name, tuple(numbers), value, how, options.steps) for name, numbers in grouped.items()),
        *(AblateHeads(name, tuple(numbers), value, how, options.steps) for name, numbers in heads.items()),
    ]


def _exact(name: str, known: Sequence[Layer]) -> Layer:
    """The layer of a name; a glob is no name, since a channel's number belongs to one layer."""
    found = {layer.name: layer for layer in known}
    if name not in found:
        if any(sign in name for sign in "*?"):
            raise OptionError(f"{shown(name)} is a pattern; channels and heads need the name of one layer")
        chosen([name], known)
    return found[name]


def _pair(option: str, text: str) -> tuple[str, int]:
    name, colon, number = text.rpartition(":")
    if not colon or not name or not number.isdecimal() or len(number) > 9:
        raise OptionError(f"{option} has {shown(text)}; expected LAYER:NUMBER, such as downs.0.3:41")
    return name, int(number)


def _collect(into: dict[tuple[str, int], NDArray[Any]]) -> Any:
    def take(name: str, step: int, maps: torch.Tensor) -> None:
        into[name, step] = maps[0].float().cpu().numpy()

    return take
