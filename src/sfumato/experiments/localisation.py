"""How far a part of the image reaches: gradient volumes at four timesteps, over seeds (figures 5.8 and 5.9)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.experiments.experiment import Setting, about
from sfumato.explain import explain
from sfumato.findings import Finding
from sfumato.metrics import bootstrap
from sfumato.plots.curves import maps_sheet
from sfumato.request import Request

TIMES = (950, 700, 600, 100)
SOURCE = (
    "The gradient volume of a part of the image is local at t = 950, wider at 700, takes the shape of the face at 600 "
    "and covers nearly everything at 100."
)


def run(given: Setting) -> Finding:
    """Measure from which share of the image the masked part draws more than the volume's mean."""

    def work(request: Request) -> dict[str, NDArray[Any]]:
        options: dict[str, Any] = {"mask": given.mask, "timesteps": TIMES}
        found = explain(given.model, request, "gradient_volume", progress=given.progress, **options)
        data = found.tree["gradient_volume"].to_dataset()
        volume, inside = np.abs(data["volume"].values), data["mask"].values
        level = volume.mean(axis=(1, 2, 3), keepdims=True)
        reach = (volume > level).any(axis=1).mean(axis=(1, 2))
        outside = volume[..., ~inside].sum(axis=(1, 2)) / volume.sum(axis=(1, 2, 3))
        order = np.argsort(-data["timestep"].values)
        return {
            "reach": reach[order],
            "outside": outside[order],
            "timestep": data["timestep"].values[order],
            "region": np.abs(data["region"].values[order]),
            "image": np.asarray(found.image),
        }

    entries = given.each("localisation", work, mask=given.mask.tobytes().hex(), times=TIMES)
    reach = np.stack([entry["reach"] for entry in entries])  # (seed, time)
    outside = np.stack([entry["outside"] for entry in entries])
    times = entries[0]["timestep"]
    grows = bootstrap(reach[:, -1] - reach[:, 0])
    moves = bootstrap(outside[:, -1] - outside[:, 0])
    steady = bool((np.diff(reach.mean(0)) >= 0).all())
    holds = grows.low > 0 and moves.low > 0
    sentence = (
        f"From t = {times[0]:.0f} to {times[-1]:.0f} the reach grows by {grows} of the image, and the share of the "
        f"gradient from outside the mask by {moves}; the growth is {'steady' if steady else 'not steady'}."
    )
    table = [
        {
            "timestep": float(time),
            "reach": str(bootstrap(reach[:, place])),
            "from outside the mask": str(bootstrap(outside[:, place])),
        }
        for place, time in enumerate(times)
    ]
    shown = entries[: min(4, len(entries))]
    titles = [f"t = {time:.0f}" for time in times]
    figure = maps_sheet([(entry["image"], list(entry["region"])) for entry in shown], titles, given.mask)
    return Finding("localisation", SOURCE, holds, sentence, table, figure, about(given))
