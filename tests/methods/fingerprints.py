"""Numbers of every method on a small model, by which a test notices that they changed while their version did not.

`python -m tests.methods.fingerprints METHOD ...` measures and stores those of some methods, or of all.
"""

from __future__ import annotations

import json
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import sfumato
from sfumato.models.model import Model
from sfumato.registry import find, methods
from tests.families import family
from tests.methods.steps import CLIP

STORED = Path(__file__).with_name("fingerprints.json")
COMMAND = "python -m tests.methods.fingerprints"
USUAL = "Stable Diffusion"
PROMPT = "a red cat, a zebra"
PROMPTS = {"shapley": "a red cat", "lime": "a red cat"}
"""Few words have few coalitions."""
FAMILIES = {"i2am": "Stable Diffusion, IP-Adapter", "concept_attention": "Flux dev"}
OPTIONS: dict[str, dict[str, Any]] = {
    "shapley": {"similarity": "ssim"},
    "lime": {"similarity": "ssim"},
    "lime_image": {"clip_model": CLIP, "superpixels": 6, "budget": 16, "phrase": "a cat"},
    "segments": {"clip_model": CLIP},
    "word_gradients": {"target": "brightness", "through": 1},
    "gradient_volume": {"mode": "region", "timesteps": (500,), "mask": None},
    "ablation": {"channels": ("conv_in:1",)},
    "switch": {"to": "a dog", "at": (1,)},
    "df_rise": {"at": (1,), "masks": 4},
    "df_cam": {"at": (1,)},
    "step_baselines": {"at": (1,), "kinds": ("gradient",), "samples": 4},
    "relevance": {"at": (1,), "clip_model": CLIP},
    "ovam": {"text": ("dog",)},
    "concept_attention": {"concepts": ("cat", "zebra")},
    "information": {"samples": 2, "players": "phrase"},
}
"""The mask of gradient_volume has the size of the image, so it is made with it."""
SLOW = {"lime_image", "segments", "relevance", "shapley"}
NOT_OF_THE_METHOD = {"image", "seconds"}
DIGITS = 5


@cache
def model_of(name: str) -> Model:
    return family(name).wrapped()


def measured(name: str) -> dict[str, Any]:
    """The version of a method, and for every array that it makes its size, mean and spread."""
    method, kind = find(name), FAMILIES.get(name, USUAL)
    options = dict(OPTIONS.get(name, {}))
    request = family(kind).request(prompt=PROMPTS.get(name, PROMPT), steps=3 if name == "switch" else 2)
    if "mask" in options:
        options["mask"] = np.indices((int(request.height or 0), int(request.width or 0))).sum(0) < 40
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sfumato.explain(model_of(kind), request, name, **options)
    numbers: dict[str, list[float]] = {}
    for node in found.tree.subtree:
        for variable, array in sorted(node.to_dataset(inherit=False).data_vars.items()):
            values = np.asarray(array.values)
            if node.name in NOT_OF_THE_METHOD or variable in NOT_OF_THE_METHOD or values.dtype.kind not in "fiu":
                continue
            finite = values[np.isfinite(values)].astype(np.float64)
            if finite.size:
                numbers[f"{node.path}/{variable}"] = [
                    float(finite.size),
                    *(float(f"{one:.{DIGITS}g}") for one in (finite.mean(), finite.std())),
                ]
    return {"version": method.version, "numbers": numbers}


def stored() -> dict[str, Any]:
    """What was measured when each method got its version."""
    found: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    chosen = sys.argv[1:] or [method.name for method in methods()]
    kept = (stored() if STORED.exists() else {}) | {name: measured(name) for name in chosen}
    STORED.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
