"""The whole story on one page: a request, a model and a method become an explanation."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, overload

import torch

from sfumato.bounds import checked_int
from sfumato.errors import RequestError, SfumatoWarning
from sfumato.models.fingerprint import weight_hash
from sfumato.models.identity import said
from sfumato.models.loading import as_model
from sfumato.models.model import Model
from sfumato.models.turns import alone
from sfumato.progress import Progress, silent
from sfumato.registry import Method, find
from sfumato.request import CompletedRequest, Request
from sfumato.results.explanation import Explanation

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

BATCH = 8
MOST_BATCH = 100_000
RECORDED = ("sfumato", "torch", "diffusers", "transformers", "numpy")


@overload
def explain(
    model: Model | DiffusionPipeline,
    request: Request,
    method: str = ...,
    *,
    batch: int = ...,
    progress: Progress = ...,
    **options: Any,
) -> Explanation: ...
@overload
def explain(
    model: Model | DiffusionPipeline,
    request: Sequence[Request],
    method: str = ...,
    *,
    batch: int = ...,
    progress: Progress = ...,
    **options: Any,
) -> list[Explanation]: ...
def explain(
    model: Model | DiffusionPipeline,
    request: Request | Sequence[Request],
    method: str = "daam",
    *,
    batch: int = BATCH,
    progress: Progress = silent,
    **options: Any,
) -> Explanation | list[Explanation]:
    """Generate the images of a request and explain them.

    A thread that explains holds the model until it is done; others that want it, or a pipeline that shares a part with
    it, wait in a queue. So any number of threads may explain on one model. Where the caller has switched derivatives
    off (``torch.inference_mode``, ``torch.no_grad``), methods still take those that they need.

    Args:
        model: From ``sfumato.load`` or ``sfumato.wrap``; a pipeline of diffusers is wrapped.
        request: What to generate; several requests are run in batches and give a list in the same order.
        method: Name of a registered method (``sfumato.methods()`` lists them).
        batch: Requests are run together up to so many images; the images of one request are never split.
        progress: Told about every unit of work.
        options: Options of the method.

    Returns:
        One explanation for each request.

    Raises:
        UnknownMethod: There is no such method.
        OptionError: The method has no such option, or its value is unusable.
        ModelError: The model cannot do what the method needs.
        RequestError: The request cannot be explained (an empty prompt, say).
        NonFinite: The generation broke down; the message says at which step.

    Example:
        >>> import sfumato
        >>> found = sfumato.explain(sfumato.load(), sfumato.Request("a red circle", seed=7, steps=4))
        >>> found.words["word"].values.tolist()
        ['a', 'red', 'circle']
    """
    chosen = find(method)
    configured = chosen.configure(options)
    model = as_model(model)
    chosen.check(model)
    batch = checked_int("batch", batch, 1, MOST_BATCH, RequestError)
    single = isinstance(request, Request)
    asked: Any = [request] if isinstance(request, Request) else request
    if (
        not isinstance(asked, Sequence)
        or isinstance(asked, str | bytes)
        or any(not isinstance(r, Request) for r in asked)
    ):
        raise RequestError("explain takes a request or a list of them, such as sfumato.Request('a red circle', seed=7)")
    with alone(model.pipeline):
        found = explained(model, [model.complete(r) for r in asked], chosen, configured, batch=batch, progress=progress)
    return found[0] if single else found


def explained(
    model: Model,
    requests: Sequence[CompletedRequest],
    method: Method,
    options: Any,
    *,
    batch: int = BATCH,
    progress: Progress = silent,
) -> list[Explanation]:
    """The explanation of each completed request, as ``explain`` gives it.

    Args:
        model: Has what the method needs (`Method.check`).
        requests: Completed by the model.
        method: Which.
        options: Of the method, configured.
        batch: Most images of a run.
        progress: As for ``explain``.
    """
    results: dict[int, Explanation] = {}
    with alone(model.pipeline), torch.inference_mode(False):
        for group in batches(requests, batch, model.mixes):
            results |= _explained(model, [(i, requests[i]) for i in group], method, options, progress)
    return [results[i] for i in range(len(requests))]


def _explained(
    model: Model, group: Sequence[tuple[int, CompletedRequest]], method: Method, options: Any, progress: Progress
) -> dict[int, Explanation]:
    started, clock = datetime.now(UTC), time.perf_counter()
    found = method.explain(model, [request for _, request in group], options, progress)
    seconds = round(time.perf_counter() - clock, 3)
    common = {
        "method": method.name,
        "method_version": method.version,
        "options": asdict(options),
        "paper": method.paper,
        "model": model.source.name,
        "revision": model.source.revision,
        "family": model.family,
        "pipeline": type(model.pipeline).__name__,
        "arguments": said(model.arguments),
        "weights_sha256": weight_hash(model.pipeline),
        "device": str(model.pipeline._execution_device),
        "dtype": str(next(model.denoiser.parameters()).dtype).removeprefix("torch."),
        "versions": dict(_versions()),
        "started": started.isoformat(timespec="seconds"),
        "seconds": seconds,
        "batch": sum(request.images for _, request in group),
    }
    results = {}
    for (number, request), explanation in zip(group, found, strict=True):
        unknown = _out_of_vocabulary(model, request, options)
        notes = [*_notes(model, request, unknown), *explanation.provenance.get("notes", ())]
        for note in notes:
            warnings.warn(note, SfumatoWarning, stacklevel=4)
        provenance = common | {"out_of_vocabulary": unknown} | explanation.provenance | {"notes": notes}
        results[number] = Explanation(explanation.tree, explanation.request, provenance)
    return results


def _out_of_vocabulary(model: Model, request: Request, options: Any) -> list[str]:
    """The words of all texts that the model read for an explanation and that it was never trained on."""
    if "words" not in model.features:
        return []
    texts = [request.prompt, request.negative_prompt]
    for one in fields(options):
        if one.metadata.get("prompt"):
            value = getattr(options, one.name)
            texts += [value] if isinstance(value, str) else value or ()
    return list(dict.fromkeys(word for text in texts for word in model.unknown_words(text)))


def _notes(model: Model, request: Request, unknown: Sequence[str]) -> list[str]:
    """What a reader should know about the words of the prompt."""
    if "words" not in model.features:
        return []
    tokens = model.tokens(request.prompt)
    notes = []
    if tokens.unseen:
        notes.append(f"cut off after {tokens.length} tokens, not seen by the model: {', '.join(tokens.unseen)}")
    if unknown:
        notes.append(f"never seen in training: {', '.join(unknown)}")
    return notes


def batches(requests: Sequence[Request], most: int, mixes: bool) -> Iterator[list[int]]:
    """Numbers of requests that can share a run: same settings, at most so many images (one request may exceed it).

    Args:
        requests: Completed, so that equal settings are equal.
        most: Images of a run.
        mixes: Whether the model takes prompts with and without a negative one together (`Model.mixes`).
    """
    groups: dict[Any, list[list[int]]] = {}
    for number, request in enumerate(requests):
        shared = request.values("prompt", "negative_prompt", "label", "seed", "images")
        runs = groups.setdefault((bool(request.negative_prompt) and not mixes, *shared.values()), [[]])
        if runs[-1] and sum(requests[i].images for i in runs[-1]) + request.images > most:
            runs.append([])
        runs[-1].append(number)
    for runs in groups.values():
        yield from runs


@cache
def _versions() -> dict[str, str]:
    """Of what results depend on; each is read from a file of the environment, and this process has loaded its own."""
    return {name: version(name) for name in RECORDED} | {"python": platform.python_version()}
