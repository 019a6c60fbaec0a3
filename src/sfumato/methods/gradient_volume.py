"""The pixel-wise gradient volume: where did a part of x_t draw its information from x_{t+1}?

Source: the thesis on an XAI interface for diffusion models, section 4.1.1 and listing C.3: d x_t^{i,j} / d x_{t+1} for
the K pixels of a mask, colours summed on both sides. Two readings: through the posterior mean (the listing) or through
the predicted noise alone (equation 4.1.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from sfumato.errors import BudgetExceeded, OptionError
from sfumato.generation.feature_layers import chosen, layers_of
from sfumato.generation.generate import generate
from sfumato.generation.step_gradients import Branch, Reading, gradients, region_gradients, step_with_gradients
from sfumato.generation.trace import Trace
from sfumato.methods.costs import runs
from sfumato.methods.masks import mask_of, on_latent
from sfumato.metrics import effective_area
from sfumato.metrics.structure import maximum_channel
from sfumato.models.model import Model
from sfumato.models.notes import regions_of
from sfumato.models.schedulers import nearest_steps
from sfumato.option_values import MEGABYTES, TIMESTEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.meaning import Meaning
from sfumato.results.upscale import resized

CHUNK_ON_DEVICE = 16
"""Pixels of one vectorised backward on an accelerator; on a CPU one at a time is as fast and needs less memory."""


@dataclass(frozen=True)
class GradientVolumeOptions:
    """Options of ``gradient_volume``."""

    mask: str | None = field(
        default=None,
        metadata={"disk": "mask", "help": "the part: a region that the model names, or a black and white PNG"},
    )
    timesteps: tuple[int, ...] = field(
        default=(950, 700, 600, 100),
        metadata=TIMESTEPS | {"help": "the steps nearest to these timesteps, such as 950,700,600,100"},
    )
    reading: Reading = field(
        default="mean", metadata={"help": "what is derived: the posterior mean, or the predicted noise"}
    )
    branch: Branch = field(
        default="guided", metadata={"help": "with guidance, as the sample was made, or the conditional branch alone"}
    )
    mode: Literal["volume", "region"] = field(
        default="volume", metadata={"help": "a map for every pixel, or only their sum, by one backward pass"}
    )
    layers: tuple[str, ...] = field(
        default=(),
        metadata={
            "pattern": "glob",
            "help": "also gradient maps of these layers (names or globs), from the same passes",
        },
    )
    budget: float = field(default=500.0, metadata=MEGABYTES | {"help": "most memory that the volumes may take, in MB"})

    def __post_init__(self) -> None:
        """Check what the options mean together."""
        if not self.timesteps:
            raise OptionError("timesteps is empty; give some, such as 950,700,600,100")


def _cost(model: Model, request: CompletedRequest, options: GradientVolumeOptions) -> str:
    steps = len(_steps(model, request, options))
    pixels = int(_inside(model, request, options).sum())
    calls = steps * len(model.branches(request).names)
    passes = pixels if options.mode == "volume" else 1
    return (
        f"{runs(model, request)}, then {steps} steps ({calls} calls) with {passes} backward passes each "
        f"({pixels} pixels)"
    )


@method(
    "gradient_volume",
    summary="Where did a part of the image draw its information from, one step before?",
    options=GradientVolumeOptions,
    needs=("replay",),
    cost=_cost,
    paper="An XAI interface for diffusion models (thesis), section 4.1.1: the pixel-wise gradient volume",
)
def gradient_volume(
    model: Model, requests: Sequence[CompletedRequest], options: GradientVolumeOptions, progress: Progress
) -> list[Explanation]:
    """Compute the volumes of every request, one generation each.

    ``effective_area`` is the share of the image from which a pixel of the mask draws, by
    `sfumato.metrics.effective_area`, as the mean over these pixels; it needs the whole volume (``mode="volume"``).
    """
    return [_explained(model, request, options, progress) for request in requests]


def thresholded(volume: NDArray[Any]) -> NDArray[Any]:
    """A volume (pixel, y, x) with what does not exceed its mean set to zero (the source's figure 5.8)."""
    return np.where(volume > volume.mean(), volume, 0)


def _explained(
    model: Model, request: CompletedRequest, options: GradientVolumeOptions, progress: Progress
) -> Explanation:
    if request.images != 1:
        raise OptionError("gradient_volume follows one image; explain each seed by itself")
    inside = _inside(model, request, options)
    steps = _steps(model, request, options)
    pixels = np.flatnonzero(inside.ravel())
    height, width = inside.shape
    need = 4e-6 * len(steps) * len(pixels) * height * width
    if options.mode == "volume" and need > options.budget:
        raise BudgetExceeded(
            f"the volumes need {need:.3g} MB; the budget is {options.budget:.3g} MB; take fewer timesteps, a smaller "
            "mask, mode=region, or raise the budget"
        )
    names = [layer.name for layer in chosen(options.layers, layers_of(model, request))] if options.layers else []
    trace = generate(model, request, record=set(steps), progress=progress)
    times = [trace.call(step).timestep for step in steps]
    total = len(steps) * len(pixels)
    maps: list[NDArray[Any]] = []
    regions: list[NDArray[Any]] = []
    features: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for number, step in enumerate(steps):
        told = partial(_told, progress, number * len(pixels), total)
        volume, of_layers = _volume(trace, step, options, pixels, names, told)
        if options.mode == "volume":
            maps.append(volume)
        regions.append(volume.sum(0))
        for name, gradient in of_layers.items():
            features[name].append(gradient)
    coords = {"step": ("step", steps), "timestep": ("step", times)}
    attrs = {
        "method": "gradient_volume",
        "reading": options.reading,
        "branch": options.branch,
        "unit": "derivative of the next sample by the sample, channels summed on both sides",
    }
    data: dict[str, Any] = {
        "region": (("step", "y", "x"), np.stack(regions), Meaning("map").attrs),
        "mask": (("y", "x"), inside),
    }
    if options.mode == "volume":
        volumes = np.stack(maps)  # (step, pixel, y, x)
        data["volume"] = (("step", "pixel", "y", "x"), volumes)
        data["effective_area"] = ("step", effective_area(volumes).mean(1))
        coords |= {"pixel_y": ("pixel", pixels // width), "pixel_x": ("pixel", pixels % width)}
    nodes = {"gradient_volume": xr.Dataset(data, coords=coords, attrs=attrs)}
    for name, found in features.items():
        stacked = np.stack(found)  # (step, channel, y, x)
        weights = resized(inside, stacked.shape[-2:])
        nodes[f"gradient_maps/{name}"] = xr.Dataset(
            {
                "map": (("step", "channel", "y", "x"), stacked),
                "max_channel": ("step", [maximum_channel(one) for one in stacked]),
                "max_channel_in_mask": ("step", [maximum_channel(one, weights) for one in stacked]),
            },
            coords={"step": ("step", steps), "timestep": ("step", times)},
            attrs={"method": "gradient_volume", "layer": name},
        )
    return trace.explanation(0, nodes)


def _told(progress: Progress, before: int, total: int, done: int) -> None:
    progress("pixels", before + done, total)


def _volume(
    trace: Trace,
    step: int,
    options: GradientVolumeOptions,
    pixels: NDArray[np.int64],
    layers: Sequence[str],
    done: Callable[[int], None],
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """The volume of one step (pixel, y, x) and the gradient maps of layers (channel, y, x), summed over pixels."""
    stepped = step_with_gradients(trace, step, reading=options.reading, branch=options.branch, layers=layers)
    device = stepped.sample.device
    if options.mode == "region":
        mask = torch.zeros(stepped.result.numel(), device=device)
        mask[torch.from_numpy(pixels).to(device)] = 1
        first, *rest = region_gradients(stepped, mask.reshape(stepped.result.shape))
        volume, sums = first.sum(1), [part[0] for part in rest]
        done(len(pixels))
    else:
        rows: list[torch.Tensor] = []
        sums = [torch.zeros_like(part[0]) for part in stepped.maps(list(stepped.features.values()))]
        chunk = 1 if device.type == "cpu" else CHUNK_ON_DEVICE
        for first, *rest in gradients(stepped, torch.from_numpy(pixels), chunk=chunk):
            rows.append(first.sum(1))
            for total, part in zip(sums, rest, strict=True):
                total += part.sum(0)
            done(sum(map(len, rows)))
        volume = torch.cat(rows)
    named = {name: part.float().cpu().numpy() for name, part in zip(stepped.features, sums, strict=True)}
    return volume.detach().float().cpu().numpy(), named


def _steps(model: Model, request: CompletedRequest, options: GradientVolumeOptions) -> list[int]:
    return nearest_steps(model, request, options.timesteps)


def _inside(model: Model, request: CompletedRequest, options: GradientVolumeOptions) -> NDArray[np.bool_]:
    """The mask on the grid of the latent."""
    if options.mask is None:
        known = ", ".join(regions_of(model.pipeline))
        also = f" (this model names: {known})" if known else ""
        raise OptionError(f"gradient_volume follows a part of the image; give it: mask=FILE.png or mask=REGION{also}")
    return on_latent(mask_of(model, request, options.mask), model, request)
