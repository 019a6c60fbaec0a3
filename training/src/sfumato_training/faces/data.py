"""The training faces: drawn in parallel into one array, or taken from a folder in CelebA's layout."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sfumato.errors import RequestError, TrainingError
from sfumato.inputs.image import opened
from sfumato.reading import path_of
from sfumato.studio.faces import SIZE, face
from sfumato.writing.files import replacing_file, write_text
from sfumato_training.drawing import ABOUT, drawn_with, in_chunks
from sfumato_training.faces.config import DataConfig
from sfumato_training.progress import Progress

IMAGES, LABELS = "images.npy", "labels.npy"
HELD_BACK = 512
"""Faces at the end that no stage trains on."""

CELEBA = {"bangs": "Bangs", "male": "Male", "smile": "Smiling", "lipstick": "Wearing_Lipstick"}
"""Our attributes by CelebA's names, in the order of the label's bits."""

_CHUNK = 500
_REGRESSED = 4000
_FIRST_SEED = 1_000_000
"""Seeds below belong to tests, pictures and scores."""


def make_data(config: DataConfig, folder: Path, progress: Progress) -> None:
    """Fill `folder` with images.npy (face, y, x, channel) uint8 and labels.npy (face,) uint8.

    A folder that already holds the same faces is left as it is. The labels are written last, by renaming, so a folder
    with labels is whole.

    Raises:
        TrainingError: The folder of photographs cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = {"faces": config.faces, "imbalance": config.imbalance, "folder": config.folder}
    if (folder / LABELS).is_file() and drawn_with(folder) == about:
        return
    (folder / LABELS).unlink(missing_ok=True)
    write_text(folder / ABOUT, json.dumps(about) + "\n")
    drawn = in_chunks(_draw, config.faces, _CHUNK, config.workers, config.imbalance)
    images = np.lib.format.open_memmap(folder / IMAGES, mode="w+", dtype=np.uint8, shape=(config.faces, SIZE, SIZE, 3))
    labels = np.zeros(config.faces, np.uint8)
    for places, (some, numbers) in _photographs(config) if config.folder else drawn:
        images[places], labels[places] = some, numbers
        progress.step("data", places.stop, config.faces, {})
    images.flush()
    with replacing_file(folder / LABELS) as opened:
        np.save(opened, labels)


def load_data(folder: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Map the images (face, y, x, channel) and read the labels' numbers (face,).

    Raises:
        TrainingError: The stage "data" has not run.
    """
    if not (folder / LABELS).is_file():
        raise TrainingError(f"{folder} holds no training faces; run the stage 'data' first")
    return np.load(folder / IMAGES, mmap_mode="r"), np.load(folder / LABELS)


def split(count: int) -> int:
    """How many of the faces are trained on; the others are held back."""
    return max(1, count - min(HELD_BACK, count // 4))


def label_effect(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Where the label shows: (y, x) from 0 to 1, the largest effect of a bit relative to that bit's strongest place.

    Effects are the slopes of a linear regression of every colour at every place on the four bits, over some faces, so
    that attributes which go together do not lend each other their places.
    """
    some = min(len(images), _REGRESSED)
    bits = (labels[:some, None] >> np.arange(len(CELEBA))[::-1]) & 1
    known = np.column_stack((np.ones(some), bits))
    colours = np.asarray(images[:some], np.float32).reshape(some, -1)
    slopes = np.linalg.lstsq(known.T @ known, known.T @ colours, rcond=None)[0][1:]
    effects = np.abs(slopes).reshape(len(CELEBA), SIZE, SIZE, 3).mean(-1)
    strongest = effects.max((1, 2), keepdims=True)
    return np.asarray((effects / np.where(strongest > 0, strongest, 1)).max(0), np.float32)


Chunk = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def _draw(start: int, stop: int, imbalance: float) -> Chunk:
    faces = [face(_FIRST_SEED + number, imbalance=imbalance) for number in range(start, stop)]
    return np.stack([one.image for one in faces]), np.array([int(one.label, 2) for one in faces], np.uint8)


def _photographs(config: DataConfig) -> Iterator[tuple[slice, Chunk]]:
    """Photographs, cut to their middle square and scaled down, with their four attributes."""
    place = path_of(config.folder)
    rows = list(_attributes(place))
    if len(rows) < config.faces:
        raise TrainingError(f"{place} lists {len(rows)} images; ask for at most as many with [data] faces")
    for start in range(0, config.faces, _CHUNK):
        places = slice(start, min(start + _CHUNK, config.faces))
        images = np.stack([_small(path) for path, _ in rows[places]])
        yield places, (images, np.array([number for _, number in rows[places]], np.uint8))


def _small(path: Path) -> npt.NDArray[np.uint8]:
    try:
        image = opened(path)
    except RequestError as error:
        raise TrainingError(f"{error}; remove its line from the list") from error
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX, box=box))


def _attributes(folder: Path) -> Iterator[tuple[Path, int]]:
    """The images of a folder and the numbers of their labels.

    ``list_attr_celeba.txt`` (a count, the names, then a line for each image) or ``list_attr_celeba.csv``; 1 says yes.
    """
    lists = [path for name in ("list_attr_celeba.txt", "list_attr_celeba.csv") for path in folder.rglob(name)]
    if not lists:
        raise TrainingError(f"{folder} has no list_attr_celeba.txt or .csv; give a folder in CelebA's layout")
    images = {path.name: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in {".jpg", ".jpeg", ".png"}}
    text = lists[0].read_text(encoding="utf-8").splitlines()
    if len(text) < 2:
        raise TrainingError(f"{lists[0]} is empty; fetch it again")
    if lists[0].suffix == ".csv":
        names, *rows = csv.reader(text)
        names = names[1:]
    else:
        names, rows = text[1].split(), [line.split() for line in text[2:] if line.strip()]
    if missing := [theirs for theirs in CELEBA.values() if theirs not in names]:
        raise TrainingError(f"{lists[0]} has no attribute {missing[0]!r}; its attributes are: {', '.join(names)}")
    places = [names.index(theirs) for theirs in CELEBA.values()]
    for name, *values in rows:
        if name in images:
            yield images[name], int("".join("1" if values[place] == "1" else "0" for place in places), 2)
