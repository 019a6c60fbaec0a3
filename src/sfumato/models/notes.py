"""What a model's folder says about itself in ``sfumato.json``: default settings, known words, attributes, regions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import ModelError

FILE = "sfumato.json"
REGIONS = "regions.png"


def folder_of(pipeline: Any) -> Path | None:
    """Where a pipeline was loaded from, if that is a folder here."""
    name = pipeline.config.get("_name_or_path")
    folder = Path(str(name)) if name else None
    return folder if folder is not None and folder.is_dir() else None


def notes_of(pipeline: Any) -> dict[str, Any]:
    """The notes of a pipeline; empty where its folder has none.

    Raises:
        ModelError: The file is damaged.
    """
    folder = folder_of(pipeline)
    if folder is None or not (folder / FILE).is_file():
        return {}
    try:
        notes: dict[str, Any] = dict(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{FILE} of {folder.name} is damaged ({error}); fetch the model again") from error
    return notes


def regions_of(pipeline: Any) -> dict[str, NDArray[np.bool_]]:
    """Regions that a model's images usually have, (y, x) by name: where a face has its eyes, say.

    They lie in the model's folder as an image whose pixels are places in the list ``regions`` of its notes.

    Raises:
        ModelError: The image is damaged.
    """
    folder, names = folder_of(pipeline), notes_of(pipeline).get("regions", [])
    if folder is None or not names:
        return {}
    try:
        with Image.open(folder / REGIONS) as image:
            owner = np.asarray(image.convert("L"))
    except OSError as error:
        raise ModelError(f"{REGIONS} of {folder.name} is damaged ({error}); fetch the model again") from error
    return {name: owner == place for place, name in enumerate(names)}
