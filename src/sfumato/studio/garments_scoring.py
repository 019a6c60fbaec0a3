"""How well a reference model paints what a reference shows, read from its images."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sfumato.bounds import checked_int
from sfumato.errors import ModelError, OptionError
from sfumato.generation.generate import generate
from sfumato.inputs.image import Mask, Picture
from sfumato.metrics import bootstrap
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.studio.garments import Pair, pair
from sfumato.studio.garments_reader import THINGS, measured_garment
from sfumato.studio.scoring import Figure, Scores

BATCH = 8


def request_of(one: Pair, seed: int) -> Request:
    """What a reference model is asked for to paint the garment of a pair into its scene."""
    reference, image = Picture.of(one.reference), Picture.of(one.scene)
    return Request(reference=reference, image=image, mask=Mask.of(one.mask), seed=seed)


def score_garments(model: Model, samples: int = 200, *, seed: int = 0, progress: Progress = silent) -> Scores:
    """Paint pairs that were never trained on.

    Args:
        model: A reference model.
        samples: How many pairs.
        seed: Of the first pair and its noise; pair i has ``seed + i``.
        progress: Told about every image.

    Returns:
        Shares of patterns, colours and marks that are right, and PSNR in decibel inside and outside the mask.

    Raises:
        OptionError: No pairs are asked for.
        ModelError: The model reads no reference.
    """
    checked_int("samples", samples, **COUNT, error=OptionError)
    if "reference" not in model.features:
        raise ModelError(f"{model.source.name} reads no reference; score a model of `sfumato train insert`")
    found: list[dict[str, float]] = []
    for start in range(0, samples, BATCH):
        pairs = [pair(seed + number) for number in range(start, min(start + BATCH, samples))]
        requests = [request_of(one, seed + start + number) for number, one in enumerate(pairs)]
        images = generate(model, requests).images
        found += [measured_garment(one, _at_size(image, one)) for one, image in zip(pairs, images, strict=True)]
        progress("pairs", len(found), samples)
    figures = []
    for name in found[0]:
        label = f"{name} right" if name in THINGS else name
        figures.append(Figure(label, *bootstrap([one[name] for one in found]), None))
    return Scores(model.source.name, samples, tuple(figures))


def _at_size(image: Image.Image, one: Pair) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    height, width = one.mask.shape
    return np.asarray(image.convert("RGB").resize((width, height)), np.uint8)
