"""What the page calls its models."""

from __future__ import annotations

from typing import Any

import pytest

from sfumato.app.server import workshop
from sfumato.app.server.workshop import Workshop


def test_folders_that_are_called_alike_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(name: str, device: Any) -> Any:
        asked.append(name)
        return name

    monkeypatch.setattr(workshop, "load", load)
    there = Workshop.of(["/a/faces", "/b/faces", "studio/scenes", "/a/faces", "/c/faces (2)", "../faces"])
    try:
        assert there.names == ["faces", "faces (2)", "studio/scenes", "faces (2) (2)", "faces (3)"]
        for name, place in zip(there.names, ("/a/faces", "/b/faces"), strict=False):
            job = there.worker(name).submit("tab", lambda model, job: model)
            assert job.wait(20)
            assert job.value == place
    finally:
        there.close()
    assert sorted(asked) == sorted(["/a/faces", "/b/faces", "studio/scenes", "/c/faces (2)", "../faces"])
