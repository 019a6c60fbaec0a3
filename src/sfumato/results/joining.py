"""Several methods' findings about one request as one explanation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr

from sfumato.errors import SfumatoError
from sfumato.results.explanation import Explanation

OWN = ("method", "options", "paper", "started", "seconds", "batch", "notes", "out_of_vocabulary")
"""What provenance says of one method; all else is of the model and the machine, and said once."""


def join(explanations: Sequence[Explanation]) -> Explanation:
    """One explanation with the nodes of all; the image is that of the first.

    Its provenance holds each method's own part under ``parts``, and all names, joined by commas, as ``method``.

    Args:
        explanations: Of one request, by different methods; at least one.

    Raises:
        SfumatoError: They are of different requests, or have a node in common.
    """
    if not explanations:
        raise SfumatoError("there is no explanation to join; give at least one")
    first = explanations[0]
    if len(explanations) == 1:
        return first
    nodes: dict[str, xr.Dataset] = {}
    for one in explanations:
        if one.request != first.request:
            raise SfumatoError("explanations of different requests cannot be joined; explain the same request")
        for node in one.tree.subtree:
            dataset = node.to_dataset(inherit=False)
            if node.path == "/image" and node.path in nodes:
                continue
            if node.path in nodes and dataset.variables:
                raise SfumatoError(f"two of the explanations have the node {node.path.strip('/')!r}; join one of them")
            if dataset.variables or node.path == "/":
                nodes[node.path] = dataset
    shared = {key: value for key, value in first.provenance.items() if key not in OWN}
    parts = [one.provenance for one in explanations]
    own: list[dict[str, Any]] = [
        {key: value for key, value in part.items() if key not in shared or shared[key] != value} for part in parts
    ]
    seconds = [part.get("seconds") for part in parts]
    known = [float(value) for value in seconds if isinstance(value, int | float)]
    provenance = shared | {
        "method": ", ".join(str(part.get("method")) for part in parts),
        "notes": list(dict.fromkeys(note for one in explanations for note in one.notes)),
        "out_of_vocabulary": sorted(frozenset[str]().union(*(one.out_of_vocabulary for one in explanations))),
        "seconds": round(sum(known), 3) if len(known) == len(parts) else None,
        "parts": [
            {key: value for key, value in part.items() if key not in ("notes", "out_of_vocabulary")} for part in own
        ],
    }
    return Explanation(xr.DataTree.from_dict(nodes), first.request, provenance)
