"""Sheets of studies: what stands beside bars and above pictures can be read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sfumato.metrics import Interval
from sfumato.plots.studies import examples_sheet, panels_sheet

BARS = {"as trained": Interval(0.9, 0.8, 0.95, 9), "scrambled": Interval(0.2, 0.1, 0.3, 9)}
PICTURE = np.zeros((32, 32, 3), np.uint8)


def inked(sheet: Image.Image, *, rows: slice = slice(None), columns: slice = slice(None)) -> bool:
    return bool((np.asarray(sheet)[rows, columns] < 250).any())


@pytest.mark.parametrize("across", [1, 3, 6])
def test_a_long_title_is_not_cut_off(across: int) -> None:
    row = [("an orange square and a yellow diamond", PICTURE, False)] * across
    sheet = examples_sheet([row, row])
    assert not inked(sheet, columns=slice(0, 2))
    assert not inked(sheet, columns=slice(-2, None))
    assert not inked(sheet, rows=slice(0, 2))


def test_three_panels_are_as_wide_as_two() -> None:
    one, two, three = (panels_sheet({str(n): BARS for n in range(count)}) for count in (1, 2, 3))
    assert one.width < two.width == three.width


def test_values_that_are_alike_have_one_scale() -> None:
    low = {name: Interval(0.1, 0.1, 0.1, 9) for name in BARS}
    high = {name: Interval(0.8, 0.8, 0.8, 9) for name in BARS}
    apart, alike = (panels_sheet({"low": low, "high": high}, alike=alike) for alike in (False, True))

    def longest(sheet: Image.Image) -> int:
        """Pixels of the longest bar of the first panel."""
        pixels = np.asarray(sheet)[:, : sheet.width // 2].astype(int)
        blue = np.abs(pixels - (63, 111, 148)).max(-1) < 8
        return int(blue.sum(1).max())

    assert longest(alike) < longest(apart) / 4
