"""Samples drawn while the U-Net trains: a picture to look at and numbers for the log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sfumato.errors import TrainingError
from sfumato.studio.grammar import expected
from sfumato.studio.reader import matches, read
from sfumato.studio.scenes import held_out_captions
from sfumato.studio.shapes import SIZE
from sfumato.studio.tokenizer import load_tokenizer
from sfumato.writing.files import replacing_file
from sfumato_training.autoencoder import load_vae
from sfumato_training.checkpoints import load_latest
from sfumato_training.precision import mixed_precision
from sfumato_training.progress import Progress
from sfumato_training.scenes.clip import TOKENIZER, build_clip
from sfumato_training.scenes.config import Config
from sfumato_training.scenes.unet import build_scheduler, build_text_encoder, build_unet

PROMPTS = (
    "a red circle",
    "a large striped blue star",
    "a green square left of a yellow triangle",
    "a white ring above a purple cross",
    "two orange squares",
    "three blue hearts, gray background",
    "a black diamond inside a white circle on a teal background",
    "a small yellow ring and a red heart, brown background",
)
"""What the grid of samples shows, from left to right."""

_BATCH = 32


def pipeline_of(config: Config, *, unet: Any, text_encoder: Any, vae: Any, tokenizer: Any) -> Any:
    """Put trained parts together as a StableDiffusionPipeline."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(config.unet),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def averaged_pipeline(config: Config, weights: dict[str, dict[str, torch.Tensor]], vae: Any, tokenizer: Any) -> Any:
    """Build a pipeline from the weights that `Training.averaged` gives."""
    from transformers import CLIPTextModel

    width = weights["text_encoder"]["final_layer_norm.weight"].shape[0]
    unet = build_unet(config.unet, width, vae.config.sample_size // 2 ** (len(config.vae.channels) - 1))
    unet.load_state_dict(weights["unet"])
    text_encoder = CLIPTextModel(text_config(config, tokenizer))
    text_encoder.load_state_dict(weights["text_encoder"])
    for model in (unet, text_encoder):
        model.to(config.device).eval().requires_grad_(False)
    return pipeline_of(config, unet=unet, text_encoder=text_encoder, vae=vae, tokenizer=tokenizer)


def text_config(config: Config, tokenizer: Any) -> Any:
    """Give the config of the U-Net's text encoder."""
    return build_text_encoder(build_clip(config.clip, tokenizer), config.unet.text_layers).config


def trained_pipeline(config: Config, out: Path) -> tuple[Any, int]:
    """Load the newest checkpoint of a work folder as a pipeline with averaged weights.

    Returns:
        The StableDiffusionPipeline and the number of steps its U-Net was trained.
    """
    found = load_latest(out / "unet")
    vae = load_vae(config.vae, SIZE, out, config.device)
    tokenizer = load_tokenizer(out / TOKENIZER)
    if found is None:
        raise TrainingError(f"{out} holds no trained U-Net; run the stage 'unet' first")
    tensors, state = found
    vae.register_to_config(scaling_factor=state["scaling"])
    weights: dict[str, dict[str, torch.Tensor]] = {"unet": {}, "text_encoder": {}}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "ema":
            model, _, key = rest.partition(".")
            weights[model][key] = tensor
    return averaged_pipeline(config, weights, vae, tokenizer), int(state["step"])


def draw(
    pipeline: Any, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, arguments: Mapping[str, Any]
) -> npt.NDArray[np.uint8]:
    """Generate one image per prompt and seed, in mixed precision, to look at and to count (not bit-stable).

    Args:
        pipeline: Of diffusers.
        prompts: One for each image.
        seeds: The same.
        steps: Denoising steps.
        arguments: What else its call is given, for guidance and size.

    Returns:
        (prompt, y, x, channel) uint8.
    """
    images = []
    for start in range(0, len(prompts), _BATCH):
        some = list(prompts[start : start + _BATCH])
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + _BATCH]]
        with mixed_precision(pipeline.device):
            drawn = pipeline(
                some, num_inference_steps=steps, generator=generators, output_type="np", **arguments
            ).images
        images.append((drawn * 255).round().astype(np.uint8))
    return np.concatenate(images)


def score(images: npt.NDArray[np.uint8], captions: Sequence[str]) -> dict[str, float]:
    """Read the images and give the shares of what the captions promise that is there.

    Returns:
        objects: Promised objects with their shape and colour.
        binding: Of the promised objects whose shape is there, those in their own colour (only captions that promise
            two different colours).
        relations: Promised relations that hold, and counts: promised numbers that are right.
    """
    found: dict[str, list[bool]] = {"objects": [], "binding": [], "relations": [], "counts": []}
    for image, caption in zip(images, captions, strict=True):
        expectation, reading = expected(caption), read(image)
        result = matches(reading, expectation)
        found["objects"] += result.objects
        if len({thing.colour for thing in expectation.things}) > 1:
            shapes = {seen.shape for seen in reading.things}
            pairs = zip(expectation.things, result.objects, strict=True)
            found["binding"] += [right for thing, right in pairs if thing.shape in shapes]
        found["relations"] += [] if result.relation is None else [result.relation]
        found["counts"] += [] if result.count is None else [result.count]
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def look(
    pipeline: Any,
    out: Path,
    progress: Progress,
    stage: str,
    step: int,
    steps: int,
    arguments: Mapping[str, Any],
) -> None:
    """Draw a grid of samples into `out`/samples and log what the reader finds in images of held-out captions.

    Args:
        pipeline: With the averaged weights.
        out: The work folder.
        progress: Receives the event.
        stage: The stage in training.
        step: Optimizer steps done.
        steps: Denoising steps of a sample.
        arguments: What else its call is given, for guidance and size.
    """
    started = time.monotonic()
    seeds = [0] * len(PROMPTS) + [1] * len(PROMPTS)
    others = list(held_out_captions(2 * len(PROMPTS)))
    images = draw(
        pipeline,
        [*PROMPTS, *PROMPTS, *others],
        [*seeds, *range(len(others))],
        steps=steps,
        arguments=arguments,
    )
    rows = images.reshape(-1, len(PROMPTS), *images.shape[1:])
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    path = out / "samples" / f"{step:06d}.png"
    with replacing_file(path) as opened:
        Image.fromarray(sheet).save(opened, "PNG")
    values = score(images[len(seeds) :], others) if images.shape[1:3] == (SIZE, SIZE) else {}
    progress.event(stage, step, {**values, "samples": path.name, "seconds": time.monotonic() - started})
