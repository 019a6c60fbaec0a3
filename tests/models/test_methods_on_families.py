"""Every method runs on the families that it accepts: those that differ most in what a recorded call holds."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.errors import ModelError
from sfumato.generation.feature_layers import layers_of
from sfumato.models.model import Model
from sfumato.registry import find, methods
from tests.families import family
from tests.methods.steps import CLIP

NAMES = ("Stable Diffusion XL, ControlNet", "Stable Diffusion 3.5", "PixArt sigma", "Kandinsky 2.2, inpainting")
OPTIONS: dict[str, dict[str, Any]] = {
    "df_cam": {"at": (1,)},
    "df_rise": {"at": (1,), "masks": 4},
    "gradient_volume": {"mode": "region", "timesteps": (500,)},
    "ovam": {"text": "dog"},
    "relevance": {"clip_model": CLIP},
    "segments": {"clip_model": CLIP},
    "step_baselines": {"at": (1,), "kinds": ("lime", "gradient"), "samples": 4},
    "switch": {"to": "a dog", "at": (1,)},
    "word_gradients": {"target": "brightness"},
}
ELSEWHERE = {"lime", "shapley", "lime_image", "i2am"}
"""Games only ask for images; a reference has tests of its own."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


@cache
def model_of(name: str) -> Model:
    return family(name).wrapped()


def cases() -> list[tuple[str, str]]:
    """The families and the methods that accept them."""
    return [
        (name, method.name)
        for name in NAMES
        for method in methods()
        if not method.missing(model_of(name)) and method.name not in ELSEWHERE
    ]


def test_the_families_accept_most_methods() -> None:
    accepted = [name for name, _ in cases()]
    for name, least in zip(NAMES, (12, 12, 12, 7), strict=True):
        assert accepted.count(name) >= least, name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", sorted({method for _, method in cases()}))
def test_a_method_runs_where_it_is_accepted(name: str, method: str, tmp_path: Path) -> None:
    if (name, method) not in cases():
        with pytest.raises(ModelError, match=f"^{method} needs .*; methods that fit it: "):
            sfumato.explain(model_of(name), family(name).request(), method, **OPTIONS.get(method, {}))
        return
    model, request = model_of(name), family(name).request(steps=3)
    options = dict(OPTIONS.get(method, {}))
    if method == "ablation":
        options["channels"] = (f"{layers_of(model, model.complete(request))[2].name}:1",)
    if method == "gradient_volume":
        options["mask"] = str(tmp_path / "mask.png")
        inside = np.zeros((64, 96), np.uint8)
        inside[20:40, 30:60] = 255
        Image.fromarray(inside).save(options["mask"])
    found = sfumato.explain(model, request, method, **options)
    assert find(method).name == found.provenance["method"]
    for node in found.tree.subtree:
        for array in node.to_dataset(inherit=False).data_vars.values():
            if np.issubdtype(array.dtype, np.floating) and array.name != "error":  # which only games have
                assert np.isfinite(array.values).any(), (node.path, array.name)
