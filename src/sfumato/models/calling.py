"""What a pipeline's own call is given beside what a request says."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from sfumato.errors import ModelError

OURS = frozenset({
    "prompt", "prompt_2", "prompt_3", "negative_prompt", "negative_prompt_2", "negative_prompt_3",
    "image", "mask_image", "ip_adapter_image", "example_image", "reference", "strength", "height", "width", "latents",
    "generator", "num_inference_steps", "num_images_per_prompt", "timesteps", "sigmas", "denoising_start",
    "denoising_end", "output_type", "return_dict", "callback", "callback_steps", "callback_on_step_end",
    "callback_on_step_end_tensor_inputs",
})  # fmt: skip
"""Arguments of pipelines' calls that a request says, or that a run is made with."""


def check_arguments(
    pipeline: str,
    takes: Mapping[str, inspect.Parameter],
    arguments: Mapping[str, Any],
    fixed: Mapping[str, Any],
    guided_by: str,
) -> None:
    """Refuse what a user cannot have the call given.

    Args:
        pipeline: Its name.
        takes: The arguments of its call.
        arguments: What is to be given, by name.
        fixed: Those of its family, which must stay as they are.
        guided_by: The argument that a request's guidance is.

    Raises:
        ModelError: The message says which argument it is, and what there is.
    """
    fields = OURS | {guided_by}
    for name, value in fixed.items():
        if arguments[name] != value:
            raise ModelError(f"{name} must be {value}: else words and places would not be known; leave it out")
    length = arguments.get("max_sequence_length", 1)
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ModelError(f"max_sequence_length is {length!r}; expected a whole number of tokens, 1 or more")
    for name in arguments:
        if name in fields:
            raise ModelError(f"{name} is said by the request or the run, not by the model; leave it out here")
        if name not in takes:
            near = ", ".join(sorted(takes.keys() - fields))
            raise ModelError(f"{pipeline} takes no argument {name!r}; it takes: {near}")


def for_each(name: str, value: Any, items: int) -> Any:
    """An argument of a pipeline's call: embeddings of one prompt, and their masks, once for each image."""
    if isinstance(value, torch.Tensor) and ("embeds" in name or name.endswith("mask")) and value.shape[0] == 1:
        return value.expand(items, *value.shape[1:])
    return value
