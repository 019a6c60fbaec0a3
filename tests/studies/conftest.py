"""A cache of every test's own, the embedded model loaded once, and no figures where none is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sfumato
from sfumato import mapped


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def scenes() -> Any:
    """The embedded model."""
    return sfumato.load("studio/scenes")


@pytest.fixture
def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it, and from then on whoever makes an image fails the test."""

    def begin() -> None:
        def fail(*given: Any, **more: Any) -> Any:
            raise AssertionError("an image was made")

        monkeypatch.setattr(mapped, "explain", fail)

    return begin
