"""Where an artifact comes from: the channel whose gradient is strongest in it, ablated and compared (figure 5.12)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.caching.cache import Cache, default_folder, digest
from sfumato.caching.images import Generator
from sfumato.errors import OptionError
from sfumato.generation.feature_layers import chosen, layers_of
from sfumato.generation.generate import generate
from sfumato.generation.interventions.channels import AblateChannels
from sfumato.generation.step_gradients import region_gradients, step_with_gradients
from sfumato.methods.masks import on_latent
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.metrics.structure import maximum_channel
from sfumato.models.identity import identity_digest
from sfumato.models.model import Model
from sfumato.models.schedulers import nearest_steps
from sfumato.plots.curves import maps_sheet
from sfumato.progress import Progress
from sfumato.request import CompletedRequest, Request
from sfumato.results.upscale import resized
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Claim, CompletedItem, Cost, Item, ModelFacts, Record, Records, task
from sfumato.tasks.shared.over_seeds import OverSeedsOptions, first_request, items_of, sampling_of_seeds

AT = 200
SIDE = 8
"""The artifact is the block of so many parts of the image's side that differs most from the mean image."""
LEAST_ASIDE = 0.01
"""Details elsewhere are lost where more than this share of the range changes outside the artifact."""
SHOWN = 4
"""Seeds on the figure."""
CLAIM = Claim(
    "Ablating the channel with the strongest gradient inside the area of an artifact removes the artifact, but also "
    "details elsewhere: channels reach many parts of the image.",
    paper="the thesis on the diffusion profile, figure 5.12",
)


@dataclass(frozen=True)
class ArtifactOptions(OverSeedsOptions):
    """Options of the task."""

    def __post_init__(self) -> None:
        """Refuse a single image.

        Raises:
            OptionError: There is one seed only.
        """
        if self.seeds == 1:
            raise OptionError("seeds is 1; an artifact is what differs from the other images: take 2 or more")


@task(
    "artifact",
    question="Does the gradient find the channel that makes an artifact?",
    options=ArtifactOptions,
    cost=Cost("four generations and a call with gradients for each seed"),
    needs=("replay",),
    claim=CLAIM,
    model="studio/faces",
    shard=1,
)
class Artifact:
    """The most unusual block of every image, the channel of its gradient, and what it changes next to a random one."""

    def __init__(self) -> None:
        self._mean: tuple[str, NDArray[np.float64]] | None = None  # of the run that was measured last

    def check(self, model: Model, options: ArtifactOptions) -> None:
        """Refuse a model without the layer whose channels are ablated.

        Raises:
            OptionError: It has no second contracting block.
        """
        _layer(model, model.complete(first_request(model, options)))

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: ArtifactOptions) -> Iterator[Item]:
        """An item for each seed."""
        return items_of(facts, options)

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: ArtifactOptions, progress: Progress
    ) -> Sequence[Record]:
        """Ablate in one image after the other; what is unusual in it depends on the images of all seeds."""
        first = items[0].request
        seeds = [first.with_(seed=options.seed + number) for number in range(options.seeds)]
        mean, layer = self._mean_of(model, seeds), _layer(model, first)
        return [_record(model, one.request, mean, layer) for one in items]

    def conclude(self, records: Records, options: ArtifactOptions, about: Mapping[str, Any]) -> Finding:
        """What both channels change inside and outside the artifact, over seeds."""
        requests: list[Request] = []
        changes: list[NDArray[np.float64]] = []
        shown: list[tuple[NDArray[np.uint8], list[NDArray[np.float64]]]] = []
        for item, record in records:
            requests.append(item.request)
            changes.append(np.stack([record.arrays["inside"], record.arrays["outside"]]))
            layer = record.values["layer"]
            if len(shown) < SHOWN:
                shown.append((record.arrays["image"], list(record.arrays["moved"])))
        inside, outside = np.stack(changes, axis=1)  # each (seed, which)
        found = bootstrap(inside[:, 0] - inside[:, 1])
        aside = bootstrap(outside[:, 0])
        verdict = verdict_of(lies(found, above=0), lies(aside, above=LEAST_ASIDE))
        sentence = (
            f"The gradient's channel of {layer} changes the artifact by {bootstrap(inside[:, 0])} of the range, a "
            f"random channel by {bootstrap(inside[:, 1])} (difference {found}); outside the artifact the gradient's "
            f"channel changes {aside}."
        )
        table = [
            {
                "channel": name,
                "change inside": bootstrap(inside[:, n]),
                "change outside": bootstrap(outside[:, n]),
            }
            for n, name in enumerate(("strongest gradient", "random"))
        ]
        titles = ["moved by the gradient's channel", "moved by a random channel"]
        figure = maps_sheet(shown, titles, None, one_scale=True)
        told = sampling_of_seeds(requests, about) | {"layer": layer}
        return Finding("artifact", CLAIM.text, verdict, sentence, table, figure, told)

    def _mean_of(self, model: Model, requests: Sequence[Request]) -> NDArray[np.float64]:
        """The mean image (y, x, channel); its images come from the cache where they were made before."""
        key = digest({"model": identity_digest(model), "requests": [one.key for one in requests]})
        if self._mean is None or self._mean[0] != key:
            cache = Cache(default_folder())
            total = sum(Generator(model, cache, batch=1)([one])[0].pixels.astype(np.float64) for one in requests)
            self._mean = key, np.asarray(total / len(requests))
        return self._mean[1]


def _layer(model: Model, request: CompletedRequest) -> str:
    """The last layer of the second contracting block.

    Raises:
        OptionError: The model has none.
    """
    known = layers_of(model, request)
    own = any(layer.name == "downs.1.3" for layer in known)
    if not own and not any(layer.name == "down_blocks.1" for layer in known):
        raise OptionError(f"{model.source.name} has no second contracting block; take a U-Net")
    return chosen(["downs.1.3" if own else "down_blocks.1"], known)[0].name


def _record(model: Model, request: CompletedRequest, mean: NDArray[np.float64], layer: str) -> Record:
    """What the gradient's channel and a random one change inside and outside the artifact (which,), and where."""
    step = nearest_steps(model, request, [AT])[0]
    plain = generate(model, request, record={step})
    image = np.asarray(plain.images[0].convert("RGB"))
    mask = unusual(image, mean)
    stepped = step_with_gradients(plain, step, layers=[layer])
    inside = torch.from_numpy(on_latent(mask, model, request))
    _, gradient = region_gradients(stepped, inside)
    maps = gradient[0].float().cpu().numpy()
    strongest = maximum_channel(maps, resized(mask, maps.shape[-2:]))
    chance = int(np.random.default_rng(request.seed).integers(len(maps)))
    changes = [AblateChannels(layer, (number,), items=(item,)) for item, number in enumerate((strongest, chance))]
    both = generate(model, [request, request], attachments=changes).images
    before = image.astype(np.float64)
    moved = [np.abs(np.asarray(one.convert("RGB"), np.float64) - before).max(-1) / 255 for one in both]
    return Record(
        {"layer": layer, "channel": int(strongest)},
        {
            "inside": np.array([one[mask].mean() for one in moved]),
            "outside": np.array([one[~mask].mean() for one in moved]),
            "moved": np.stack(moved),
            "image": image,
        },
    )


def unusual(image: NDArray[np.uint8], mean: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The block of an image (y, x, channel) that differs most from the mean image, (y, x) true inside."""
    apart = np.abs(image.astype(np.float64) - mean).sum(-1)
    height, width = apart.shape
    down, across = height // SIDE, width // SIDE
    blocks = apart[: down * SIDE, : across * SIDE].reshape(SIDE, down, SIDE, across).mean(axis=(1, 3))
    row, column = np.unravel_index(int(blocks.argmax()), blocks.shape)
    mask = np.zeros((height, width), bool)
    mask[row * down : (row + 1) * down, column * across : (column + 1) * across] = True
    return mask
