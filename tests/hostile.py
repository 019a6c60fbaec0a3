"""Hostile values: of wrong types, beyond all bounds, too long, too deep."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def nested(levels: int) -> Any:
    """An empty list within so many others."""
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


VALUES: dict[str, Any] = {
    "object": object(),
    "class": int,
    "bytes": b"\xff",
    "NaN": math.nan,
    "infinite": math.inf,
    "huge": 10**12,
    "very huge": 10**30,
    "beyond floats": 10**400,
    "more digits than Python writes": 10**5000,
    "negative": -1,
    "very negative": -(10**30),
    "fraction": 0.5,
    "huge fraction": 1e300,
    "zero": 0,
    "true": True,
    "empty text": "",
    "blank text": " \t\n",
    "word": "nonsense",
    "number as text": "3",
    "NUL": "a\0b",
    "lone surrogate": "\ud800",
    "no home": "~nosuchuser/a.png",
    "very long text": "x" * 1_000_000,
    "empty list": [],
    "empty dict": {},
    "deep": nested(100_000),
    "deep text": "[" * 100_000,
    "list of nonsense": [None, object(), math.nan, "\ud800"],
    "list of huge": [10**30],
    "list of negative": [-1],
    "long list": [1] * 100_001,
    "endless range": range(10**12),
    "falling list": list(range(1500, 0, -1)),
    "None in a list": [None],
    "dict": {"a": 1},
    "array": np.zeros((2, 2)),
    "array of objects": np.array([None, "a"], dtype=object),
    "empty array": np.zeros((0, 0)),
    "complex": 1j,
    "set": {1, "a"},
}
"""Each by what is wrong with it."""
