"""The identity of a model: everything that its images depend on beside the request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.modules import module as hooked
from torch.overrides import _get_current_function_mode_stack

from sfumato.models.fingerprint import buffer_hash, weight_hash
from sfumato.models.model import Model, modules_of
from sfumato.models.settings import RUN, Settings, numbers_of
from sfumato.models.stored import attributes_of_a_run

MADE_BY = ("sfumato", "torch", "diffusers", "transformers")


def identity(model: Model) -> dict[str, Any]:
    """Everything about a model that its images depend on, ready for the key of a cache.

    Weights and buffers; what the pipeline, its networks with all of their modules, processors and hooks, its scheduler
    and its other parts carry as settings; the rules of tokenizers; precision, autocast and other modes; the versions
    of Sfumato and of the libraries. A run leaves it as it was. A hook or a processor that collects something of its
    runs has another state after each, so nothing is taken from a cache while it is there.
    """
    pipeline = model.pipeline
    weights = next(model.denoiser.parameters())
    parts = {name: part for name, part in sorted(pipeline.components.items()) if part is not None}
    networks = {name: dict(network.named_modules()) for name, network in modules_of(pipeline).items()}
    modules = [(one, f"{part}.{name}") for part, network in networks.items() for name, one in network.items()]
    settings = Settings([(pipeline, "pipeline"), *((part, name) for name, part in parts.items()), *modules])
    set_by_run = attributes_of_a_run(type(pipeline), RUN)
    return {
        "weights": weight_hash(pipeline),
        "buffers": buffer_hash(pipeline),
        "networks": {name: settings.of_network(network) for name, network in sorted(networks.items())},
        "parts": {
            name: _tokenizer(part, set_by_run) if hasattr(part, "backend_tokenizer") else settings.of_part(part)
            for name, part in parts.items()
            if name not in networks
        },
        "pipeline": [type(pipeline).__name__, settings.of_pipeline(pipeline)],
        "precision": [weights.device.type, str(weights.dtype)],
        "modes": _modes(settings, weights.device.type),
        "libraries": _versions(),
    } | ({"arguments": said(model.arguments)} if model.arguments else {})


def identity_digest(model: Model) -> str:
    """The digest of `identity`: SHA-256 of its canonical JSON form."""
    return hashlib.sha256(json.dumps(identity(model), sort_keys=True).encode()).hexdigest()


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in MADE_BY}


def said(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a pipeline's call, tensors and pictures by the digest of their values, ready for JSON."""
    return {name: _said(value) for name, value in arguments.items()}


def _said(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _said(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_said(one) for one in value]
    if isinstance(value, torch.Tensor | np.ndarray | Image.Image):
        return numbers_of(value)
    return value if isinstance(value, str | int | float | bool | None) else Settings().of(value)


def _tokenizer(part: Any, set_by_run: frozenset[str]) -> dict[str, Any]:
    """A tokenizer's rules; truncation and padding are left out, since every call sets them anew."""
    rules: dict[str, Any] = json.loads(part.backend_tokenizer.to_str())
    kept = {name: rule for name, rule in rules.items() if name not in {"truncation", "padding"}}
    sides = {name: getattr(part, name, None) for name in ("padding_side", "truncation_side") if name not in set_by_run}
    return kept | sides | {"padding token": part.pad_token_id, "longest": part.model_max_length}


def _modes(settings: Settings, device: str) -> dict[str, Any]:
    """What holds for all models of the process or of this thread, and changes what they compute."""
    return {
        "autocast": {
            kind: str(torch.get_autocast_dtype(kind)) for kind in {"cpu", device} if torch.is_autocast_enabled(kind)
        },
        "default": str(torch.get_default_dtype()),
        "matmul": [torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32],
        "convolutions": torch.backends.cudnn.allow_tf32,
        "functions": [settings.of(mode) for mode in _get_current_function_mode_stack()],
        "hooks": [
            settings.of(list(group.values()))
            for group in (hooked._global_forward_pre_hooks, hooked._global_forward_hooks)
        ],
    }
