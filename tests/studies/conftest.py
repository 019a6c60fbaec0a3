"""A cache of every test's own, the embedded model loaded once, and no figures where none is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

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
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is drawn."""
    for study, sheets in {
        "relations": ("sweep_sheet",),
        "numbers": ("sweep_sheet",),
        "cohyponyms": ("panels_sheet", "examples_sheet"),
        "adjectives": ("panels_sheet", "examples_sheet"),
        "leakage": ("panels_sheet", "examples_sheet"),
        "scrambled": ("panels_sheet", "examples_sheet"),
    }.items():
        for sheet in sheets:
            monkeypatch.setattr(f"sfumato.studies.{study}.{sheet}", lambda *given, **more: Image.new("RGB", (4, 4)))


@pytest.fixture
def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it, and from then on whoever makes an image fails the test."""

    def begin() -> None:
        def fail(*given: Any, **more: Any) -> Any:
            raise AssertionError("an image was made")

        monkeypatch.setattr(mapped, "explain", fail)

    return begin
