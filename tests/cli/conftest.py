"""A tiny model on disk, a lent one in memory, and results made with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

PROMPT = "a red cat, on the table"


@pytest.fixture(scope="session")
def model_folder(tiny_sd: Callable[..., StableDiffusionPipeline], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random-weight pipeline in diffusers layout; never written to."""
    folder: Path = tmp_path_factory.mktemp("models") / "tiny"
    tiny_sd().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def _model(tiny_sd: Callable[..., StableDiffusionPipeline]) -> Any:
    from sfumato.models.loading import wrap

    return wrap(tiny_sd())


@pytest.fixture
def lent(_model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every model name gives the same small model, which is loaded once."""
    monkeypatch.setattr("sfumato.models.loading.load", lambda source, **more: _model)
    return _model


@pytest.fixture(scope="session")
def made(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one run with all axes kept; never written to."""
    from tests.cli.running import run

    folder = tmp_path_factory.mktemp("results") / "made"
    keep = "keep=step,layer,head"
    done = run("explain", PROMPT, "--model", str(model_folder), "--steps", "2", "--option", keep, "--out", str(folder))
    assert done.code == 0, done
    return folder
