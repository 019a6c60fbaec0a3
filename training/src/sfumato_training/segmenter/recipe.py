"""How the segmenter of scenes is trained."""

from __future__ import annotations

from sfumato_training.recipes import Recipe
from sfumato_training.segmenter.config import Config

RECIPE = Recipe(
    "segmenter",
    Config,
    data="segmenter.data:make_data",
    trained={
        "unet": "segmenter.unet:train_unet",
    },
    write="segmenter.export:write",
    generates=False,
)
