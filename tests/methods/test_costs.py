"""What every method says of its cost against the calls of the denoiser that it makes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.generation.feature_layers import layers_of
from sfumato.models.model import Model
from sfumato.registry import find, methods
from sfumato.request import Request
from sfumato.studio.garments import pair
from sfumato.studio.garments_scoring import request_of
from tests.families import family
from tests.methods.steps import CLIP, REQUESTS, model_of

LAYER, MASK = "a layer", "a mask"
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("daam", {}),
    ("shapley", {"similarity_model": CLIP, "cache": False}),
    ("lime", {"similarity_model": CLIP, "cache": False}),
    ("lime_image", {"budget": 40, "superpixels": 4, "clip_model": CLIP}),
    ("segments", {"clip_model": CLIP}),
    ("segments", {"clip_model": CLIP, "by": "saliency"}),
    ("segments", {"clip_model": CLIP, "by": "saliency", "saliency": "integrated"}),
    ("word_gradients", {"through": 2, "clip_model": CLIP}),
    ("word_gradients", {"through": 0, "target": "brightness"}),
    ("profile", {}),
    ("gradient_volume", {"mask": MASK}),
    ("gradient_volume", {"mask": MASK, "mode": "region"}),
    ("ablation", {"channels": LAYER}),
    ("ablation", {"sweep": LAYER}),
    ("ablation", {"sweep": LAYER, "by": "gradients", "mask": MASK}),
    ("switch", {"to": "a dog"}),
    ("df_rise", {"masks": 7}),
    ("df_rise", {"masks": 7, "masking": "grid", "grid": 3, "branch": "conditional"}),
    ("df_rise", {"masks": 7, "target": "parity"}),
    ("df_cam", {}),
    ("step_baselines", {"samples": 10}),
    ("relevance", {"clip_model": CLIP}),
    ("ovam", {"text": "dog"}),
    ("information", {"samples": 6}),
    ("information", {"of": "trajectory"}),
    ("concept_attention", {}),
    ("i2am", {}),
)
PROBE = 1
"""A call by which some methods find the layers and how much memory a batch takes."""


def small(method: str) -> tuple[Model, Request]:
    """A small model that a method accepts, and a request for it."""
    if method == "i2am":
        model = sfumato.load("studio/insert")
        return model, model.complete(request_of(pair(0), 0).with_(steps=1))
    if method == "concept_attention":
        model = family("Stable Diffusion 3").wrapped()
        return model, model.complete(family("Stable Diffusion 3").request(steps=1))
    return model_of("text"), model_of("text").complete(REQUESTS["text"].with_(prompt="red cat"))


def given(options: Mapping[str, Any], model: Model, request: Request, folder: Path) -> dict[str, Any]:
    """The options with the name of a layer and the path of a mask."""
    inside = np.zeros((16, 24), np.uint8)
    inside[4:12, 4:12] = 255
    Image.fromarray(inside).save(folder / "mask.png")
    layer = layers_of(model, request)[2].name if LAYER in options.values() else ""
    known = {MASK: str(folder / "mask.png"), LAYER: layer if "sweep" in options else f"{layer}:1"}
    return {name: known.get(value, value) if isinstance(value, str) else value for name, value in options.items()}


def rows_said(cost: str, model: Model, request: Request) -> int:
    """Rows of the denoiser's batch that a cost speaks of: those of generations, and calls of one row."""
    of_runs = re.findall(r"\(([\d,]+) denoiser calls\b", cost)
    more = re.findall(r"([\d,]+) calls\b", cost)
    both = [sum(int(number.replace(",", "")) for number in some) for some in (of_runs, more)]
    return both[0] * len(model.branches(request).names) + both[1]


def rows_made(model: Model, work: Any) -> int:
    """Rows of the denoiser's batch while something is done."""
    rows = 0

    def count(module: Any, args: Any, output: Any) -> None:
        nonlocal rows
        rows += len(output[0] if isinstance(output, tuple) else output.sample)

    hook = model.denoiser.register_forward_hook(count)
    try:
        work()
    finally:
        hook.remove()
    return rows


def test_every_method_has_a_case() -> None:
    missing = {method.name for method in methods()}.difference(name for name, _ in CASES)
    assert not missing, f"add to CASES the options with which these are counted: {', '.join(sorted(missing))}"


@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_as_many_calls_are_made_as_were_said(
    name: str, options: dict[str, Any], guidance: float, tmp_path: Path
) -> None:
    model, request = small(name)
    request = request.with_(guidance=guidance)
    chosen, configured = find(name), given(options, model, request, tmp_path)
    cost = chosen.cost(model, request, chosen.configure(configured))
    said = rows_said(cost, model, request)
    made = rows_made(model, lambda: sfumato.explain(model, request, name, **configured))
    probe = PROBE * len(model.branches(request).names)
    assert made <= said + probe, cost
    if "at most" not in cost and "up to" not in cost:
        assert made >= said, cost
