"""CLIP (Radford et al. 2021, arXiv 2103.00020): images and texts in one space; the embedded one or another."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import ModelError
from sfumato.models.fingerprint import weight_hash
from sfumato.models.loading import STUDIO
from sfumato.models.turns import alone

EMBEDDED = "studio/clip"
BATCH = 32


@dataclass(frozen=True)
class Towers:
    """The networks of a CLIP, and what prepares their inputs.

    Attributes:
        vision: Gives, for ``pixel_values``, the hidden states of the image tower.
        images: Pixels (image, channel, y, x) to features in the shared space (image, channel).
        texts: Tokens of a batch to features in the same space; None where there is no text tower.
        tokenizer: Of the texts; None where there is no text tower.
        longest: How many tokens a text may have.
        processor: Resizes and scales images.
        side: Of the square that the image tower takes, in pixels.
        networks: All networks, whose weights the numbers depend on.
    """

    vision: Any
    images: Callable[[torch.Tensor], torch.Tensor]
    texts: Callable[[Any], torch.Tensor] | None
    tokenizer: Any
    longest: int
    processor: Any
    side: int
    networks: tuple[Any, ...]

    @property
    def device(self) -> torch.device:
        """Of the image tower; where its weights lie elsewhere between calls, what brings them takes any input."""
        found: torch.device = next(self.vision.parameters()).device
        return torch.device("cpu") if found.type == "meta" else found

    @property
    def precision(self) -> torch.dtype:
        """Of the image tower."""
        found: torch.dtype = next(self.vision.parameters()).dtype
        return found


class Clip:
    """A CLIP with what prepares its images and texts.

    Args:
        source: "studio/clip", a folder, or a hub id of a transformers CLIPModel; where towers are given, their name.
        towers: Networks that are loaded already; by default they are read from the source.

    Raises:
        ModelError: It cannot be read.
    """

    def __init__(self, source: str = EMBEDDED, towers: Towers | None = None) -> None:
        self.source = source
        self.towers = _read(source) if towers is None else towers

    @torch.no_grad()
    def images(self, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Directions of images in the shared space: (image, channel), each of length 1.

        Args:
            pictures: (y, x, channel) uint8 each, of any size.
        """
        found = []
        for start in range(0, len(pictures), BATCH):
            pixels = self.pixels(pictures[start : start + BATCH])
            found.append(F.normalize(self.towers.images(pixels).float(), dim=-1))
        return torch.cat(found)

    def directions(self, pixels: torch.Tensor) -> torch.Tensor:
        """Directions of images (image, channel, y, x) from -1 to 1, as a function that can be differentiated.

        They are prepared as ``pixels`` prepares pictures, on the CLIP's device.
        """
        return F.normalize(self.towers.images(self._ready(pixels)).float(), dim=-1)

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features of patches (image, y, x, channel) of images as ``directions`` takes them."""
        found: torch.Tensor = self.towers.vision(pixel_values=self._ready(pixels)).last_hidden_state[:, 1:].float()
        side = math.isqrt(found.shape[1])
        return found.reshape(len(found), side, side, -1)

    def _ready(self, pixels: torch.Tensor) -> torch.Tensor:
        side, processor = self.towers.side, self.towers.processor
        pixels = pixels.to(self.towers.device, torch.float32)
        if pixels.shape[-2:] != (side, side):
            pixels = F.interpolate(pixels, (side, side), mode="bicubic", antialias=True, align_corners=False)
        mean, spread = (
            torch.tensor(values).view(1, 3, 1, 1).to(pixels) for values in (processor.image_mean, processor.image_std)
        )
        return (((pixels.clamp(-1, 1) + 1) / 2 - mean) / spread).to(self.towers.precision)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Directions of texts in the shared space: (text, channel), each of length 1.

        Raises:
            ModelError: It has no text tower.
        """
        towers = self.towers
        if towers.texts is None:
            raise ModelError(f"{self.source} reads images alone, no text; give a folder or a hub id of a CLIPModel")
        with alone(towers.vision):  # models of several threads may be compared by one CLIP
            tokens = towers.tokenizer(
                list(texts), padding=True, truncation=True, max_length=towers.longest, return_tensors="pt"
            )
        return F.normalize(towers.texts(tokens).float(), dim=-1)

    def pixels(self, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Images as the model takes them: (image, channel, y, x).

        They are resized to its square whole: nothing is cropped, since what lies at the sides counts as well.
        """
        size = {"height": self.towers.side, "width": self.towers.side}
        ready: torch.Tensor = self.towers.processor(
            images=[*pictures], return_tensors="pt", size=size, do_center_crop=False, resample=Image.Resampling.BICUBIC
        )["pixel_values"]
        return ready.to(self.towers.device, self.towers.precision)

    @property
    def preparation(self) -> dict[str, Any]:
        """What the numbers depend on beside the weights."""
        processor, tokenizer = self.towers.processor, self.towers.tokenizer
        scaled = {"mean": processor.image_mean, "spread": processor.image_std}
        if tokenizer is None:
            return scaled
        tokens = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
        return scaled | {"tokenizer": hashlib.sha256(json.dumps(tokens, sort_keys=True).encode()).hexdigest()}

    @property
    def weights(self) -> list[str]:
        """The digest of every network."""
        return [weight_hash(network) for network in self.towers.networks]


def features(output: Any) -> torch.Tensor:
    """What a tower gives, projected into the shared space, in either form of transformers."""
    found: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return found


@lru_cache(maxsize=4)
def _read(source: str) -> Towers:
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    place = str(STUDIO / "clip") if source == EMBEDDED else source
    try:
        model = CLIPModel.from_pretrained(place, dtype=torch.float32, use_safetensors=True).eval().requires_grad_(False)
        tokenizer = CLIPTokenizer.from_pretrained(place)
        processor = CLIPImageProcessorPil.from_pretrained(place)
    except (OSError, ValueError, KeyError, TypeError) as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the CLIP model {source!r} cannot be read ({line}); give {EMBEDDED!r}, a folder or a hub id of a CLIPModel"
        ) from error
    return Towers(
        vision=model.vision_model,
        images=lambda pixels: features(model.get_image_features(pixel_values=pixels)),
        texts=lambda tokens: features(model.get_text_features(**tokens)),
        tokenizer=tokenizer,
        longest=model.config.text_config.max_position_embeddings,
        processor=processor,
        side=int(model.config.vision_config.image_size),
        networks=(model,),
    )
