"""The numbers of an explanation: how much of the image each word covers, where it peaks, its share of the whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from sfumato.request import Request
from sfumato.results.hard_maps import TAU, coverage
from sfumato.results.importance import importances, rows_of
from sfumato.results.meaning import ROLES, declared
from sfumato.results.numbers import numbers_of
from sfumato.results.upscale import bicubic


def peak(heat: ArrayLike) -> tuple[int, int]:
    """Row and column of a map's maximum; the first in reading order if several share it."""
    values = np.asarray(heat)
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(row), int(column)


def word_rows(
    tree: xr.DataTree, image: int = 0, tau: float = TAU, unknown: Collection[str] = ()
) -> list[dict[str, Any]]:
    """One row per word of one image, in prompt order; see ``summarise`` for the columns.

    Args:
        tree: Of an explanation.
        image: Which one.
        tau: Threshold of the coverage, relative to the map's maximum.
        unknown: Words, in lower case, that the model was never trained on.
    """
    if "words" not in tree.children:
        return []
    words = tree["words"].to_dataset()
    heat = words["map"].isel(image=image) if "image" in words["map"].dims else words["map"]
    maps = heat.transpose("word", "y", "x").values
    height, width = tree["image"].sizes["y"], tree["image"].sizes["x"]
    mass = np.abs(maps.astype(np.float64)).sum(axis=(1, 2))  # a word that was not seen has NaN
    total = float(np.nansum(mass))
    rows: list[dict[str, Any]] = []
    texts = {name: words[name].values.tolist() for name in ("word", "occurrence", "index", "pos")}
    for i, seen in enumerate(words["seen"].values.tolist()):
        row: dict[str, Any] = {"image": image}
        row |= {name: values[i] for name, values in texts.items()}
        row |= {"seen": seen, "out_of_vocabulary": texts["word"][i].casefold() in unknown}
        row |= {"coverage": None, "peak": None, "share": None}
        if seen and np.isfinite(maps[i]).all():
            fine = bicubic(maps[i], (height, width))
            y, x = peak(fine)
            row["coverage"] = coverage(fine, tau)
            row["peak"] = {"x": x, "y": y, "x_fraction": (x + 0.5) / width, "y_fraction": (y + 0.5) / height}
            row["share"] = float(mass[i]) / total if total > 0 else None
        rows.append(row)
    return sorted(rows, key=lambda row: row["index"])


def summarise(
    tree: xr.DataTree,
    request: Request,
    provenance: Mapping[str, Any],
    tau: float = TAU,
    unknown: Collection[str] = (),
) -> dict[str, Any]:
    """Everything a reader wants to know without opening an array, ready for JSON.

    Args:
        tree: Of an explanation, as the request and the provenance.
        request: What was generated.
        provenance: How.
        tau: As for the rows of words.
        unknown: As for the rows of words.

    Returns:
        ``request``, ``provenance``, ``images`` (index, seed, width, height), ``nodes`` (name and sizes), ``numbers``
        (every number by node and name, see ``results.numbers``), ``meanings`` (of the arrays that say what they mean,
        by node and name: ``role`` and the like, see ``results.meaning``), ``notes`` (what to mind, by node), ``tau``
        and ``words``: per image and word its text, occurrence, index, pos, ``seen``, ``out_of_vocabulary`` (whether
        the model is known never to have been trained on it), ``coverage`` (share of the image's pixels where the map
        reaches tau times its maximum), ``peak`` (pixel and fraction, x to the right, y down; bicubic to the image's
        size) and ``share`` (of the summed maps of all words). The last three are None for a word that the model did
        not see. ``importance`` has the rows of each method that says what a word is worth.
    """
    pixels = tree["image"].to_dataset()
    height, width = pixels.sizes["y"], pixels.sizes["x"]
    images = [
        {"image": i, "seed": seed, "width": width, "height": height}
        for i, seed in enumerate(pixels["seed"].values.tolist())
    ]
    words = [row for i in range(len(images)) for row in word_rows(tree, i, tau, unknown)]
    importance = {
        method: [row for i in range(len(images)) for row in rows_of(found, i)]
        for method, found in importances(tree).items()
    }
    return {
        "prompt": request.prompt,
        "request": request.to_dict(),
        "provenance": provenance,
        "images": images,
        "nodes": {
            node.path.strip("/"): {str(dim): size for dim, size in node.sizes.items()}
            for node in tree.subtree
            if node.level and node.data_vars
        },
        "numbers": numbers_of(tree, words, importance),
        "meanings": {f"{one.path}/{one.name}": one.meaning for one in declared(tree, *ROLES)},
        "notes": {node.path.strip("/"): note for node in tree.subtree if (note := node.attrs.get("note"))},
        "tau": tau,
        "importance": importance,
        "words": words,
    }
