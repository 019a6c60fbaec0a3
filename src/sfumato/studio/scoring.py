"""How well a scenes model draws what it is told: its images read by the reader, over held-out prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfumato.bounds import checked_int
from sfumato.errors import ModelError, OptionError
from sfumato.generation.generate import generate
from sfumato.metrics import bootstrap
from sfumato.models.loading import STUDIO
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.studio.grammar import expected, parsed
from sfumato.studio.reader import matches, read
from sfumato.studio.scenes import held_out_captions, scene_of
from sfumato.writing.json_text import json_text

BATCH = 8
CHOICES = 100

AIMS = {
    "one object right": 0.95,
    "objects right, two-object prompts": 0.85,
    "relations right": 0.80,
    "counts right": 0.75,
    "background right": None,
    "retrieval top-1 of 100, true scenes": 0.95,
    "retrieval top-1 of 100, generated": None,
}
"""What is measured and what we aim for; None where nothing is promised."""


@dataclass(frozen=True)
class Figure:
    """One figure with its 95% bootstrap interval over prompts."""

    measure: str
    mean: float
    low: float
    high: float
    n: int
    aim: float | None


@dataclass(frozen=True)
class Scores:
    """All figures of one model."""

    model: str
    prompts: int
    figures: tuple[Figure, ...]

    @property
    def title(self) -> str:
        """One line for people."""
        return f"{self.model} on {self.prompts} images"

    def rows(self) -> list[dict[str, Any]]:
        """One row for each figure."""
        return [asdict(figure) for figure in self.figures]

    def to_json(self) -> str:
        """Everything as JSON text."""
        return json_text({"model": self.model, "prompts": self.prompts, "figures": self.rows()})


def score(model: Model, prompts: int = 200, *, seed: int = 0, progress: Progress = silent) -> Scores:
    """Generate held-out prompts and read what the images show.

    Args:
        model: A model of the scenes.
        prompts: How many prompts, balanced over the kinds of caption.
        seed: Prompt i starts from seed ``seed + i``.
        progress: Told about every prompt.

    Returns:
        Objects (shape and colour), relations, counts, background, and retrieval by ``studio/clip`` where it is there.

    Raises:
        OptionError: No prompts are asked for.
    """
    checked_int("prompts", prompts, **COUNT, error=OptionError)
    captions = held_out_captions(prompts)
    images: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    for start in range(0, len(captions), BATCH):
        part = captions[start : start + BATCH]
        requests = [Request(caption, seed=seed + start + i) for i, caption in enumerate(part)]
        images += [np.asarray(image) for image in generate(model, requests).images]
        progress("prompts", len(images), len(captions))
    found: dict[str, list[float]] = {measure: [] for measure in AIMS}
    for caption, image in zip(captions, images, strict=True):
        right = matches(read(image), expected(caption))
        kind = parsed(caption).kind
        if kind == "one":
            found["one object right"].append(float(all(right.objects)))
        if kind in ("relation", "and"):
            found["objects right, two-object prompts"].append(float(np.mean(right.objects)))
        for measure, value in (
            ("relations right", right.relation),
            ("counts right", right.count),
            ("background right", right.background),
        ):
            if value is not None:
                found[measure].append(float(value))
    if (STUDIO / "clip" / "config.json").is_file():
        truths = [scene_of(caption, seed + i).image for i, caption in enumerate(captions)]
        found["retrieval top-1 of 100, true scenes"] = retrieved(captions, truths)
        found["retrieval top-1 of 100, generated"] = retrieved(captions, images)
    figures = [Figure(name, *bootstrap(values), AIMS[name]) for name, values in found.items() if values]
    return Scores(model.source.name, len(captions), tuple(figures))


def retrieved(
    captions: Sequence[str], images: Sequence[np.ndarray[Any, Any]], folder: Path | None = None
) -> list[float]:
    """For every image, whether CLIP finds its own caption the best of up to 100.

    Args:
        captions: The caption of every image; they are compared in groups of 100.
        images: (y, x, channel) uint8.
        folder: Of the CLIP model; the embedded one.

    Raises:
        ModelError: The CLIP model cannot be read.
    """
    from transformers import CLIPModel, CLIPTokenizer

    place = folder or STUDIO / "clip"
    try:
        clip = CLIPModel.from_pretrained(place, dtype=torch.float32).eval()
        tokenizer = CLIPTokenizer.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise ModelError(f"the CLIP model cannot be read: {' '.join(str(error).split())[:200]}") from error
    right: list[float] = []
    for start in range(0, len(captions), CHOICES):
        texts = list(captions[start : start + CHOICES])
        pixels = torch.from_numpy(np.stack(list(images[start : start + CHOICES])))
        with torch.no_grad():
            tokens = tokenizer(texts, padding=True, return_tensors="pt")
            logits = clip(**tokens, pixel_values=pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).logits_per_image
        right += (logits.argmax(1) == torch.arange(len(texts))).float().tolist()
    return right
