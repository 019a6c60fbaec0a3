"""Completing requests: a model fills what a request leaves open, once for each request."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

from sfumato.request import CompletedRequest, Request


class Completed:
    """The requests that a model has completed and that are still in use."""

    def __init__(self) -> None:
        self._known: WeakSet[CompletedRequest] = WeakSet()

    def of(self, request: Request, filled: Callable[[Request], CompletedRequest]) -> CompletedRequest:
        """The request with the model's defaults; one equal to what the model has completed, as it is.

        Args:
            request: Open, or completed by any model.
            filled: Checks a request against the model and fills it.
        """
        if isinstance(request, CompletedRequest) and request in self._known:
            return request
        completed = filled(request)
        self._known.add(completed)
        return completed
