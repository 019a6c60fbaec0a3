"""Results of earlier versions open under today's names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sfumato.results.explanation import Explanation
from sfumato.results.opening import open as open_explanation
from tests.results import synthetic


@pytest.mark.parametrize(
    ("node", "old", "new"),
    [
        ("trajectory", "ssim", "normalised_ssim"),
        ("sweep", "ssim", "normalised_ssim"),
        ("switch", "ssim_to_second", "normalised_ssim_to_second"),
    ],
)
def test_an_array_of_an_old_name_is_opened_under_the_new_one(node: str, old: str, new: str, tmp_path: Path) -> None:
    base = synthetic.explanation("red")
    nodes = {one.path: one.to_dataset(inherit=False) for one in base.tree.subtree}
    nodes[f"/{node}"] = xr.Dataset({old: ("step", np.array([0.25, 0.5]))})
    Explanation(xr.DataTree.from_dict(nodes), base.request, {}).save(tmp_path / "old.zarr")
    opened = open_explanation(tmp_path / "old.zarr")
    assert opened.tree[node][new].values.tolist() == [0.25, 0.5]
    assert old not in opened.tree[node]
    assert [one["value"] for one in opened.summary()["numbers"][node][new]] == [0.25, 0.5]
