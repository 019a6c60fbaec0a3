"""What is known of a pipeline class before one is looked at; `sfumato.models.families` is the table of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sfumato.models.text import Text


@dataclass(frozen=True)
class Family:
    """What is known of a pipeline class whose latents are decoded.

    Attributes:
        name: Of the family.
        text: How a prompt is read.
        features: What methods may rely on, beside words and what the task adds.
        kind: The class that answers for it; `sfumato.models.latent.LatentModel` where it is None.
        guidance: How the branches of guidance are run: in one batch, one call after the other, or not at all.
        time_scale: By what the denoiser's timestep is multiplied to give the scheduler's.
        arguments: What its call is given, whatever its user says.
    """

    name: str
    text: type[Text]
    features: frozenset[str]
    kind: Callable[..., Any] | None = None
    guidance: Literal["batched", "sequential", "distilled"] = "batched"
    time_scale: float = 1.0
    arguments: Mapping[str, Any] = field(default_factory=dict)
