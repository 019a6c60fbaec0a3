"""Pointing against a known correspondence: exact on made-up attention, and whole on a model with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.metrics import CONTROLS as UNINFORMATIVE
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.images import image_node
from sfumato.studio.garments import SIZE, Pair, pair
from sfumato.studio.garments_scoring import request_of
from sfumato.tasks import reference_pointing
from sfumato.tasks.reference_pointing import CONTROLS, MEASURES, REGIONS, patch_hits, region_scores
from tests.references import tiny_references

GRID = (8, 8)


def attention(rows: np.ndarray[Any, Any]) -> Explanation:
    """An explanation with one layer, group and head, whose rows (y, x, token) are given."""
    node = xr.Dataset(
        {"rows": (("layer", "group", "head", "y", "x", "token"), rows[None, None, None].astype(np.float32))},
        coords={"layer": ("layer", ["mid_block.attentions.0.transformer_blocks.0.attn2"])},
    )
    return holding(f"/pairs/{rows.shape[0]}x{rows.shape[1]}", node)


def holding(name: str, node: xr.Dataset) -> Explanation:
    """An explanation with one node beside its image."""
    image = image_node([np.zeros((SIZE, SIZE, 3), np.uint8)], [0])
    return Explanation(xr.DataTree.from_dict({"/image": image, name: node}), Request(""), {})


def test_attention_on_the_true_patches_is_right_everywhere() -> None:
    one = pair(4)
    truth = reference_pointing._truth(one, (16, 16))
    inside = ~np.isnan(truth[..., 0])
    assert 30 < inside.sum() < 160
    tokens = np.floor(np.nan_to_num(truth) * 8).astype(int) @ [8, 1]
    found = patch_hits(attention(np.eye(64)[tokens]), one, GRID, seed=0)
    assert set(found) == {
        "all",
        "layer mid_block.attentions.0",
        "head 0",
        f"steps, part 1 of {reference_pointing.GROUPS}",
    } | {f"control: {name}" for name in CONTROLS}
    right, near, error = found["all"]
    assert (right, near) == (1, 1)
    assert 0 < error < 0.75  # half of a patch's diagonal
    beside = patch_hits(attention(np.eye(64)[np.clip(tokens + 1, 0, 63)]), one, GRID, seed=0)["all"]
    assert beside[0] < 0.1
    assert beside[1] > 0.9


def test_controls_know_what_they_are_told_and_no_more() -> None:
    found = [patch_hits(attention(np.full((16, 16, 64), 1 / 64)), pair(seed), GRID, seed=seed) for seed in range(8)]
    means = {name: np.mean([one[f"control: {name}"] for one in found], axis=0) for name in CONTROLS}
    assert means["random"][0] < 0.05
    assert means["same place of the box"][0] > means["same place"][0] > means["random"][0]
    assert means["same place of the box"][2] < means["random"][2]


def test_the_truth_of_a_cell_is_where_its_middle_comes_from() -> None:
    one = pair(6)
    for grid in ((16, 16), (8, 8)):
        truth = reference_pointing._truth(one, grid)
        step = SIZE // grid[0]
        middle = one.source[step // 2 :: step, step // 2 :: step] / SIZE
        both = ~np.isnan(truth[..., 0]) & ~np.isnan(middle[..., 0])
        assert both.sum() > 5
        whole = both & (one.worn.reshape(grid[0], step, grid[1], step).mean((1, 3)) == 1)
        np.testing.assert_allclose(truth[whole], middle[whole], atol=0.01)


def integrated(fine: np.ndarray[Any, Any], coarse: np.ndarray[Any, Any], backward: np.ndarray[Any, Any]) -> Explanation:
    """Maps of two layers, of which one has a sixteenth of the other's places, in multiples of an even share."""
    layers = np.stack([fine, coarse]).astype(np.float32)
    node = xr.Dataset(
        {
            "forward": (("y", "x"), layers.mean(0)),
            "forward_layer": (("layer", "y", "x"), layers),
            "backward": (("ry", "rx"), backward.astype(np.float32)),
        },
        coords={"layer": ("layer", ["fine", "coarse"])},
    )
    grids = {
        f"/pairs/{side}x{side}": xr.Dataset(
            {"rows": (("layer", "y", "x", "token"), np.ones((1, side, side, 4), np.float32))},
            coords={"layer": ("layer", [name])},
        )
        for name, side in (("fine", 16), ("coarse", 4))
    }
    image = image_node([np.zeros((SIZE, SIZE, 3), np.uint8)], [0])
    return Explanation(xr.DataTree.from_dict({"/image": image, "/i2am": node, **grids}), Request(""), {})


def test_maps_that_are_the_masks_score_best_and_maps_of_nothing_as_the_controls() -> None:
    one = pair(2)
    found = region_scores(integrated(one.worn, one.worn, one.reference_mask), one, seed=0)
    for name in ("image: forward", "image: forward, as published", "reference: backward"):
        truth = one.reference_mask if name.startswith("reference") else one.worn
        np.testing.assert_allclose(found[name], [1, 1, 1, truth.mean()])
    for side, truth in (("image", one.worn), ("reference", one.reference_mask)):
        assert {name for name in found if name.startswith(f"{side}: control")} == {
            f"{side}: control: {name}" for name in UNINFORMATIVE
        }
        share = truth.mean()
        np.testing.assert_allclose(found[f"{side}: control: whole image"], [share, 0, share, 1])
    flat = np.ones((SIZE, SIZE))
    even = region_scores(integrated(flat, flat, flat), one, seed=0)
    assert even["image: forward"] == even["image: control: whole image"]


def test_as_published_the_coarse_layer_outweighs_the_fine_one() -> None:
    one = pair(2)
    found = region_scores(integrated(one.worn, ~one.worn, one.reference_mask), one, seed=0)
    assert found["image: forward, as published"][1] == pytest.approx(-3)  # the coarse layer's: the complement
    assert found["image: forward"][1] == 0  # both cancel


def small(one: Pair, seed: int) -> Request:
    """As the task asks, in two steps."""
    return request_of(one, seed).with_(steps=2, guidance=2.0)


def test_a_model_is_measured_and_what_was_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_references().save_pretrained(tmp_path / "model")
    model = sfumato.load(tmp_path / "model")
    monkeypatch.setattr(reference_pointing, "request_of", small)
    found = sfumato.run("reference_pointing", model, out=tmp_path / "run", pairs=2)
    rows, items = found.finding["rows"], found.items
    assert list(rows[0]) == ["what", *MEASURES]
    assert len(items[items["what"] == "all"]) == len(items[items["what"] == "image: forward"]) == 2
    assert rows[0]["right patch"]["value"] == pytest.approx(items[items["what"] == "all"]["right patch"].mean())
    assert list(rows[-1]) == ["what", *REGIONS]
    assert sum(row["what"].startswith("layer") for row in rows) == 7
    assert "look at the right patch" in found.finding["sentence"]

    def fail(*given: Any, **more: Any) -> Any:
        raise AssertionError("explained again")

    monkeypatch.setattr(reference_pointing, "explain", fail)
    assert sfumato.run("reference_pointing", model, out=tmp_path / "run", pairs=2).finding == found.finding


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="reference_pointing needs reference, which studio/scenes .* does not have"):
        sfumato.run("reference_pointing", "studio/scenes", out=tmp_path / "run", pairs=1)
    with pytest.raises(OptionError, match="pairs is 0"):
        sfumato.run("reference_pointing", "studio/scenes", out=tmp_path / "run", pairs=0)
