"""IMACS: its known answers, and what cannot be judged."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sfumato.errors import OptionError
from sfumato.metrics import imacs

MASK = np.zeros((8, 8), bool)
MASK[2:6, 1:5] = True


def test_the_mask_scores_one_and_its_complement_minus_three() -> None:
    assert imacs(MASK, MASK) == 1
    assert imacs(~MASK, MASK) == -3
    assert imacs(~MASK, MASK, penalty=1) == -1
    assert imacs(5 * MASK - 2.0, MASK) == 1  # brought to 0 to 1 first


def test_values_up_to_the_threshold_count_as_nothing() -> None:
    faint = np.where(MASK, 1.0, 0.0)
    faint[0, 0] = 0.4
    assert imacs(faint, MASK) == 1
    faint[0, 0] = 0.41
    assert imacs(faint, MASK) == pytest.approx(1 - 3 * 0.41 / 48)
    assert imacs(faint, MASK, threshold=0) == pytest.approx(1 - 3 * 0.41 / 48)


def test_a_map_that_is_the_same_everywhere_scores_nothing() -> None:
    assert imacs(np.ones((8, 8)), MASK) == 0


def test_what_cannot_be_judged() -> None:
    assert math.isnan(imacs(np.full((8, 8), np.nan), MASK))
    assert math.isnan(imacs(MASK, np.ones((8, 8))))
    assert math.isnan(imacs(MASK, np.zeros((8, 8))))
    with pytest.raises(OptionError, match="threshold is 1"):
        imacs(MASK, MASK, threshold=1.0)


def test_a_coarse_map_is_brought_to_the_masks_size() -> None:
    coarse = MASK.reshape(4, 2, 4, 2).mean((1, 3))
    assert imacs(coarse, MASK) > 0.3
