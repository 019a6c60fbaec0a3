from __future__ import annotations

import math

import numpy as np
import pytest

from sfumato.errors import OptionError
from sfumato.metrics import ranks, ranks_aligned, rmse
from sfumato.tasks.rank_agreement import PRINTED, PROMPTS


def test_the_printed_figures_follow_from_the_printed_errors() -> None:
    """The audit: the paper's RMSE is the length of the first three errors."""
    again = []
    for one in PROMPTS:
        assert one.published is not None
        found = np.array(one.truth) + np.sqrt(one.published.squared_errors)
        again.append(rmse(one.truth, found, "paper"))
        assert again[-1] == pytest.approx(one.published.rmse, abs=0.0051), one.prompt
    assert np.mean(again) == pytest.approx(PRINTED["RMSE (paper)"], abs=5e-5)


def test_the_true_average_is_much_lower() -> None:
    found = [
        rmse(one.truth, np.array(one.truth) + np.sqrt(one.published.squared_errors))
        for one in PROMPTS
        if one.published is not None
    ]
    assert np.mean(found) == pytest.approx(0.128, abs=0.0015)
    assert found[6] == pytest.approx(0.157, abs=0.001)


def test_every_word_of_the_ten_prompts_has_its_figures() -> None:
    for one in PROMPTS:
        assert sum(one.truth) == pytest.approx(1)
        assert one.published is not None
        assert len(one.truth) == len(one.published.ranks) == len(one.published.squared_errors)
        assert len(one.truth) == len(one.prompt.split())


def test_ranks_and_ties() -> None:
    assert ranks([0.2, 0.5, 0.3]).tolist() == [3, 1, 2]
    assert ranks([0.4, 0.4, 0.2]).tolist() == [1, 1, 3]
    assert ranks_aligned([0.2, 0.5, 0.3], [0.1, 0.6, 0.3]) == 1
    assert ranks_aligned([0.2, 0.5, 0.3], [0.5, 0.2, 0.3]) == pytest.approx(1 / 3)


def test_what_cannot_be_compared() -> None:
    assert math.isnan(ranks_aligned([0.5, 0.5], [math.nan, 1.0]))
    with pytest.raises(OptionError, match="one of each per part"):
        rmse([0.5, 0.5], [1.0])
    with pytest.raises(OptionError, match="choose from: true, paper"):
        rmse([1.0], [1.0], "l2")  # type: ignore[arg-type]
