"""The faces model that ships inside the package: its files, what it draws, and the command that its page promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import sfumato
from sfumato import Request
from sfumato.models.loading import STUDIO
from sfumato.studio.faces import LABELS, REGIONS
from sfumato.studio.faces_scoring import score_faces
from tests.cli.running import run

FOLDER = STUDIO / "faces"
QUICK = 8


def test_the_files_are_small_and_safe() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".png", ".md"}
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for told in ("## Data", "## Training", "hours", "bits right", "CPU cores"):
        assert told in card, told
    assert "Not measured" not in card


def test_it_names_its_regions_and_defaults() -> None:
    model = sfumato.load("studio/faces")
    done = model.complete(Request(label="0011"))
    assert (done.steps, done.guidance, done.scheduler, done.height) == (50, 3.0, "ddim", 64)
    assert json.loads((FOLDER / "sfumato.json").read_text())["regions"] == list(REGIONS)


def test_a_label_changes_the_face_and_a_seed_repeats_it() -> None:
    model = sfumato.load("studio/faces")
    request = Request(label="0000", seed=321, steps=QUICK)
    faces = [
        np.asarray(sfumato.explain(model, one, "profile", objects=("ssim",)).image, float)
        for one in (request, request, request.with_(label="0100"))
    ]
    np.testing.assert_array_equal(faces[0], faces[1])
    assert np.abs(faces[0] - faces[2]).max() > 60  # a beard is dark where skin was light


@pytest.mark.soak
def test_it_draws_what_labels_say() -> None:
    scores = score_faces(sfumato.load("studio/faces"), len(LABELS), seed=1000)
    assert {one.measure: one.mean for one in scores.figures}["bits right"] >= 0.8


@pytest.mark.slow
def test_the_command_of_the_page(tmp_path: Path) -> None:
    out = tmp_path / "face"
    words = "explain --model studio/faces --label 0011 --seed 321 --steps 8 --method profile --method gradient_volume"
    found = run(*words.split(), "--mask", "eyes", "--option", "timesteps=950,100", "--out", str(out))
    assert found.code == 0, found.err
    names = {path.name for path in out.iterdir()}
    assert {"image.png", "profile.png", "layers.png", "gradient_volume.png", "report.html"} <= names
