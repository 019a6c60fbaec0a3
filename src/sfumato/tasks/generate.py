"""Generate the images of many prompts, each once, as files and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.explain import batches
from sfumato.generation.generate import generate
from sfumato.methods.costs import runs
from sfumato.models.model import Model
from sfumato.plots.contact import contact_sheet
from sfumato.progress import Progress
from sfumato.request import CompletedRequest, Request
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, CompletedItem, Cost, Item, ModelFacts, NoOptions, Record, Records, task
from sfumato.studio.scenes import held_out_captions
from sfumato.tasks.explain import SHOWN, of_each_image


def _costs(model: Model, request: CompletedRequest, items: int, options: NoOptions) -> list[str]:
    return [f"{runs(model, request)} for each of {items:,} images"]


@task(
    "generate",
    question="What does the model draw for each prompt?",
    options=NoOptions,
    cost=Cost("one generation for each image", _costs),
    prompts=Captions(held_out_captions),
)
class GeneratePrompts:
    """Images of many prompts."""

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: NoOptions) -> Iterator[Item]:
        """An item for each image of each row."""
        return of_each_image(rows)

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: NoOptions, progress: Progress
    ) -> Sequence[Record]:
        """Generate a batch."""
        requests = [one.request for one in items]
        return [Record(picture=image) for image in generated(model, requests, len(requests), progress)]

    def conclude(self, records: Records, options: NoOptions, about: Mapping[str, Any]) -> Finding:
        """The images at a glance."""
        pictures = []
        for item, record in records:
            if record.picture is not None:
                pictures.append((item.request.subject, record.picture))
            if len(pictures) == SHOWN:
                break
        sentence = f"{len(records):,} images; {about['failed'] + about['invalid']:,} rows without one."
        return Finding("generate", "", None, sentence, [dict(about)], contact_sheet(pictures), about)


def generated(model: Model, requests: Sequence[Request], batch: int, progress: Progress) -> list[NDArray[np.uint8]]:
    """The image (y, x, 3) of each request, up to `batch` at once; requests of other settings follow each other."""
    found: dict[int, NDArray[np.uint8]] = {}
    for places in batches(requests, batch, model.mixes):
        trace = generate(model, [requests[place] for place in places], progress=progress)
        found |= {place: np.asarray(image.convert("RGB")) for place, image in zip(places, trace.images, strict=True)}
    return [found[place] for place in range(len(requests))]
