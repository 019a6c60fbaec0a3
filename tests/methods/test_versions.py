"""A method whose numbers changed has another version, so that no cache hands out those of before."""

from __future__ import annotations

import pytest

from sfumato.registry import methods
from tests.methods.fingerprints import COMMAND, SLOW, measured, stored
from tests.versions import check_names, check_version

# diffusers and transformers turn tensors into arrays in a way that NumPy 2 is going to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
NAMES = [method.name for method in methods()]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NAMES])
def test_numbers_change_with_the_version_alone(name: str) -> None:
    check_version(name, measured(name), stored(), COMMAND)


def test_methods_have_fingerprints_and_nothing_else_has() -> None:
    check_names(NAMES, stored(), COMMAND)
