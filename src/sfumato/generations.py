"""Images of many prompts, made in batches, each made once and remembered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from sfumato.cache import Cache, digest
from sfumato.models.fingerprint import weight_hash
from sfumato.models.model import Model, modules_of
from sfumato.models.turns import alone
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.trace import generate

KIND = "generations"
FOLDER = "_name_or_path"
"""Where a network was loaded from, which its images do not depend on."""
MADE_BY = ("torch", "diffusers", "transformers")


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
            missing: dict[str, Request] = {}
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

    def _make(self, part: Sequence[tuple[str, Request]], progress: Progress) -> None:
        trace = generate(self.model, [request for _, request in part], progress=progress)
        latents = trace.latents.float().cpu().numpy()
        for (key, _), image, latent in zip(part, trace.images, latents, strict=True):
            pixels = np.asarray(image.convert("RGB"))
            self._known[key] = Generation(key, pixels, latent)
            self.cache.put(KIND, key, {"pixels": pixels, "latent": latent})
            self.made += 1


def identity(model: Model) -> dict[str, Any]:
    """Everything about a model that its images depend on.

    Weights, settings of every part, tokenizers, scheduler, adapters and their scales, FreeU, precision and libraries.
    """
    weights = next(model.denoiser.parameters())
    scheduler = model.pipeline.scheduler
    tokenizers = {
        name: _tokenizer(part)
        for name, part in sorted(model.pipeline.components.items())
        if hasattr(part, "backend_tokenizer")
    }
    networks = modules_of(model.pipeline)
    return {
        "weights": weight_hash(model.pipeline),
        "settings": {name: _plain(getattr(part, "config", {})) for name, part in sorted(networks.items())},
        "adapters": {name: _adapters(part) for name, part in sorted(networks.items())},
        "pipeline": type(model.pipeline).__name__,
        "scheduler": [type(scheduler).__name__, json.dumps(dict(scheduler.config), sort_keys=True, default=str)],
        "tokenizers": tokenizers,
        "precision": [weights.device.type, str(weights.dtype)],
        "libraries": {name: version(name) for name in MADE_BY},
    } | ({"arguments": said(model.arguments)} if model.arguments else {})


def identity_digest(model: Model) -> str:
    """The digest of `identity`."""
    return digest(identity(model))


def said(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a pipeline's call, tensors and pictures by the digest of their values, ready for JSON."""
    return {name: _said(value) for name, value in arguments.items()}


def _said(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _said(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_said(one) for one in value]
    if isinstance(value, torch.Tensor):
        plain = value.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy()
        return [str(value.dtype), list(value.shape), hashlib.sha256(plain.data).hexdigest()]
    if isinstance(value, np.ndarray | Image.Image):
        pixels = np.ascontiguousarray(value)
        return [str(pixels.dtype), list(pixels.shape), hashlib.sha256(pixels.tobytes()).hexdigest()]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _tokenizer(part: Any) -> dict[str, Any]:
    """A tokenizer's rules; truncation and padding are left out, since every call sets them anew."""
    rules: dict[str, Any] = json.loads(part.backend_tokenizer.to_str())
    kept = {name: rule for name, rule in rules.items() if name not in {"truncation", "padding"}}
    return kept | {"padding token": part.pad_token_id, "longest": part.model_max_length}


def _plain(config: Any) -> str:
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return json.dumps({name: value for name, value in values.items() if name != FOLDER}, sort_keys=True, default=str)


def _adapters(network: nn.Module) -> list[Any]:
    """What is set on modules and stands neither in weights nor in settings: scales of adapters, and FreeU's factors."""
    found: list[Any] = []
    for name, module in network.named_modules():
        if isinstance(scales := getattr(module, "scaling", None), dict):
            merged = getattr(module, "merged_adapters", [])
            found.append([name, sorted(scales.items()), list(getattr(module, "active_adapters", [])), list(merged)])
        factors = [getattr(module, factor, None) for factor in ("s1", "s2", "b1", "b2")]
        if any(factor is not None for factor in factors):
            found.append([name, factors])
        if hasattr(module, "to_k_ip"):  # the processor of an IP-Adapter
            found.append([name, list(module.scale)])
    return found
