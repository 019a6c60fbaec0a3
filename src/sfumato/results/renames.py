"""Arrays that earlier versions stored under another name, or without saying what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import xarray as xr

from sfumato.results.meaning import IMPORTANCE, Meaning, role_of

RENAMED: dict[str, dict[str, str]] = {
    "trajectory": {"ssim": "normalised_ssim"},
    "ablation": {"ssim": "normalised_ssim"},
    "sweep": {"ssim": "normalised_ssim"},
    "switch": {f"ssim_to_{which}": f"normalised_ssim_to_{which}" for which in ("first", "second")},
}
"""By node the old names of arrays and those of today."""

MEANINGS: dict[str, Mapping[str, Meaning]] = {
    "relevance": {"score": Meaning("curve")},
    "trajectory": {"normalised_ssim": Meaning("curve")},
    "switch": {f"normalised_ssim_to_{which}": Meaning("curve") for which in ("first", "second")},
    "information/timing": {"nats": Meaning("curve")},
    "*/word_importance": IMPORTANCE,
}
"""By node, or pattern of nodes, what its arrays mean; today's say so themselves."""

MAPS = ("map", "region", "sensitivity")
"""Names by which maps of the image were found, over some of these dimensions."""
OF_MAPS = {"image", "step", "word", "y", "x"}


def renamed(tree: xr.DataTree) -> xr.DataTree:
    """The tree with today's names, and with what its arrays mean."""
    nodes = {}
    for node in tree.subtree:
        path, dataset = node.path.strip("/"), node.to_dataset(inherit=False)
        old = {name: new for name, new in RENAMED.get(path, {}).items() if name in dataset}
        dataset = dataset.rename(old)
        meanings = {name: Meaning("map") for name in MAPS if name in dataset and _is_of_image(path, dataset[name])}
        for pattern, more in MEANINGS.items():
            meanings |= more if fnmatchcase(path, pattern) else {}
        for name, meaning in meanings.items():
            if name in dataset and role_of(dataset[name]) is None:
                dataset[name].attrs = meaning.attrs | dataset[name].attrs
        nodes[node.path] = dataset
    return xr.DataTree.from_dict(nodes)


def _is_of_image(path: str, array: xr.DataArray) -> bool:
    return {"y", "x"} <= set(array.dims) <= OF_MAPS and not path.startswith("negative")
