"""Segments by SAM (Kirillov et al. 2023, arXiv 2304.02643): a grid of points, three masks each, the best kept."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from sfumato.errors import ModelError
from sfumato.segments.segment import Segment

ACROSS = 16
"""Points along each side of the grid."""

AT_ONCE = 64
LEAST_QUALITY = 0.7
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@torch.no_grad()
def sam_segments(
    pixels: NDArray[np.uint8], source: str, *, across: int = ACROSS, least_quality: float = LEAST_QUALITY
) -> list[Segment]:
    """Segments of an image by a SamModel of transformers.

    Args:
        pixels: (y, x, channel).
        source: A folder or hub id, such as "facebook/sam-vit-base".
        across: Points along each side of the grid.
        least_quality: Predicted IoU below which a mask is dropped.

    Returns:
        Segments that may overlap, with SAM's predicted IoU as quality.

    Raises:
        ModelError: The model cannot be read.
    """
    model = _read(source)
    height, width = pixels.shape[:2]
    side = int(model.config.vision_config.image_size)
    scale = side / max(height, width)
    tall, wide = round(height * scale), round(width * scale)
    values = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    values = F.interpolate(values, (tall, wide), mode="bilinear", antialias=True, align_corners=False)
    values = (values - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(SPREAD).view(1, 3, 1, 1)
    values = F.pad(values, (0, side - wide, 0, side - tall))
    embedded = model.get_image_embeddings(values)
    steps = (torch.arange(across) + 0.5) / across
    points = torch.stack([(steps * wide).repeat(across), (steps * tall).repeat_interleave(across)], -1)  # x, y
    found = []
    for part in points.split(AT_ONCE):
        output = model(image_embeddings=embedded, input_points=part[None, :, None], multimask_output=True)
        scores, masks = output.iou_scores[0], output.pred_masks[0]  # (point, 3), (point, 3, y, x)
        masks = F.interpolate(masks, (side, side), mode="bilinear", align_corners=False)[..., :tall, :wide]
        masks = F.interpolate(masks, (height, width), mode="bilinear", align_corners=False) > 0
        for number, choice in (scores >= least_quality).nonzero().tolist():
            found.append(Segment(masks[number, choice].numpy(), float(scores[number, choice].clamp(0, 1))))
    return found


@lru_cache(maxsize=1)
def _read(source: str) -> Any:
    from transformers import SamModel

    try:
        return SamModel.from_pretrained(source, use_safetensors=True).eval().requires_grad_(False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the SAM model {source!r} cannot be read ({line}); give a folder or a hub id, 'facebook/sam-vit-base' say"
        ) from error
