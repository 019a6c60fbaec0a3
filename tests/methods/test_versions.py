"""A method whose numbers changed has another version, so that no cache hands out those of before."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.registry import methods
from tests.methods.fingerprints import COMMAND, SLOW, measured, stored

# diffusers and transformers turn tensors into arrays in a way that NumPy 2 is going to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
NAMES = [method.name for method in methods()]
ROUNDING = {"rtol": 1e-2, "atol": 1e-5}
"""Other CPUs sum in another order."""


def agree(one: dict[str, list[float]], other: dict[str, list[float]]) -> bool:
    """Whether there are the same arrays, of the same size, with the same mean and spread but for rounding."""
    return one.keys() == other.keys() and all(_close(one[name], other[name]) for name in one)


def _close(one: list[float], other: list[float]) -> bool:
    spread = max(abs(one[2]), abs(other[2]))  # of which a mean near zero is a part
    return one[0] == other[0] and bool(
        np.isclose(one[1], other[1], rtol=ROUNDING["rtol"], atol=ROUNDING["atol"] + ROUNDING["rtol"] * spread)
        and np.isclose(one[2], other[2], **ROUNDING)
    )


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NAMES])
def test_numbers_change_with_the_version_alone(name: str) -> None:
    now, before = measured(name), stored().get(name, {"version": None, "numbers": {}})
    raised = now["version"] != before["version"]
    what = f"store the fingerprint of version {now['version']}" if raised else f"raise the version of {name}"
    message = f"{what} and store its new fingerprint with `{COMMAND} {name}`"
    assert not raised, message
    assert agree(now["numbers"], before["numbers"]), message


def test_only_methods_have_fingerprints() -> None:
    assert sorted(stored()) == sorted(NAMES)


def test_rounding_is_no_change_and_a_changed_number_is() -> None:
    numbers = {"words/map": [64.0, 0.25, 0.1]}
    assert agree(numbers, {"words/map": [64.0, 0.251, 0.1005]})
    for other in ([64.0, 0.26, 0.1], [64.0, 0.25, 0.102], [63.0, 0.25, 0.1]):
        assert not agree(numbers, {"words/map": other})
    assert not agree(numbers, {})
