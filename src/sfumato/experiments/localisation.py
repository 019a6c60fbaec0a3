"""How far a part of the image reaches: gradient volumes at four timesteps, over seeds (figures 5.8 and 5.9)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.experiments.experiment import Setting, about
from sfumato.explain import explain
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.plots.curves import maps_sheet
from sfumato.registry import find
from sfumato.request import Request
from sfumato.runs.finding import Finding

TIMES = (950, 700, 600, 100)
SOURCE = (
    "The gradient volume of a part of the image is local at t = 950, wider at 700, takes the shape of the face at 600 "
    "and covers nearly everything at 100."
)


def run(given: Setting) -> Finding:
    """Measure the effective area from which a pixel of the mask draws, and the share from outside the mask."""

    def work(request: Request) -> dict[str, NDArray[Any]]:
        options: dict[str, Any] = {"mask": given.mask, "timesteps": TIMES}
        found = explain(given.model, request, "gradient_volume", progress=given.progress, **options)
        data = found.tree["gradient_volume"].to_dataset()
        volume, inside = np.abs(data["volume"].values), data["mask"].values
        outside = volume[..., ~inside].sum(axis=(1, 2)) / volume.sum(axis=(1, 2, 3))
        order = np.argsort(-data["timestep"].values)
        return {
            "area": data["effective_area"].values[order],
            "outside": outside[order],
            "timestep": data["timestep"].values[order],
            "region": np.abs(data["region"].values[order]),
            "image": np.asarray(found.image),
        }

    entries = given.each(
        "localisation",
        work,
        methods=[find("gradient_volume")],
        mask=given.mask.tobytes().hex(),
        times=TIMES,
        measure="effective area",
    )
    area = np.stack([entry["area"] for entry in entries])  # (seed, time)
    outside = np.stack([entry["outside"] for entry in entries])
    times = entries[0]["timestep"]
    grows = bootstrap(area[:, -1] - area[:, 0])
    moves = bootstrap(outside[:, -1] - outside[:, 0])
    steady = bool((np.diff(area.mean(0)) >= 0).all())
    verdict = verdict_of(lies(grows, above=0), lies(moves, above=0))
    sentence = (
        f"From t = {times[0]:.0f} to {times[-1]:.0f} the effective area from which a pixel draws grows by {grows} of "
        f"the image, and the share of the gradient from outside the mask by {moves}; the growth is "
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
    shown = entries[: min(4, len(entries))]
    titles = [f"t = {time:.0f}" for time in times]
    figure = maps_sheet([(entry["image"], list(entry["region"])) for entry in shown], titles, given.mask)
    return Finding("localisation", SOURCE, verdict, sentence, table, figure, about(given))
