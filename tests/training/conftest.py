"""A training small enough for a test: every stage, seconds in all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sfumato_training.progress import logging_to
from sfumato_training.recipes import train
from sfumato_training.scenes.config import Config
from sfumato_training.scenes.recipe import RECIPE
from sfumato_training.settings import build

TINY = {
    "name": "tiny",
    "checkpoint_every": 2,
    "data": {"scenes": 24, "workers": 1},
    "vae": {"steps": 4, "batch": 2, "crop": 32, "channels": [8, 8, 8, 8]},
    "clip": {
        "steps": 4,
        "batch": 8,
        "width": 16,
        "heads": 2,
        "image_width": 16,
        "image_layers": 1,
        "projection": 8,
        "warmup": 1,
    },
    "unet": {
        "steps": 4,
        "batch": 4,
        "channels": [16, 16, 16],
        "heads": 2,
        "norm_groups": 8,
        "warmup": 2,
        "samples_every": 0,
        "sample_steps": 1,
        "encode_batch": 12,
        "compile": False,
    },
}


class Silent:
    """Keeps what a training says."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, dict[str, float]]] = []
        self.events: list[tuple[str, int, dict[str, object]]] = []

    def step(self, stage, step, steps, values):
        self.steps.append((stage, step, dict(values)))

    def event(self, stage, step, values):
        self.events.append((stage, step, dict(values)))


@pytest.fixture(scope="session")
def tiny() -> Config:
    """The config of the tiny training."""
    config: Config = build(RECIPE.config, TINY)
    return config


@pytest.fixture(scope="session")
def trained(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Silent]:
    """A work folder in which all stages of the tiny training ran, and what was said."""
    out = tmp_path_factory.mktemp("training")
    silent = Silent()
    train("scenes", tiny, out, progress=silent)
    return out, silent


@pytest.fixture(scope="module")
def config(request: pytest.FixtureRequest) -> Any:
    """The config of a module's training: its TINY settings of its RECIPE."""
    return build(request.module.RECIPE.config, request.module.TINY)


@pytest.fixture(scope="module")
def out(config: Any, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder in which all stages of a module's training ran."""
    name = request.module.RECIPE.name
    folder = tmp_path_factory.mktemp(name)
    with logging_to(folder / "log.jsonl") as log:
        train(name, config, folder, progress=log)
    return folder
