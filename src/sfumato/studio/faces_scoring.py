"""How well a faces model draws what its label says: its images read by the reader, over all labels and some seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfumato.bounds import checked_int
from sfumato.errors import ModelError, OptionError
from sfumato.generation.generate import generate
from sfumato.metrics import bootstrap
from sfumato.models.model import Model
from sfumato.models.notes import folder_of
from sfumato.option_values import COUNT
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.studio.faces import ATTRIBUTES, LABELS
from sfumato.studio.faces_reader import labels_of, load_reader
from sfumato.studio.scoring import Figure, Scores

BATCH = 8
AIM = 0.9
READER = Path("reader") / "model.safetensors"


def score_faces(model: Model, samples: int = 320, *, seed: int = 0, progress: Progress = silent) -> Scores:
    """Draw faces of every label in turn and read their attributes.

    Args:
        model: A faces model; its folder holds the reader.
        samples: How many faces; face i has label i modulo 16 and seed ``seed + i``.
        seed: Of the first face.
        progress: Told about every face.

    Returns:
        The share of each attribute's bits that are right, of all bits, and of faces with all four right.

    Raises:
        OptionError: No faces are asked for.
        ModelError: The model has no labels, or no reader.
    """
    checked_int("samples", samples, **COUNT, error=OptionError)
    folder = folder_of(model.pipeline)
    if "label" not in model.features or folder is None:
        raise ModelError(f"{model.source.name} has no labels to read; score a model of `sfumato train faces`")
    reader = load_reader(folder / READER)
    wanted = [LABELS[number % len(LABELS)] for number in range(samples)]
    images = []
    for start in range(0, samples, BATCH):
        some = wanted[start : start + BATCH]
        requests = [Request(label=label, seed=seed + start + i) for i, label in enumerate(some)]
        images += [np.asarray(image.convert("RGB")) for image in generate(model, requests).images]
        progress("faces", len(images), samples)
    right = np.array([list(shown) for shown in labels_of(images, reader)]) == np.array([list(one) for one in wanted])
    figures = [Figure(f"{name} right", *bootstrap(right[:, n]), None) for n, name in enumerate(ATTRIBUTES)]
    figures.append(Figure("bits right", *bootstrap(right.mean(1)), AIM))
    figures.append(Figure("all four right", *bootstrap(right.all(1)), None))
    return Scores(model.source.name, samples, tuple(figures))
