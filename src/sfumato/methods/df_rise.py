"""DF-RISE: which places of a step's noisy latent does what the step recovers depend on?

Source: Park et al. 2024, "Explaining generative diffusion models via visual analysis for interpretable decision-making
process". The paper compares the denoiser's outputs ("eps"); here the clean estimates by default ("x0"), the only
comparison of like with like that can also be shown. "parity" repeats the released code, which compares the scheduler's
next latent with the masked noise prediction and doubles the covariance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F

from sfumato.errors import ModelError, OptionError
from sfumato.generation.generate import generate
from sfumato.methods.costs import runs
from sfumato.models import noise
from sfumato.models.model import Model
from sfumato.option_values import COUNT, INNER_SHARE, MEGABYTES, SHARE, STEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.saliency.nodes import NODES, saliency_node
from sfumato.saliency.occlusion import Masking, Masks
from sfumato.saliency.recovering import Branch, Recovery, rows_within, steps_at
from sfumato.saliency.rise import Compare, Rise, rise
from sfumato.saliency.similarities import Local, local_similarity, parity, similarity_name
from sfumato.similarity import Clip, clip_for
from sfumato.similarity.judges import JUDGED, notes_on

Of = Literal["x0", "eps", "parity"]
Similarity = Literal["structure", "local_ssim", "luminance", "contrast", "cosine", "perceptual", "ssim"]
CHOICES: dict[str, tuple[str, ...]] = {
    "target": ("x0", "eps", "parity"),
    "similarity": ("structure", "local_ssim", "luminance", "contrast", "cosine", "perceptual"),
    "masking": ("iid", "grid"),
    "branch": ("guided", "conditional"),
}


@dataclass(frozen=True)
class DfRiseOptions:
    """Options of ``df_rise``."""

    at: tuple[int, ...] = field(
        default=(),
        metadata=STEPS | {"help": "steps (from 0); without any, a quarter, a half and three quarters of the run"},
    )
    masks: int = field(default=500, metadata=COUNT | {"help": "most random masks of a step"})
    until: float | None = field(
        default=None,
        metadata=SHARE | {"help": "stop once the map's standard error is this share of its range, such as 0.05"},
    )
    masking: Masking = field(
        default="iid", metadata={"help": "iid: single places, as in the paper; grid: smooth masks and one score"}
    )
    keep: float = field(default=0.5, metadata=INNER_SHARE | {"help": "probability that a mask keeps a place"})
    grid: int = field(
        default=7, metadata={"least": 1, "most": 1024, "help": "cells along the shorter side, for masking=grid"}
    )
    target: Of = field(
        default="x0", metadata={"help": "what is compared: x0 (clean estimates), eps (the paper), parity (its code)"}
    )
    similarity: Similarity = field(default="structure", metadata={"help": "how it is compared"})
    branch: Branch = field(default="guided", metadata={"help": "with guidance, or the conditional branch alone"})
    memory: float = field(
        default=1000.0, metadata=MEGABYTES | {"help": "most memory for the feature maps of a batch, in MB"}
    )
    clip_model: str | None = field(default=None, metadata={"disk": "model", "help": f"{JUDGED}; for perceptual"})

    def __post_init__(self) -> None:
        """Check what the options mean together."""
        object.__setattr__(self, "similarity", similarity_name(self.similarity))
        if self.target == "parity" and self.similarity != "structure":
            raise OptionError(f"similarity is {self.similarity!r}; target=parity compares by structure alone")
        if self.target == "eps" and self.similarity == "perceptual":
            raise OptionError("similarity is 'perceptual', which looks at images; take target=x0")


def _cost(model: Model, request: CompletedRequest, options: DfRiseOptions) -> str:
    steps = len(steps_at(model, request, options.at))
    branches = len(model.branches(request).names) if options.branch == "guided" else 1
    calls = (options.masks + 2) * branches
    most = "up to " if options.until is not None else ""
    return (
        f"{runs(model, request)}, then {most}{steps * calls} calls for {options.masks} "
        f"masks at {steps} steps and for what they are compared with, batched"
    )


@method(
    "df_rise",
    summary="Which places of a step's latent does what the step recovers depend on? Random masks",
    options=DfRiseOptions,
    needs=("replay",),
    cost=_cost,
    paper="Park et al. 2024, Explaining generative diffusion models via visual analysis: DF-RISE",
)
def df_rise(
    model: Model, requests: Sequence[CompletedRequest], options: DfRiseOptions, progress: Progress
) -> list[Explanation]:
    """Mask the chosen steps of every request."""
    return [_explained(model, request, options, progress) for request in requests]


def _explained(model: Model, request: CompletedRequest, options: DfRiseOptions, progress: Progress) -> Explanation:
    if request.images != 1:
        raise OptionError("df_rise looks at one image; explain each seed by itself")
    if options.similarity == "perceptual" and model.decoder is None:
        raise OptionError(
            f"similarity is 'perceptual', which compares decoded images, but {model.source.name} has no decoder; take "
            "structure, local_ssim, luminance, contrast or cosine"
        )
    clip = None
    if options.similarity == "perceptual":
        clip = clip_for(model, options.clip_model, instead="similarity=structure")
    steps = steps_at(model, request, options.at)
    Masks(options.masking, model.latent_grid(request), options.keep, options.grid, 0)  # refuses a grid that is too fine
    rows = rows_within(model, request, options.memory)
    trace = generate(model, request, record=set(steps), progress=progress)
    recoveries = [Recovery(trace, step, branch=options.branch, rows=rows) for step in steps]
    found: list[Rise] = []
    for number, recovery in enumerate(recoveries):
        masks = Masks(options.masking, recovery.grid, options.keep, options.grid, request.seed * 1009 + recovery.step)

        def told(done: int, before: int = number * options.masks) -> None:
            progress("masks", before + done, len(steps) * options.masks)

        found.append(
            rise(
                recovery,
                masks,
                _compare(recovery, options, clip),
                options.masks,
                local=options.masking == "iid",
                until=options.until,
                told=told,
            )
        )
    progress("masks", len(steps) * options.masks, len(steps) * options.masks)
    node = saliency_node(
        recoveries,
        [one.map for one in found],
        {
            "error": (("step", "y", "x"), np.stack([one.error for one in found])),
            "masks": (("step",), [one.masks for one in found]),
            "score": (("step",), [one.score for one in found]),
            "relative_error": (("step",), [one.relative_error for one in found]),
        },
        method="df_rise",
        target=options.target,
        similarity=options.similarity,
        masking=options.masking,
        denoiser_calls=sum(one.calls for one in recoveries),
    )
    extra: dict[str, Any] = {} if clip is None else {"judge": clip.source, "notes": notes_on(model, clip)}
    return trace.explanation(0, {f"{NODES}/df_rise": node}, extra)


def _compare(recovery: Recovery, options: DfRiseOptions, clip: Clip | None) -> Compare:
    if options.target == "parity":
        return _parity(recovery)
    target: Literal["x0", "eps"] = "x0" if options.target == "x0" else "eps"
    own = recovery.recovered(recovery.sample, target)
    if options.similarity == "perceptual":
        assert clip is not None
        return _perceptual(recovery, own, clip)
    name = cast(Local, options.similarity)
    return lambda samples: local_similarity(name, own, recovery.recovered(samples, target))


def _parity(recovery: Recovery) -> Compare:
    """The next latent, as the scheduler makes it, against the denoiser's output for masked latents."""
    scheduler = recovery.trace.scheduler
    try:
        following = noise.previous(
            scheduler,
            recovery.outputs(recovery.sample),
            recovery.sample / noise.input_scale(scheduler, recovery.timestep),
            recovery.timestep,
        )
    except ModelError as error:
        raise ModelError(f"target=parity compares with the scheduler's next latent: {error}") from error
    return lambda samples: parity(following, recovery.outputs(samples))


def _perceptual(recovery: Recovery, own: torch.Tensor, clip: Clip) -> Callable[[torch.Tensor], torch.Tensor]:
    """The cosine of CLIP's features of patches of the decoded clean estimates."""
    features = clip.patches(recovery.pictures(own))  # (1, y, x, channel)

    def compare(samples: torch.Tensor) -> torch.Tensor:
        others = clip.patches(recovery.pictures(recovery.recovered(samples)))
        alike = F.cosine_similarity(features, others, dim=-1)[:, None]
        return F.interpolate(alike.to(own.device), recovery.grid, mode="bilinear", align_corners=False)[:, 0]

    return compare
