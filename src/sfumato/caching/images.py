"""Images of many prompts, made in batches, each made once and remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sfumato.caching.cache import Cache, digest
from sfumato.generation.generate import generate
from sfumato.models.identity import identity
from sfumato.models.model import Model
from sfumato.models.turns import alone
from sfumato.progress import Progress, silent
from sfumato.request import CompletedRequest, Request

KIND = "generations"


@dataclass(frozen=True)
class Generation:
    """One image and what it was made from.

    Attributes:
        key: Digest of everything that it depends on.
        pixels: (y, x, channel) uint8.
        latent: (channel, y, x) float32, the final one.
    """

    key: str
    pixels: NDArray[np.uint8]
    latent: NDArray[np.float32]


@dataclass
class Generator:
    """Makes images and remembers them.

    Attributes:
        model: The model.
        cache: Where images are kept beyond this process.
        batch: How many are made together.
        made: How many had to be made.
        recalled: How many were found in the cache.
    """

    model: Model
    cache: Cache
    batch: int = 8
    made: int = 0
    recalled: int = 0
    _known: dict[str, Generation] = field(default_factory=dict)

    def __call__(self, requests: Sequence[Request], progress: Progress = silent) -> list[Generation]:
        """The image of every request, in order.

        An image does not depend on what else is in its batch, up to the float tolerance of batched kernels.

        Args:
            requests: Of one image each, alike in all but prompt, negative prompt and seed.
            progress: Told about every call of the denoiser.
        """
        with alone(self.model.pipeline):  # what is made is of the model that the keys are of
            asked = [self.model.complete(request) for request in requests]
            model = identity(self.model)
            keys = [digest({"request": request.key, "model": model}) for request in asked]
            missing: dict[str, CompletedRequest] = {}
            for key, request in zip(keys, asked, strict=True):
                if key not in self._known and key not in missing and not self._recall(key):
                    missing[key] = request
            waiting = list(missing.items())
            for start in range(0, len(waiting), self.batch):
                self._make(waiting[start : start + self.batch], progress)
        return [self._known[key] for key in keys]

    def _recall(self, key: str) -> bool:
        found = self.cache.get(KIND, key)
        if found is None:
            return False
        self._known[key] = Generation(key, found["pixels"], found["latent"])
        self.recalled += 1
        return True

    def _make(self, part: Sequence[tuple[str, CompletedRequest]], progress: Progress) -> None:
        trace = generate(self.model, [request for _, request in part], progress=progress)
        latents = trace.latents.float().cpu().numpy()
        for (key, _), image, latent in zip(part, trace.images, latents, strict=True):
            pixels = np.asarray(image.convert("RGB"))
            self._known[key] = Generation(key, pixels, latent)
            self.cache.put(KIND, key, {"pixels": pixels, "latent": latent})
            self.made += 1
