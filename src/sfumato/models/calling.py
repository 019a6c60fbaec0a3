"""What a pipeline's own call is given beside what a request says."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from sfumato.bounds import checked_int, shown
from sfumato.errors import ModelError, SfumatoError

MOST_TOKENS = 100_000
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
    if "max_sequence_length" in arguments:
        checked_int("max_sequence_length", arguments["max_sequence_length"], 1, MOST_TOKENS, ModelError)
    known = {name: one for name, one in takes.items() if one.kind is not inspect.Parameter.VAR_KEYWORD}
    for name, value in arguments.items():
        if name in fields:
            raise ModelError(f"{name} is said by the request or the run, not by the model; leave it out here")
        if name not in known:
            near = ", ".join(sorted(known.keys() - fields))
            raise ModelError(f"{pipeline} takes no argument {shown(name)}; it takes: {near}")
        expected = known[name].annotation
        if not _admits(expected, value) and (value is not None or known[name].default is not None):
            raise ModelError(
                f"the argument {name} is {shown(value)}; {pipeline} expects {inspect.formatannotation(expected)}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ModelError(f"the argument {name} is {value}; expected a finite number")


@contextmanager
def refusals_named(pipeline: str, own: Mapping[str, Any]) -> Iterator[None]:
    """What a pipeline's call raises because of its arguments becomes one kind of error.

    Args:
        pipeline: Its name.
        own: What the call is given in addition to the request. Pipelines refuse arguments by ``ValueError``; other
            errors count as a refusal only where there are such arguments.

    Raises:
        ModelError: The message names these arguments.
    """
    try:
        yield
    except SfumatoError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:
        of_memory = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not isinstance(error, ValueError) and (not own or of_memory):
            raise
        line = " ".join(str(error).split())[:300]
        given = ", ".join(f"{name}={shown(value)}" for name, value in own.items())
        raise ModelError(f"{pipeline} refuses its arguments{f' ({given})' if given else ''}: {line}") from error


def _admits(expected: Any, value: Any) -> bool:
    """Whether a plain value (as JSON has it) is of an annotated type; of all else the pipeline itself is the judge."""
    origin, parts = typing.get_origin(expected) or expected, typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        return any(_admits(part, value) for part in parts)
    if origin in (Any, object, inspect.Parameter.empty, typing.Literal) or isinstance(origin, str):
        return True
    if isinstance(value, list | tuple) and origin in (list, tuple, Sequence):
        return all(_admits(parts[0] if parts else Any, one) for one in value)
    kinds = {bool: (bool,), int: (int, float), float: (float,), str: (str,), dict: (dict,), list: (), tuple: ()}
    return origin in kinds.get(type(value), (origin,)) if value is not None else origin is type(None)


def for_each(name: str, value: Any, items: int) -> Any:
    """An argument of a pipeline's call: embeddings of one prompt, and their masks, once for each image."""
    if isinstance(value, torch.Tensor) and ("embeds" in name or name.endswith("mask")) and value.shape[0] == 1:
        return value.expand(items, *value.shape[1:])
    return value
