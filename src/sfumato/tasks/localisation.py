"""How far a part of the image reaches: gradient volumes at four timesteps, over seeds (figures 5.8 and 5.9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.explain import explain
from sfumato.methods.masks import on_latent
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.curves import maps_sheet
from sfumato.progress import Progress
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Claim, CompletedItem, Cost, Item, ModelFacts, Record, Records, task
from sfumato.tasks.shared.over_seeds import (
    FollowingOptions,
    first_request,
    followed,
    followed_in,
    followed_in_plan,
    items_of,
    sampling_of_seeds,
)

TIMES = (950, 700, 600, 100)
SHOWN = 4
"""Seeds on the figure."""
CLAIM = Claim(
    "The gradient volume of a part of the image is local at t = 950, wider at 700, takes the shape of the face at 600 "
    "and covers nearly everything at 100.",
    paper="the thesis on the diffusion profile, figures 5.8 and 5.9",
)


@task(
    "localisation",
    question="From how much of the image does a part draw its information?",
    options=FollowingOptions,
    cost=Cost("one generation, and a backward pass for each cell of the part at four timesteps, for each seed"),
    needs=("replay",),
    claim=CLAIM,
    model="studio/faces",
    shard=1,
)
class Localisation:
    """The effective area from which a pixel of the mask draws, and the share from outside the mask."""

    def check(self, model: Model, options: FollowingOptions) -> None:
        """Refuse a part of the image that cannot be followed.

        Raises:
            OptionError: The mask cannot be used, or is smaller than a cell of the latent.
        """
        request = model.complete(first_request(model, options))
        on_latent(followed(model, request, options.mask), model, request)

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: FollowingOptions) -> Iterator[Item]:
        """An item for each seed."""
        return items_of(facts, options, followed_in_plan(facts, options))

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: FollowingOptions, progress: Progress
    ) -> Sequence[Record]:
        """Take the gradient volume of one image after the other."""
        return [_record(model, one, progress) for one in items]

    def conclude(self, records: Records, options: FollowingOptions, about: Mapping[str, Any]) -> Finding:
        """The growth of both over time, over seeds."""
        requests: list[Request] = []
        areas: list[NDArray[np.float64]] = []
        shares: list[NDArray[np.float64]] = []
        shown: list[tuple[NDArray[np.uint8], list[NDArray[np.float64]]]] = []
        for item, record in records:
            arrays = record.arrays
            requests.append(item.request)
            areas.append(arrays["area"])
            shares.append(arrays["outside"])
            if len(shown) < SHOWN:
                shown.append((arrays["image"], list(arrays["region"])))
            times, mask = arrays["timestep"], arrays["mask"]
        area, outside = np.stack(areas), np.stack(shares)  # (seed, time)
        grows = bootstrap(area[:, -1] - area[:, 0])
        moves = bootstrap(outside[:, -1] - outside[:, 0])
        steady = bool((np.diff(area.mean(0)) >= 0).all())
        verdict = verdict_of(lies(grows, above=0), lies(moves, above=0))
        sentence = (
            f"From t = {times[0]:.0f} to {times[-1]:.0f} the effective area from which a pixel draws grows by {grows} "
            f"of the image, and the share of the gradient from outside the mask by {moves}; the growth is "
            f"{'steady' if steady else 'not steady'}."
        )
        table = [
            {
                "timestep": float(time),
                "effective area": bootstrap(area[:, place]),
                "from outside the mask": bootstrap(outside[:, place]),
            }
            for place, time in enumerate(times)
        ]
        figure = maps_sheet(shown, [f"t = {time:.0f}" for time in times], mask)
        return Finding("localisation", CLAIM.text, verdict, sentence, table, figure, sampling_of_seeds(requests, about))


def _record(model: Model, item: CompletedItem, progress: Progress) -> Record:
    """Areas and shares (time,), the maps of the region (time, y, x), the image and the mask of a seed."""
    mask = followed_in(model, item)
    given: dict[str, Any] = {"mask": mask, "timesteps": TIMES}
    found = explain(model, item.request, "gradient_volume", progress=progress, **given)
    data = found.tree["gradient_volume"].to_dataset()
    volume, inside = np.abs(data["volume"].values), data["mask"].values
    outside = volume[..., ~inside].sum(axis=(1, 2)) / volume.sum(axis=(1, 2, 3))
    order = np.argsort(-data["timestep"].values)
    return Record(
        arrays={
            "area": data["effective_area"].values[order],
            "outside": outside[order],
            "timestep": data["timestep"].values[order],
            "region": np.abs(data["region"].values[order]),
            "image": np.asarray(found.image),
            "mask": mask,
        }
    )
