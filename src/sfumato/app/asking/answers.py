"""What the tabs ask of models: a request with its maps, a method with its options. All of it runs in a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sfumato.app.asking.inputs import check_patterns, options_from
from sfumato.app.server.workers import Job
from sfumato.app.server.workshop import Seat, Workshop
from sfumato.errors import BudgetExceeded, SfumatoError
from sfumato.explain import explained
from sfumato.generation.generate import generate
from sfumato.models.model import Model
from sfumato.registry import Method, find
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation

KEPT: tuple[tuple[str, ...], ...] = (("step", "layer", "head"), ("step",), ())
"""What is kept of word maps for later selection: as much as fits the budget."""
BUDGET_MB = 48.0
AT_MOST = 2.0
"""Seconds that the cost of a method may be waited for."""


def made(model: Model, requests: Sequence[CompletedRequest], job: Job[Any]) -> list[Explanation]:
    """Images of requests, with maps of their words where the model has any."""
    if "token-maps" not in model.features:
        job.cost = f"{len(requests)} generation{'s' if len(requests) > 1 else ''}"
        return [generate(model, one, progress=job.progress).explanation(0, {}) for one in requests]
    daam = find("daam")
    for keep in KEPT:
        options, job.cost = configured(model, requests[0], daam, {"keep": keep, "budget_mb": BUDGET_MB})
        try:
            return explained(model, requests, daam, options, progress=job.progress)
        except BudgetExceeded:
            continue
    return []


def asked(
    model: Model, request: CompletedRequest, name: str, given: Mapping[str, Any], job: Job[Any], **more: Any
) -> Explanation:
    """The explanation of one method.

    Args:
        model: The model.
        request: What to explain.
        name: Of the method.
        given: Options as the form gives them, text by name.
        job: Told of progress and cost.
        more: Options that the server sets itself, such as a drawn mask.

    Raises:
        SfumatoError: An option cannot be read, or the method cannot answer.
    """
    method = find(name)
    check_patterns(method, more)
    options, job.cost = configured(model, request, method, options_from(method, given) | more)
    return explained(model, [request], method, options, progress=job.progress)[0]


def configured(model: Model, request: CompletedRequest, method: Method, given: Mapping[str, Any]) -> tuple[Any, str]:
    """The options of a method, configured, and what it costs, in words.

    Raises:
        SfumatoError: It cannot answer this request with these options.
    """
    options = method.configure(given)
    method.check(model)
    return options, method.cost(model, request, options)


def priced_in(
    workshop: Workshop,
    seat: Seat,
    model: str,
    request: Callable[[Model], CompletedRequest],
    name: str,
    options: Mapping[str, Any],
) -> str:
    """What a method costs, asked of the model between other jobs; or why it cannot be run, or that nobody knows yet.

    Args:
        workshop: The models.
        seat: Who asks.
        model: Its name on the page.
        request: Completes the request by the model.
        name: Of the method.
        options: Their values.
    """

    def work(ready: Model, job: Job[Any]) -> str:
        return configured(ready, request(ready), find(name), options)[1]

    try:
        job = workshop.worker(model).submit(seat.tab, work)
    except SfumatoError as error:
        return str(error)
    if not job.wait(AT_MOST):
        job.stop()
        return "The model is busy; the cost is told when the method starts."
    return f"Costs {job.value}." if job.state == "done" else job.error
