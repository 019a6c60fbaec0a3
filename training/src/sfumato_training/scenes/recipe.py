"""How studio/scenes is trained."""

from __future__ import annotations

from sfumato_training.recipes import Recipe
from sfumato_training.scenes.config import Config

RECIPE = Recipe(
    "scenes",
    Config,
    data="scenes.data:make_data",
    trained={
        "vae": "scenes.latents:train_vae",
        "clip": "scenes.clip:train_clip",
        "unet": "scenes.unet:train_unet",
    },
    write="scenes.export:write",
)
