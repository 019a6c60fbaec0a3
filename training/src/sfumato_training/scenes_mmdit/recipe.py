"""How studio/scenes-mmdit is trained."""

from __future__ import annotations

from sfumato_training.recipes import Recipe
from sfumato_training.scenes_mmdit.config import Config

RECIPE = Recipe(
    "scenes-mmdit",
    Config,
    data="scenes.data:make_data",
    trained={
        "vae": "scenes.latents:train_vae",
        "clip": "scenes.clip:train_clip",
        "transformer": "scenes_mmdit.transformer:train_transformer",
    },
    write="scenes_mmdit.export:write",
)
