"""How studio/insert is trained."""

from __future__ import annotations

from sfumato_training.insert.config import Config
from sfumato_training.recipes import Recipe

RECIPE = Recipe(
    "insert",
    Config,
    data="insert.data:make_data",
    trained={
        "vae": "insert.unet:train_vae",
        "unet": "insert.unet:train_unet",
    },
    write="insert.export:write",
)
