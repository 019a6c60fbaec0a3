"""Stored numbers of methods and tasks, compared with those of now."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

ROUNDING = {"rtol": 1e-2, "atol": 1e-5}
"""Other CPUs sum in another order."""


def check_version(name: str, now: dict[str, Any], stored: dict[str, Any], command: str) -> None:
    """Fail where numbers have changed and the version has not, or the other way round."""
    before = stored.get(name, {"version": None, "numbers": {}})
    raised = now["version"] != before["version"]
    what = f"store the fingerprint of version {now['version']}" if raised else f"raise the version of {name}"
    message = f"{what}: {command} {name}" if raised else f"{what} and store its new fingerprint: {command} {name}"
    assert not raised, message
    assert agree(now["numbers"], before["numbers"]), message


def check_names(names: Collection[str], stored: Collection[str], command: str) -> None:
    """Fail where one has no fingerprint, or where there is one of nothing."""
    assert not set(names).difference(stored), f"store: {command} {' '.join(sorted(set(names).difference(stored)))}"
    assert not set(stored).difference(names), f"remove from the file: {sorted(set(stored).difference(names))}"


def agree(one: dict[str, list[float]], other: dict[str, list[float]]) -> bool:
    """Whether there are the same arrays, of the same size, with the same mean and spread but for rounding."""
    return one.keys() == other.keys() and all(_close(one[name], other[name]) for name in one)


def _close(one: list[float], other: list[float]) -> bool:
    spread = max(abs(one[2]), abs(other[2]))  # of which a mean near zero is a part
    return one[0] == other[0] and bool(
        np.isclose(one[1], other[1], rtol=ROUNDING["rtol"], atol=ROUNDING["atol"] + ROUNDING["rtol"] * spread)
        and np.isclose(one[2], other[2], **ROUNDING)
    )
