"""A segmenter of scenes with a closed vocabulary: it knows the nouns of the shapes and no other word.

The counterpart of the supervised segmenters (Mask R-CNN, Mask2Former, trained on the 80 classes of COCO) to which Tang
et al., "What the DAAM", ACL 2023, compare attention maps. Colours, sizes, textures, numerals and relations are outside
its vocabulary, as they are outside theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.errors import OptionError
from sfumato.studio.networks import trained_network
from sfumato.studio.scenes import Scene
from sfumato.studio.shapes import SHAPES, SIZE

CLASSES = ("background", *SHAPES)
"""What a pixel can belong to, in the order of the class axis."""

WEIGHTS = Path(__file__).parent / "weights" / "segmenter" / "model.safetensors"

GROUPS = 4
"""Groups of each group normalisation; the width is a multiple of it."""

_WIDTHS = (1, 2, 4, 6)
"""Channels of each level as a multiple of the width."""

_BATCH = 32


class Segmenter(nn.Module):
    """A U-Net from (item, 3, y, x), -1 to 1, to a logit for each class at each pixel: (item, class, y, x).

    It reads 2 x 2 pixels as one place with twelve channels and writes its logits the same way: four times as fast as at
    full resolution, and nothing of the image is lost.

    Args:
        width: Channels of the first level.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * times for times in _WIDTHS]
        self.down = nn.ModuleList(_block(i, o) for i, o in zip((12, *widths), widths, strict=False))
        self.up = nn.ModuleList(_block(low + high, high) for high, low in pairwise(widths))
        self.head = nn.Conv2d(width, 4 * len(CLASSES), 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """The logits of the classes at every pixel."""
        features = F.pixel_unshuffle(pixels, 2)
        seen: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            features = block(F.max_pool2d(features, 2) if level else features)
            seen.append(features)
        for block, beside in zip(reversed(self.up), reversed(seen[:-1]), strict=True):
            features = block(torch.cat((F.interpolate(features, scale_factor=2.0, mode="nearest"), beside), 1))
        return F.pixel_shuffle(self.head(features), 2)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.GroupNorm(GROUPS, outputs), nn.SiLU()]
    return nn.Sequential(*layers)


def build_segmenter(width: int = 24) -> Segmenter:
    """An untrained segmenter.

    Raises:
        OptionError: The width cannot be divided into the groups of its normalisation.
    """
    if width < GROUPS or width % GROUPS:
        raise OptionError(f"the width of the segmenter is {width}; expected a multiple of {GROUPS}, such as 16 or 24")
    return Segmenter(width)


def load_segmenter(path: Path = WEIGHTS) -> Segmenter:
    """The trained segmenter, in evaluation mode.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    return trained_network(
        path,
        lambda weights: build_segmenter(len(weights["down.0.0.bias"])),
        "the segmenter of scenes",
        "sfumato train segmenter",
    )


def shape_probabilities(
    images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8], segmenter: Any = None
) -> npt.NDArray[np.float32]:
    """How sure the segmenter is of each class at each pixel.

    Args:
        images: Each (128, 128, 3) uint8, drawn or generated.
        segmenter: From `load_segmenter`; the shipped one.

    Returns:
        (image, class, y, x), in the order of `CLASSES`; the classes of a pixel sum to 1.

    Raises:
        OptionError: An image has another shape or type.
        ModelError: The shipped segmenter cannot be read.
    """
    for image in images:
        shape, kind = np.shape(image), np.asarray(image).dtype
        if shape != (SIZE, SIZE, 3) or kind != np.uint8:
            raise OptionError(
                f"the segmenter needs uint8 images of shape ({SIZE}, {SIZE}, 3); got {kind} of shape {shape}; "
                "resize the image first"
            )
    network = load_segmenter() if segmenter is None else segmenter
    device = next(network.parameters()).device
    found = np.empty((len(images), len(CLASSES), SIZE, SIZE), np.float32)
    for start in range(0, len(images), _BATCH):
        some = torch.from_numpy(np.stack([np.asarray(image) for image in images[start : start + _BATCH]]))
        with torch.no_grad():
            logits = network(some.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1)
        found[start : start + len(some)] = logits.float().softmax(1).cpu().numpy()
    return found


def class_map(scene: Scene) -> npt.NDArray[np.uint8]:
    """The true class of every pixel of a drawn scene: (y, x), as places in `CLASSES`."""
    found = np.zeros((SIZE, SIZE), np.uint8)
    for thing, mask in zip(scene.things, scene.thing_masks, strict=True):
        found[mask] = CLASSES.index(thing.shape)
    return found
