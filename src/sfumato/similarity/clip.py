"""CLIP (Radford et al. 2021, arXiv 2103.00020): images and texts in one space; the embedded one or another."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import ModelError
from sfumato.models.loading import STUDIO
from sfumato.models.turns import alone

EMBEDDED = "studio/clip"
BATCH = 32


class Clip:
    """A CLIP model with what prepares its images and texts.

    Args:
        source: "studio/clip", a folder, or a hub id of a transformers CLIPModel.

    Raises:
        ModelError: It cannot be read.
    """

    def __init__(self, source: str = EMBEDDED) -> None:
        self.source = source
        self.model, self._tokenizer, self._processor = _read(source)

    @torch.no_grad()
    def images(self, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Directions of images in the shared space: (image, channel), each of length 1.

        Args:
            pictures: (y, x, channel) uint8 each, of any size.
        """
        found = []
        for start in range(0, len(pictures), BATCH):
            pixels = self.pixels(pictures[start : start + BATCH])
            found.append(F.normalize(_features(self.model.get_image_features(pixel_values=pixels)), dim=-1))
        return torch.cat(found)

    def directions(self, pixels: torch.Tensor) -> torch.Tensor:
        """Directions of images (image, channel, y, x) from -1 to 1, as a function that can be differentiated.

        They are prepared as ``pixels`` prepares pictures, on the CLIP's device and in float32.
        """
        return F.normalize(_features(self.model.get_image_features(pixel_values=self._ready(pixels))), dim=-1)

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features of patches (image, y, x, channel) of images as ``directions`` takes them."""
        found: torch.Tensor = self.model.vision_model(pixel_values=self._ready(pixels)).last_hidden_state[:, 1:]
        side = math.isqrt(found.shape[1])
        return found.reshape(len(found), side, side, -1)

    def _ready(self, pixels: torch.Tensor) -> torch.Tensor:
        side = self._side
        pixels = pixels.to(self.model.device, torch.float32)
        if pixels.shape[-2:] != (side, side):
            pixels = F.interpolate(pixels, (side, side), mode="bicubic", antialias=True, align_corners=False)
        mean, spread = (
            torch.tensor(values).view(1, 3, 1, 1).to(pixels)
            for values in (self._processor.image_mean, self._processor.image_std)
        )
        return ((pixels.clamp(-1, 1) + 1) / 2 - mean) / spread

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Directions of texts in the shared space: (text, channel), each of length 1."""
        limit = self.model.config.text_config.max_position_embeddings
        with alone(self.model):  # models of several threads may be compared by one CLIP
            tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        return F.normalize(_features(self.model.get_text_features(**tokens)), dim=-1)

    @property
    def scale(self) -> float:
        """By how much the model multiplies cosines before a softmax over texts."""
        return float(self.model.logit_scale.exp())

    def pixels(self, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Images as the model takes them: (image, channel, y, x).

        They are resized to its square whole: nothing is cropped, since what lies at the sides counts as well.
        """
        size = {"height": self._side, "width": self._side}
        ready: torch.Tensor = self._processor(
            images=[*pictures], return_tensors="pt", size=size, do_center_crop=False, resample=Image.Resampling.BICUBIC
        )["pixel_values"]
        return ready.to(self.model.device)

    @property
    def preparation(self) -> dict[str, Any]:
        """What the numbers depend on beside the weights."""
        tokens = json.loads(self._tokenizer.backend_tokenizer.to_str())["model"]
        digest = hashlib.sha256(json.dumps(tokens, sort_keys=True).encode()).hexdigest()
        return {"mean": self._processor.image_mean, "spread": self._processor.image_std, "tokenizer": digest}

    @property
    def _side(self) -> int:
        return int(self.model.config.vision_config.image_size)


def _features(output: Any) -> torch.Tensor:
    found: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return found


@lru_cache(maxsize=4)
def _read(source: str) -> tuple[Any, Any, Any]:
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    place = str(STUDIO / "clip") if source == EMBEDDED else source
    try:
        model = CLIPModel.from_pretrained(place, dtype=torch.float32, use_safetensors=True).eval().requires_grad_(False)
        return model, CLIPTokenizer.from_pretrained(place), CLIPImageProcessorPil.from_pretrained(place)
    except (OSError, ValueError, KeyError, TypeError) as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the CLIP model {source!r} cannot be read ({line}); give {EMBEDDED!r}, a folder or a hub id of a CLIPModel"
        ) from error
