"""A small model, and the made-up task, which is registered for the tests of runs alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.models.model import Model
from sfumato.runs import task
from tests.runs import driving


@pytest.fixture(scope="session")
def _made_up() -> task.Task:
    import tests.runs.made_up  # noqa: F401

    return task._tasks._entries.pop("made-up")


@pytest.fixture(autouse=True)
def _registered(_made_up: task.Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(task._tasks._entries, "made-up", _made_up)


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No test leaves a lock, a half-written file or a stage behind in a folder of a run."""
    yield
    left = [path for path in tmp_path.rglob("*") if path.name in (".lock", "concluding") or path.suffix == ".part"]
    assert not [path for path in left if (path.parent / "manifest.json").exists()]


@pytest.fixture(scope="session")
def model(tiny_sd: Callable[..., StableDiffusionPipeline]) -> Model:
    """Stable Diffusion with random weights, which the made-up task does not run."""
    return sfumato.wrap(tiny_sd())


@pytest.fixture(scope="session")
def model_folder(tiny_sd: Callable[..., StableDiffusionPipeline], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a folder, for other processes."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_sd().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory, root: Path) -> dict[str, str]:
    """An environment in which another installed package offers the made-up task by the entry point."""
    site = tmp_path_factory.mktemp("site")
    about = site / "made_up-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[sfumato.tasks]\nmade-up = tests.runs.made_up\n")
    known = [str(site), str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(known)}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the task notes what it measures."""
    from tests.runs.made_up import LOG

    path = tmp_path / "measured.txt"
    monkeypatch.setenv(LOG, str(path))
    return path


@pytest.fixture
def whole(model: Model, tmp_path: Path) -> Path:
    """An undisturbed run of ten prompts."""
    return driving.drive(model, tmp_path / "whole")
