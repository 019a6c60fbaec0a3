"""Making an explanation once more: the same methods with the same options, on another request or a changed model."""

from __future__ import annotations

import warnings
from typing import Any

from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.explain import explain
from sfumato.models.model import Model
from sfumato.registry import find
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.joining import join

NOT_REPEATED = ("stream",)
"""Options that say where something is written, not what is computed."""


def again(model: Model, explanation: Explanation, request: Request) -> Explanation:
    """Explain a request by the methods of an explanation, with the options that it was made with.

    What is to be noted about its words was said when it was made, and is not said again.

    Raises:
        SfumatoError: The explanation does not say what made it.
    """
    parts = methods_of(explanation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SfumatoWarning)
        return join([explain(model, request, name, **options) for name, options in parts])


def methods_of(explanation: Explanation) -> list[tuple[str, dict[str, Any]]]:
    """The methods that made an explanation, each with its options.

    Raises:
        SfumatoError: The provenance does not say, a method is not known here, or the explanation is a selection.
    """
    provenance = explanation.provenance
    if "selected" in provenance:
        raise SfumatoError("this explanation is a selection of steps, layers or heads; check the one that it is of")
    found = []
    for part in provenance.get("parts") or [provenance]:
        name, options = part.get("method"), part.get("options")
        if not isinstance(name, str) or not isinstance(options, dict):
            raise SfumatoError("this explanation does not say which method made it, so it cannot be made again")
        find(name)
        found.append((name, {key: _given(value) for key, value in options.items() if key not in NOT_REPEATED}))
    return found


def _given(value: Any) -> Any:
    """A stored option as it was given: what was a tuple is stored as a list."""
    return tuple(_given(one) for one in value) if isinstance(value, list) else value
