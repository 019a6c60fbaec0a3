"""A stored and an unstored explanation."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.results.explanation import Explanation
from tests.results import synthetic


@pytest.fixture
def made() -> Explanation:
    """One image, eight words, one of them twice."""
    return synthetic.explanation()


@pytest.fixture
def stored(made: Explanation, tmp_path: Path) -> Path:
    """The same, saved."""
    path = tmp_path / "made.zarr"
    made.save(path)
    return path
