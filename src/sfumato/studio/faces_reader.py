"""The network that reads the four attributes from an image of a face, so that generated faces can be scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sfumato.errors import OptionError
from sfumato.studio.faces import ATTRIBUTES, SIZE
from sfumato.studio.networks import trained_network

WEIGHTS = Path(__file__).parent / "weights" / "faces" / "reader" / "model.safetensors"
_BATCH = 256


def build_reader(width: int = 16) -> nn.Sequential:
    """A small convolutional network from (item, 3, 64, 64), -1 to 1, to a logit for each attribute."""
    layers: list[nn.Module] = []
    channels = 3
    for level in range(4):
        wide = width * 2**level
        layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.GroupNorm(4, wide), nn.GELU(), nn.MaxPool2d(2)]
        channels = wide
    side = SIZE // 2**4
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels * side * side, len(ATTRIBUTES)))


def load_reader(path: Path = WEIGHTS) -> nn.Sequential:
    """The trained network, in evaluation mode.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    return trained_network(
        path, lambda weights: build_reader(weights["0.weight"].shape[0]), "the reader of faces", "sfumato train faces"
    )


def probabilities(
    images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8], reader: Any = None
) -> npt.NDArray[np.float64]:
    """How sure the reader is of each attribute.

    Args:
        images: Each (64, 64, 3) uint8.
        reader: From `load_reader`; the shipped one.

    Returns:
        (image, attribute), from 0 to 1, in the order of `ATTRIBUTES`.

    Raises:
        OptionError: An image has another shape.
    """
    network = load_reader() if reader is None else reader
    found = []
    for start in range(0, len(images), _BATCH):
        some = np.stack([np.asarray(image) for image in images[start : start + _BATCH]])
        if some.shape[1:] != (SIZE, SIZE, 3):
            raise OptionError(f"the reader needs images of {SIZE} x {SIZE} pixels in colour; got {some.shape[1:]}")
        with torch.no_grad():
            logits = network(torch.from_numpy(some).permute(0, 3, 1, 2).float() / 127.5 - 1)
        found.append(logits.sigmoid().double().numpy())
    return np.concatenate(found)


def labels_of(images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8], reader: Any = None) -> list[str]:
    """The label that each image shows, as four bits."""
    return ["".join("1" if value > 0.5 else "0" for value in row) for row in probabilities(images, reader)]
