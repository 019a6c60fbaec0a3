"""What generations cost, in words: how what every method says of its cost begins.

A denoiser call of a generation is one pass of all its images and guidance branches. Calls that a method adds are of one
image under one condition, in batches where the method says so.
"""

from __future__ import annotations

from sfumato.models.model import Model
from sfumato.request import CompletedRequest


def runs(model: Model, request: CompletedRequest, count: int = 1) -> str:
    """So many generations of a completed request, with their denoiser calls."""
    calls = count * model.steps(request) * model.branches(request).calls
    return f"{'one generation' if count == 1 else f'{count:,} generations'} ({calls:,} denoiser calls)"
