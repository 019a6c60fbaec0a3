"""How studio/faces is trained."""

from __future__ import annotations

from sfumato_training.faces.config import Config
from sfumato_training.recipes import Recipe

RECIPE = Recipe(
    "faces",
    Config,
    data="faces.pictures:make_pictured_data",
    trained={
        "reader": "faces.reader:train_reader",
        "denoiser": "faces.denoiser:train_denoiser",
    },
    write="faces.export:write",
)
