"""The training pairs: drawn in parallel into two arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfumato.errors import TrainingError
from sfumato.studio.garments import SIZE, pair
from sfumato.writing.files import replacing_file
from sfumato_training.drawing import in_chunks
from sfumato_training.insert.config import DataConfig
from sfumato_training.progress import Progress

PICTURES, MASKS = "pictures.npy", "masks.npy"
HELD_BACK = 256
"""Pairs at the end that the U-Net does not train on."""

REFERENCE, TARGET = 0, 1
"""Places along the second axis of the pictures."""

_CHUNK = 250
_FIRST_SEED = 1_000_000
"""Seeds below belong to tests, examples and scores."""


def make_data(config: DataConfig, folder: Path, progress: Progress) -> None:
    """Fill `folder` with pictures.npy (pair, reference and target, y, x, channel) uint8 and masks.npy (pair, y, x).

    A folder that already holds as many pairs is left as it is. The masks are put there last, by renaming, so a folder
    with masks is whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MASKS).is_file() and len(np.load(folder / MASKS, mmap_mode="r")) == config.pairs:
        return
    (folder / MASKS).unlink(missing_ok=True)
    shape = (config.pairs, 2, SIZE, SIZE, 3)
    pictures = np.lib.format.open_memmap(folder / PICTURES, mode="w+", dtype=np.uint8, shape=shape)
    masks = np.zeros((config.pairs, SIZE, SIZE), bool)
    for places, (some, inside) in in_chunks(_draw, config.pairs, _CHUNK, config.workers):
        pictures[places], masks[places] = some, inside
        progress.step("data", places.stop, config.pairs, {})
    pictures.flush()
    with replacing_file(folder / MASKS) as opened:
        np.save(opened, masks)


def load_data(folder: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Map the pictures (pair, reference and target, y, x, channel) and the masks (pair, y, x).

    Raises:
        TrainingError: The stage "data" has not run.
    """
    if not (folder / MASKS).is_file():
        raise TrainingError(f"{folder} holds no training pairs; run the stage 'data' first")
    return np.load(folder / PICTURES, mmap_mode="r"), np.load(folder / MASKS, mmap_mode="r")


def split(count: int) -> int:
    """How many of the pairs are trained on; the others are held back."""
    return max(1, count - min(HELD_BACK, count // 4))


def _draw(start: int, stop: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    drawn = [pair(_FIRST_SEED + number) for number in range(start, stop)]
    return np.stack([(one.reference, one.target) for one in drawn]), np.stack([one.mask for one in drawn])
