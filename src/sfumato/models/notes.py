"""What a model's folder says about itself in ``sfumato.json``: default settings, known words, attributes, regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.bounds import checked_int, checked_number, checked_text, shown
from sfumato.errors import ModelError, RequestError, SfumatoError, Unreadable
from sfumato.inputs.image import opened
from sfumato.inputs.schedule import MAX_STEPS
from sfumato.reading import read_json
from sfumato.request import MAX_SIDE

FILE = "sfumato.json"
REGIONS = "regions.png"
MOST_NAMES = {"words": 1_000_000, "attributes": 64, "regions": 256}
"""Entries of the lists of a file; a region is a level of grey of `REGIONS`."""


@dataclass(frozen=True)
class Notes:
    """The notes of a model, each empty where its folder has none.

    Attributes:
        steps: Recommended denoising steps.
        guidance: Recommended guidance scale.
        words: That the model was trained on.
        attributes: What the bits of a label stand for.
        regions: Parts that its images usually have.
        size: Height and width of its images in pixels, where the request leaves them open.
        arguments: Recommended arguments of the pipeline's call.
    """

    steps: int | None = None
    guidance: float | None = None
    words: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    size: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


def folder_of(pipeline: Any) -> Path | None:
    """Where a pipeline was loaded from, if that is a folder here."""
    name = pipeline.config.get("_name_or_path")
    folder = Path(str(name)) if name else None
    return folder if folder is not None and folder.is_dir() else None


def notes_of(pipeline: Any) -> Notes:
    """The notes of a pipeline.

    Raises:
        ModelError: The file is damaged, or an entry is not what it should be.
    """
    folder = folder_of(pipeline)
    return Notes() if folder is None else read_notes(folder)


def read_notes(folder: Path) -> Notes:
    """The notes of a model's folder.

    Raises:
        ModelError: As for ``notes_of``.
    """
    try:
        given = read_json(folder / FILE)
    except Unreadable as error:
        if error.missing:
            return Notes()
        raise ModelError(f"{FILE} of {folder.name} cannot be read: {error.reason}; fetch the model again") from error
    try:
        return _checked(given)
    except SfumatoError as error:
        raise ModelError(f"{FILE} of {folder.name}: {error}; correct it, or fetch the model again") from error


def regions_of(pipeline: Any) -> dict[str, NDArray[np.bool_]]:
    """Regions that a model's images usually have, (y, x) by name: where a face has its eyes, say.

    They lie in the model's folder as an image whose pixels are places in the list ``regions`` of its notes.

    Raises:
        ModelError: The image is damaged.
    """
    folder, names = folder_of(pipeline), notes_of(pipeline).regions
    if folder is None or not names:
        return {}
    try:
        owner = np.asarray(opened(folder / REGIONS).convert("L"))
    except RequestError as error:
        raise ModelError(f"{REGIONS} of {folder.name}: {error}; fetch the model again") from error
    return {name: owner == place for place, name in enumerate(names)}


def _checked(given: object) -> Notes:
    if not isinstance(given, dict):
        raise ModelError(f"it holds {shown(given)}; expected entries by name")
    defaults = given.get("defaults", {})
    if not isinstance(defaults, dict):
        raise ModelError(f"defaults is {shown(defaults)}; expected steps, guidance and size by name")
    steps, guidance, size = (defaults.get(name) for name in ("steps", "guidance", "size"))
    arguments = given.get("arguments", {})
    if not isinstance(arguments, dict):
        raise ModelError(f"arguments is {shown(arguments)}; expected arguments of the pipeline's call by name")
    return Notes(
        steps=None if steps is None else checked_int("steps", steps, 1, MAX_STEPS, ModelError),
        guidance=None if guidance is None else float(checked_number("guidance", guidance, ModelError, least=0)),
        size=None if size is None else checked_int("size", size, 8, MAX_SIDE, ModelError),
        arguments=arguments,
        **{part: _names(part, given.get(part, ())) for part in MOST_NAMES},
    )


def _names(part: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ModelError(f"{part} is {shown(given)}; expected a list of names")
    if len(given) > MOST_NAMES[part]:
        raise ModelError(f"{part} has {len(given):,} names; at most {MOST_NAMES[part]:,} are accepted")
    return tuple(checked_text(f"a name in {part}", name, ModelError) for name in given)
