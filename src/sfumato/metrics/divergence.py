"""Two generations side by side: how alike samples, attention maps and layers are at every step, and where they part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from sfumato.errors import SfumatoError
from sfumato.metrics.structure import frobenius, normalised_ssim
from sfumato.results.explanation import Explanation

APART = 0.95
"""Samples with a lower normalised SSIM than this count as different."""


@dataclass(frozen=True)
class Divergence:
    """What two profiles have in common.

    Attributes:
        steps: ``normalised_ssim`` and ``attention`` (distance of the attention maps) over step, ``layers`` (distance)
            over layer and step, with ``timestep``; what one of the profiles lacks is left out.
        parts_at: Timestep of the first kept step at which the samples are apart; None if they never are.
    """

    steps: xr.Dataset
    parts_at: float | None

    def rows(self) -> list[dict[str, Any]]:
        """One row for each step."""
        found = []
        for place in range(self.steps.sizes["step"]):
            one = self.steps.isel(step=place)
            row = {"step": int(one["step"]), "timestep": float(one["timestep"])}
            row |= {name: float(one[name]) for name in ("normalised_ssim", "attention") if name in one}
            found.append(row)
        return found


def diverge(one: Explanation, other: Explanation, apart: float = APART) -> Divergence:
    """Compare two profiles at the steps that both kept.

    Args:
        one: Made by the method ``profile``.
        other: Another, of the same model and schedule.
        apart: Normalised SSIM below which samples count as different.

    Raises:
        SfumatoError: One is no profile, or they share no step.
    """
    for which, profile in (("first", one), ("second", other)):
        if "samples" not in profile.tree.children:
            raise SfumatoError(f"the {which} result holds no samples; make it with --method profile")
    first, second = one.tree["samples"].to_dataset(), other.tree["samples"].to_dataset()
    common = [key for key in _keys(first) if key in set(_keys(second))]
    if not common:
        raise SfumatoError("the two profiles kept no common timestep; make both with the same steps and --option every")
    if first["latent"].shape[1:] != second["latent"].shape[1:]:
        raise SfumatoError("the two profiles are of images of different sizes or models")
    ours, theirs = _at(first, common), _at(second, common)
    times = [time for _, time in common]
    pairs = zip(ours["latent"].values, theirs["latent"].values, strict=True)
    data: dict[str, Any] = {"normalised_ssim": ("step", [normalised_ssim(a, b) for a, b in pairs])}
    if all("attention_map" in profile.tree.children for profile in (one, other)):
        data["attention"] = ("step", _distances(one, other, "attention_map", common))
    layers = [name for name in _layers(one) if name in _layers(other)]
    coords: dict[str, Any] = {"step": ours["step"].values, "timestep": ("step", times)}
    if layers:
        data["layers"] = (("layer", "step"), [_distances(one, other, f"activations/{n}", common) for n in layers])
        coords["layer"] = layers
    steps = xr.Dataset(data, coords=coords)
    below = [time for time, value in zip(times, steps["normalised_ssim"].values, strict=True) if value < apart]
    return Divergence(steps, below[0] if below else None)


def _layers(profile: Explanation) -> list[str]:
    return list(profile.tree["activations"].children) if "activations" in profile.tree.children else []


def _keys(data: xr.Dataset) -> list[tuple[int, float]]:
    """Step and timestep: the last step of a schedule and the final sample may both have timestep 0."""
    return list(zip(data["step"].values.tolist(), data["timestep"].values.tolist(), strict=True))


def _at(data: xr.Dataset, common: list[tuple[int, float]]) -> xr.Dataset:
    known = _keys(data)
    return data.isel(step=[known.index(key) for key in common])


def _distances(one: Explanation, other: Explanation, node: str, common: list[tuple[int, float]]) -> list[float]:
    """Distance of two nodes' maps at every step; NaN where one did not keep it."""
    found = []
    sets = [profile.tree[node].to_dataset() for profile in (one, other)]
    for key in common:
        places = [_keys(data) for data in sets]
        if not all(key in known for known in places):
            found.append(float("nan"))
            continue
        a, b = (data["map"].values[known.index(key)] for data, known in zip(sets, places, strict=True))
        found.append(frobenius(a, b))
    return found


def parts_in_words(found: Divergence) -> str:
    """One sentence: where the two part."""
    if found.parts_at is None:
        least = float(np.min(found.steps["normalised_ssim"].values))
        return f"their samples stay alike (normalised SSIM of at least {least:.3f}) to the end"
    return f"their samples part at t = {found.parts_at:.0f}"
