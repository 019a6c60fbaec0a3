"""Pictures as a training holds them: bytes on disk, numbers from -1 to 1 in a batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch


def as_tensor(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Turn images (image, y, x, channel) uint8 into floats (image, channel, y, x) from -1 to 1."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
