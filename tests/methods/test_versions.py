"""A method whose numbers changed has another version, so that no cache hands out those of before."""

from __future__ import annotations

import pytest

from sfumato.registry import methods
from tests.methods.fingerprints import COMMAND, SLOW, measured, stored
from tests.versions import agree, check_version

# diffusers and transformers turn tensors into arrays in a way that NumPy 2 is going to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
NAMES = [method.name for method in methods()]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NAMES])
def test_numbers_change_with_the_version_alone(name: str) -> None:
    check_version(name, measured(name), stored(), COMMAND)


def test_only_methods_have_fingerprints() -> None:
    assert sorted(stored()) == sorted(NAMES)


def test_rounding_is_no_change_and_a_changed_number_is() -> None:
    numbers = {"words/map": [64.0, 0.25, 0.1]}
    assert agree(numbers, {"words/map": [64.0, 0.251, 0.1005]})
    for other in ([64.0, 0.26, 0.1], [64.0, 0.25, 0.102], [63.0, 0.25, 0.1]):
        assert not agree(numbers, {"words/map": other})
    assert not agree(numbers, {})
