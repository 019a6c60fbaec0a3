"""What is measured: the plain pipeline, and the same generation watched by Sfumato and by its peers.

Every contender gets the same pipeline and the same job and returns the images. Each does all it has to do until its
maps are there, and nothing more: no picture is drawn, no file written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from benchmarks.cases import Job

Contender = Callable[[Any, Job], list[Image.Image]]


def plain(pipeline: Any, job: Job) -> list[Image.Image]:
    """The pipeline as it is."""
    images: list[Image.Image] = pipeline([job.prompt] * job.images, **arguments(job)).images
    return images


def sfumato_daam(pipeline: Any, job: Job) -> list[Image.Image]:
    """``sfumato.explain`` with the default options, from the request to the finished explanation."""
    return _explained(pipeline, job)


def sfumato_parity(pipeline: Any, job: Job) -> list[Image.Image]:
    """The same in the mode that reproduces the numbers of daam 0.2."""
    return _explained(pipeline, job, parity="daam-0.2")


def daam(pipeline: Any, job: Job) -> list[Image.Image]:
    """Package daam: global map, then the map of every word. It takes one prompt; several images are averaged."""
    import daam as package  # type: ignore[import-not-found]

    with torch.no_grad(), package.trace(pipeline) as trace:
        images: list[Image.Image] = pipeline(job.prompt, num_images_per_prompt=job.images, **arguments(job)).images
        found = trace.compute_global_heat_map()
        for word in dict.fromkeys(job.prompt.split()):
            found.compute_word_heat_map(word)
    return images


def capture_last(pipeline: Any, job: Job) -> list[Image.Image]:
    """Package attention-map-diffusers as it comes: the maps of the last step only."""
    return _captured(pipeline, job)


def capture_all(pipeline: Any, job: Job) -> list[Image.Image]:
    """The same package asked for what DAAM sums: the head mean of every step."""
    return _captured(pipeline, job, timesteps="all", mode="exact")


def arguments(job: Job) -> dict[str, Any]:
    """Arguments of the pipeline's call, but for the prompt; every image has a CPU generator of its own."""
    return {
        "generator": [torch.Generator().manual_seed(job.seed + i) for i in range(job.images)],
        "num_inference_steps": job.steps,
        "guidance_scale": job.guidance,
        "height": job.side,
        "width": job.side,
    }


def _explained(pipeline: Any, job: Job, **options: Any) -> list[Image.Image]:
    import sfumato

    request = sfumato.Request(
        job.prompt,
        seed=job.seed,
        steps=job.steps,
        guidance=job.guidance,
        height=job.side,
        width=job.side,
        images=job.images,
    )
    return sfumato.explain(sfumato.wrap(pipeline), request, **options).images


def _captured(pipeline: Any, job: Job, **options: Any) -> list[Image.Image]:
    from attention_map_diffusers import AttentionCapture  # type: ignore[import-not-found]

    with torch.no_grad(), AttentionCapture(pipeline, **options) as capture:
        images = plain(pipeline, job)
    capture.compute()
    return images


RUN: dict[str, Contender] = {
    "plain": plain,
    "plain, again": plain,
    "sfumato": sfumato_daam,
    "sfumato, parity": sfumato_parity,
    "daam": daam,
    "attention-map-diffusers": capture_all,
    "attention-map-diffusers, last step": capture_last,
}
