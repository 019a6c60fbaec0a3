"""What a family of pipelines is: a name, a builder with random weights, and arguments of its own call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from torch import nn

import sfumato
from sfumato.models.model import Model
from sfumato.request import Request

SEED = 0
FIELDS = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "height": "height",
    "width": "width",
    "guidance_scale": "guidance",
    "image": "image",
    "mask_image": "mask",
    "strength": "strength",
    "ip_adapter_image": "reference",
    "example_image": "reference",
}
"""The fields of a request by the pipelines' names for them."""

Inputs = ParamSpec("Inputs")


@dataclass(frozen=True)
class Family:
    """One kind of pipeline, small enough to build and run in a test.

    Attributes:
        name: Public name.
        pipeline: Name of its class in diffusers.
        build: A fresh pipeline on every call, with the same weights each time.
        arguments: Keyword arguments of the pipeline's own call for a small image. The caller adds `generator`,
            `num_inference_steps` and `output_type`.
    """

    name: str
    pipeline: str
    build: Callable[[], Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def request(self, **more: Any) -> Request:
        """What a user asks of Sfumato for the same image, in two steps; a given image is looked at in one."""
        guided = {"true_cfg_scale": "guidance"} if self.pipeline == "QwenImagePipeline" else {}
        fields = FIELDS | guided
        asked = {fields[name]: value for name, value in self.arguments.items() if name in fields}
        steps = {} if more.get("invert") else {"steps": 2}
        return Request(**{"seed": SEED, **steps, **asked, **more})

    def wrapped(self, pipeline: Any | None = None) -> Model:
        """The pipeline (a fresh one) for Sfumato, with those arguments that no request has a field for."""
        own = {*FIELDS, "true_cfg_scale"} if self.pipeline == "QwenImagePipeline" else {*FIELDS}
        more = {name: value for name, value in self.arguments.items() if name not in own}
        return sfumato.wrap(self.build() if pipeline is None else pipeline, **more)

    def run(self, pipeline: Any, steps: int = 2) -> NDArray[np.uint8]:
        """The image of the pipeline's own call, without Sfumato: (y, x, channel)."""
        generator = torch.Generator().manual_seed(SEED)
        listed = generator if self.pipeline.startswith("DD") else [generator]
        made = pipeline(**self.arguments, num_inference_steps=steps, generator=listed, output_type="pil").images[0]
        return np.asarray(made.convert("RGB"))


def random_weights(build: Callable[Inputs, DiffusionPipeline]) -> Callable[Inputs, DiffusionPipeline]:
    """Make a builder draw its weights from a fixed seed and return its pipeline ready to run.

    The global random state is left as it was; every network is in evaluation mode without gradients, and no progress
    is shown.
    """

    @wraps(build)
    def seeded(*args: Inputs.args, **kwargs: Inputs.kwargs) -> DiffusionPipeline:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            pipeline = build(*args, **kwargs)
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.eval().requires_grad_(False)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return seeded
