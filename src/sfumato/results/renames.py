"""Arrays that earlier versions stored under another name."""

from __future__ import annotations

import xarray as xr

RENAMED: dict[str, dict[str, str]] = {
    "trajectory": {"ssim": "normalised_ssim"},
    "ablation": {"ssim": "normalised_ssim"},
    "sweep": {"ssim": "normalised_ssim"},
    "switch": {f"ssim_to_{which}": f"normalised_ssim_to_{which}" for which in ("first", "second")},
}
"""By node the old names of arrays and those of today."""


def renamed(tree: xr.DataTree) -> xr.DataTree:
    """The tree with today's names."""
    nodes = {}
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        old = {name: new for name, new in RENAMED.get(node.path.strip("/"), {}).items() if name in dataset}
        nodes[node.path] = dataset.rename(old)
    return xr.DataTree.from_dict(nodes)
