from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.metrics import CONTROLS, bootstrap, find_metric, iou, localisation_table, metrics, pointing
from sfumato.metrics.controls import control_map
from sfumato.results.upscale import bicubic

Masks = list[NDArray[np.bool_]]


def discs(count: int) -> Masks:
    """Discs away from the middle."""
    masks = []
    y, x = np.mgrid[:32, :48]
    for i in range(count):
        turn = 2 * math.pi * i / count
        masks.append((y - 16 - 9 * math.sin(turn)) ** 2 + (x - 24 - 14 * math.cos(turn)) ** 2 < 36)
    return masks


def coarse(masks: Masks) -> list[NDArray[np.float64]]:
    """What a good method would say on a grid of 8 x 12."""
    return [mask.reshape(8, 4, 12, 4).mean(axis=(1, 3)) for mask in masks]


def test_a_good_method_beats_every_control_and_the_truth_scores_one() -> None:
    masks = discs(12)
    table = localisation_table({"truth": masks, "good": coarse(masks)}, masks)
    assert table.methods == ["truth", "good", *CONTROLS]
    assert table.metrics == [metric.name for metric in metrics("map")]
    for metric in table.metrics:
        known = find_metric(metric)
        best = known.bounds[1] if known.better == "higher" else known.bounds[0]
        assert table.score("truth", metric) == (best, best, best, 12)
        for control in CONTROLS:
            good, other = table.score("good", metric), table.score(control, metric)
            assert good.low > other.high if known.better == "higher" else good.high < other.low
    assert table.score("whole image", "pointing").mean == pytest.approx(np.mean([mask.mean() for mask in masks]))


def test_cells_are_the_plain_metrics_over_the_items() -> None:
    masks = discs(7)
    heats = coarse(masks)
    table = localisation_table({"m": heats}, masks, seed=5, resamples=100)
    scores = [iou(bicubic(heat, (32, 48)), mask, 0.4) for heat, mask in zip(heats, masks, strict=True)]
    assert table.score("m", "mIoU@0.4") == bootstrap(scores, seed=5, resamples=100)
    centre = [pointing(control_map("centre", (32, 48), 5, i), mask) for i, mask in enumerate(masks)]
    assert table.score("centre", "pointing").mean == pytest.approx(np.mean(centre))


def test_every_row_speaks_of_the_same_items() -> None:
    masks = discs(6)
    heats = coarse(masks)
    masks[1] = np.zeros((32, 48), dtype=bool)
    heats[3] = np.full((8, 12), np.nan)
    table = localisation_table({"broken once": heats, "whole": coarse(discs(6))}, masks)
    assert (table.items, table.dropped) == (4, 2)
    assert {row.n for row in table.rows} == {4}
    # a control's map of an item does not depend on what else was scored
    alone = localisation_table({}, [masks[0]])
    both = localisation_table({}, [masks[0], masks[1]])
    assert alone.rows == both.rows


def test_groups_follow_the_items_that_are_kept() -> None:
    masks = discs(6)
    masks[0] = np.zeros((32, 48), dtype=bool)
    table = localisation_table({"m": coarse(discs(6))}, masks, groups=["a", "b", "b", "c", "c", "c"])
    scores = [iou(heat, mask, 0.3) for heat, mask in zip(coarse(discs(6)), masks, strict=True)]
    assert table.score("m", "mIoU@0.3") == bootstrap(scores[1:], groups=["b", "b", "c", "c", "c"])
    assert table.settings["grouped"] is True


def test_json_says_what_was_measured_and_how() -> None:
    masks = discs(3)
    table = localisation_table(
        {"m": coarse(masks)}, masks, metrics=("mIoU@0.4", "AP", "pointing"), controls=("centre",), seed=9
    )
    read = json.loads(table.to_json())
    assert read["items"] == 3
    assert read["settings"]["seed"] == 9
    assert [(row["method"], row["metric"], row["control"]) for row in read["rows"]] == [
        ("m", "mIoU@0.4", False),
        ("m", "AP", False),
        ("m", "pointing", False),
        ("centre", "mIoU@0.4", True),
        ("centre", "AP", True),
        ("centre", "pointing", True),
    ]
    assert read["rows"][0]["low"] <= read["rows"][0]["mean"] <= read["rows"][0]["high"]


def test_nothing_to_score_is_no_number() -> None:
    table = localisation_table({"m": [np.ones((2, 2))]}, [np.zeros((8, 8))])
    assert (table.items, table.dropped) == (0, 1)
    assert json.loads(table.to_json())["rows"][0]["mean"] is None
    assert table.score("m", "AP").n == 0


def test_the_table_prints_one_line_per_method() -> None:
    masks = discs(3)
    lines = str(localisation_table({"m": masks}, masks, metrics=("mIoU@0.4", "AP", "pointing"))).splitlines()
    assert len(lines) == 2 + len(CONTROLS)
    assert lines[0].split() == ["method", "mIoU@0.4", "AP", "pointing"]
    assert "1.000 [1.000, 1.000]" in lines[1]


def test_what_does_not_fit_is_said() -> None:
    masks = discs(3)
    with pytest.raises(OptionError, match="'m' has 2 maps for 3 masks"):
        localisation_table({"m": masks[:2]}, masks)
    with pytest.raises(OptionError, match="called 'centre' like a control"):
        localisation_table({"centre": masks}, masks)
    with pytest.raises(OptionError, match="no control 'gauss'; the controls are: random"):
        localisation_table({"m": masks}, masks, controls=("gauss",))
    with pytest.raises(OptionError, match=r"no score of 'n' in 'AP'; methods are m, .* metrics are AP, IMACS"):
        localisation_table({"m": masks}, masks).score("n", "AP")
