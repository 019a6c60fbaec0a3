"""At which level do the steps change the image: layout (low frequencies) early, details (high frequencies) late?

The first research question of Park et al. 2024, on prompts of two objects that the reader finds in the final image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.curves import curves_sheet
from sfumato.progress import Progress
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Claim, Cost, Item, ModelFacts, NoOptions, Record, Records, task
from sfumato.studio.reader import read
from sfumato.tasks.shared.captions import relation_captions
from sfumato.tasks.shared.clean_estimates import Trajectories, estimates, relation_items
from sfumato.tasks.shared.scene_images import check_scene_size

LOW = 4.0
"""Standard deviation in pixels of the blur that divides low from high frequencies."""
LEVELS = ("low, inside", "low, outside", "high, inside", "high, outside")
CLAIM = Claim(
    "Early steps recover the semantic level (layout, low frequencies), late ones the details.",
    paper="Park et al. 2024, research question 1",
)


@task(
    "frequency_levels",
    question="Do early steps recover the layout and late ones the details?",
    options=NoOptions,
    cost=Cost("one generation and each of its denoiser calls once more, for each image"),
    needs=("words",),
    claim=CLAIM,
    prompts=Captions(relation_captions, usual=30),
)
class FrequencyLevels:
    """The change of the clean estimate from step to step, in low and high frequencies, inside and outside the objects.

    The finding is replicated if inside the objects low frequencies change before high ones, by their mean timestep,
    with a 95% interval over prompts that excludes zero.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: NoOptions) -> Iterator[Item | Row]:
        """An item for each image of each row whose prompt is a caption of two objects and a relation."""
        check_scene_size("frequency_levels", facts)
        return relation_items(rows)

    def measure(self, model: Model, items: Sequence[Item], options: NoOptions, progress: Progress) -> Sequence[Record]:
        """Follow one trajectory after the other."""
        return [_followed(model, one.request) for one in items]

    def conclude(self, records: Records, options: NoOptions, about: Mapping[str, Any]) -> Finding:
        """The mean timestep of the change at each level, over prompts."""
        found = Trajectories(records, "energy")
        return levels_finding(found.values, found.timesteps, {**about, **found.sampling.about})


def levels_finding(energy: NDArray[np.float64], times: NDArray[np.float64], about: Mapping[str, Any]) -> Finding:
    """What energies (prompt, step, level) at timesteps (step) show."""
    share = energy / np.nansum(energy, axis=1, keepdims=True)
    weights = share / np.nansum(share, axis=1, keepdims=True)
    centre = np.nansum(weights * times[None, :, None], axis=1)  # (prompt, level): mean timestep of the change
    centre = np.where(np.isnan(weights).all(axis=1), np.nan, centre)  # no objects in the image: no change of theirs
    later = bootstrap(centre[:, 0] - centre[:, 2])
    ratio = bootstrap(np.nanmean(energy[:, :, 0], axis=1) / np.nanmean(energy[:, :, 1], axis=1))
    detail = bootstrap(np.nanmean(energy[:, :, 2], axis=1) / np.nanmean(energy[:, :, 3], axis=1))
    rows = [
        {"level": name, "mean timestep of the change": bootstrap(centre[:, index])} for index, name in enumerate(LEVELS)
    ]
    sentence = (
        f"Inside the objects, low frequencies change {later} timesteps before high ones. Low frequencies change "
        f"{ratio} times as much inside the objects as outside, high ones {detail} times."
    )
    known = [share[~np.isnan(share[:, :, index]).all(axis=1), :, index] for index in range(len(LEVELS))]
    curves = {name: np.nan_to_num(one) for name, one in zip(LEVELS, known, strict=True) if len(one)}
    figure = curves_sheet({"share of each level's change, by step": (times, curves)})
    return Finding("frequency_levels", CLAIM.text, verdict_of(lies(later, above=0)), sentence, rows, figure, about)


def energies(one: NDArray[np.uint8], other: NDArray[np.uint8], inside: NDArray[np.bool_]) -> list[float]:
    """Mean squared change in low and in high frequencies, inside and outside the objects; NaN for an empty part."""
    change = (other.astype(np.float64) - one.astype(np.float64)) / 255
    low = ndimage.gaussian_filter(change, (LOW, LOW, 0))
    squares = [np.square(level).mean(-1) for level in (low, change - low)]
    return [float(level[part].mean()) if part.any() else np.nan for level in squares for part in (inside, ~inside)]


def _followed(model: Model, request: Request) -> Record:
    """Energies (step, level) of each change."""
    found = estimates(model, request)
    things = read(found.last).things
    inside = np.any([thing.mask for thing in things], axis=0) if things else np.zeros(found.last.shape[:2], bool)
    pairs = zip(found.pictures, [*found.pictures[1:], found.last], strict=True)
    energy = np.array([energies(one, other, inside) for one, other in pairs])
    return Record(arrays={"energy": energy, "timestep": found.timesteps})
