"""Small models of every kind, and ways to break them, for the methods that look at single steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
import xarray as xr
from diffusers import EDMEulerScheduler

import sfumato
from sfumato.generation.generate import generate
from sfumato.models.loading import STUDIO
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from tests.labels import REQUEST, tiny_labels, tiny_unconditional
from tests.pipelines import PROMPT, fingerprint, stable_diffusion

KINDS = ("text", "labels", "velocity", "unconditional")
REQUESTS = {
    "text": Request(PROMPT, seed=2, steps=3, guidance=4.0, height=16, width=24),
    "labels": REQUEST,
    "velocity": REQUEST,
    "unconditional": Request(seed=3, steps=4),
}
GRIDS = {"text": (8, 12), "labels": (16, 16), "velocity": (16, 16), "unconditional": (8, 8)}
SIZES = {"text": (16, 24), "labels": (16, 16), "velocity": (16, 16), "unconditional": (8, 8)}


CLIP = str(STUDIO / "clip")
"""A CLIP that is given by its folder, as a user does for a model that has none."""


@cache
def model_of(kind: str) -> Model:
    """A model that every test shares and leaves as it was."""
    made = {
        "text": stable_diffusion,
        "labels": tiny_labels,
        "velocity": lambda: tiny_labels(prediction_type="v_prediction"),
        "unconditional": tiny_unconditional,
    }
    return sfumato.wrap(made[kind]())


def in_precision(dtype: torch.dtype, kind: str = "text") -> Model:
    """A model of its own in another precision."""
    pipeline = stable_diffusion() if kind == "text" else tiny_labels()
    return sfumato.wrap(pipeline.to(dtype))


def without_clean_estimate(kind: str = "text") -> Model:
    """A model of its own whose scheduler has no product of alphas."""
    pipeline: Any = stable_diffusion() if kind == "text" else tiny_labels()
    pipeline.scheduler = EDMEulerScheduler()
    assert not hasattr(pipeline.scheduler, "alphas_cumprod")
    return sfumato.wrap(pipeline)


def watched(kind: str, method: str, request: Request | None = None, **options: Any) -> Explanation:
    """An explanation that must have left the model, and the image, as they were without it."""
    model, request = model_of(kind), request or REQUESTS[kind]
    before = fingerprint(model.pipeline)
    found = sfumato.explain(model, request, method, **options)
    assert fingerprint(model.pipeline) == before
    plain = generate(model, request).images[0]
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(plain.convert("RGB")))
    return found


def assert_steps(data: xr.Dataset, kind: str, steps: list[int]) -> None:
    """The dimensions and coordinates that all saliencies of steps have."""
    (height, width), (rows, columns) = GRIDS[kind], SIZES[kind]
    assert dict(data.sizes) | {"step": len(steps), "y": height, "x": width} == dict(data.sizes)
    assert data["map"].dims == ("step", "y", "x")
    assert data["map"].dtype == np.float32
    assert np.isfinite(data["map"].values).all()
    assert data["picture"].dims == ("step", "row", "column", "rgb")
    assert data["picture"].shape == (len(steps), rows, columns, 3)
    assert data["picture"].dtype == np.uint8
    assert data["step"].values.tolist() == steps
    trace = generate(model_of(kind), REQUESTS[kind], record=True)
    assert data["timestep"].values.tolist() == [trace.call(step).timestep for step in steps]
    np.testing.assert_allclose(data["y"], (np.arange(height) + 0.5) / height)
    np.testing.assert_allclose(data["x"], (np.arange(width) + 0.5) / width)


@contextmanager
def not_a_number(model: Model, after: int) -> Iterator[None]:
    """Every output of the denoiser is NaN, once it was called so often."""
    calls = 0

    def spoil(module: Any, args: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        return tuple(one * float("nan") for one in output) if calls > after else None

    hook = model.denoiser.register_forward_hook(spoil)
    try:
        yield
    finally:
        hook.remove()
