"""A request is in the plan with all of its fields, and its pictures are in the folder of the run."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sfumato.errors import SfumatoError, StoreError
from sfumato.inputs.image import Mask, Picture
from sfumato.models.model import Model
from sfumato.request import AT, Request
from sfumato.runs.manifest import Counts
from sfumato.runs.worker import request_from, request_to
from tests.runs.driving import counts, drive, reasons

SIDE = 16


def picture(seed: int) -> Picture:
    return Picture.of(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8))


def mask(seed: int) -> Picture:
    inside = np.random.default_rng(seed).integers(0, 2, (SIDE, SIDE)).astype(bool)
    inside[0, :2] = (True, False)
    return Mask.of(inside)


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
NAME = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
PICTURES = st.integers(0, 5).map(picture)
SEEDS = st.integers(0, 2**62)
SCHEDULES = st.sampled_from(["early", "late:30", "window:600-400"]) | st.lists(
    st.integers(0, 999), min_size=1, max_size=5, unique=True
).map(lambda found: tuple(sorted(found, reverse=True)))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "prompt": TEXT,
    "negative_prompt": TEXT,
    "seed": SEEDS,
    "steps": st.integers(1, 1000),
    "guidance": st.floats(0, 100),
    "height": st.integers(8, 8192),
    "width": st.integers(8, 8192),
    "scheduler": NAME,
    "images": st.integers(1, 64),
    "image": PICTURES,
    "strength": st.floats(0.01, 1),
    "label": NAME,
    "mask": st.integers(0, 5).map(mask),
    "reference": PICTURES,
    "schedule": SCHEDULES,
    "invert": st.just("noise"),
    "at": st.integers(1, 999),
    "variation": st.tuples(SEEDS, st.floats(0, 1)),
    "more_references": st.lists(PICTURES, min_size=1, max_size=3).map(tuple),
}


def possible(given: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that others forbid, and with those that they need."""
    if isinstance(given.get("schedule"), tuple):
        given.pop("steps", None)
    if "more_references" in given:
        given.setdefault("reference", picture(9))
    if "at" in given:
        given["invert"] = "noise"
    if "invert" in given:
        given.setdefault("image", picture(9))
    return given


@settings(max_examples=150)
@given(given=st.fixed_dictionaries({}, optional=VALUES).map(possible))
def test_every_request_comes_back_from_the_plan(
    given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "plans"
    request = Request(**given)
    plain = request_to(folder, request)
    again = request_from(folder, json.loads(json.dumps(plain)))
    assert again == request
    assert again.key == request.key
    assert len(json.dumps(plain)) < 2000  # pictures are elsewhere


def test_every_field_of_a_request_is_tried() -> None:
    assert VALUES.keys() == {one.name for one in fields(Request)}
    assert Request(image=picture(0), invert="noise").at == AT


def test_a_run_keeps_the_pictures_that_it_is_given(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(model), "complete", lambda self, request: request)
    for number in range(3):
        Image.fromarray(picture(number % 2).array).save(tmp_path / f"{number}.png")
    rows = [{"prompt": "a cat", "image": str(tmp_path / f"{number}.png"), "seed": 1} for number in range(3)]
    out = drive(model, tmp_path / "run", rows, shard_size=1, batch=1)
    assert counts(out) == Counts(ok=3)
    assert len(list((out / "inputs").rglob("*.png"))) == 2
    for number in range(3):
        (tmp_path / f"{number}.png").unlink()
    kept = next((out / "inputs").rglob(f"{picture(1).sha256}.png"))
    Image.fromarray(picture(7).array).save(kept)
    (out / "shards" / "00001.npz").unlink()
    with pytest.raises(SfumatoError):
        drive(model, out, rows, shard_size=1, batch=1)  # the files are gone, so these are no longer the prompts


def test_a_picture_that_was_exchanged_is_not_used(tmp_path: Path) -> None:
    plain = request_to(tmp_path, Request("a cat", image=picture(0)))
    Image.fromarray(picture(1).array).save(tmp_path / plain["image"])
    with pytest.raises(StoreError, match="is not as it was written"):
        request_from(tmp_path, plain)
    (tmp_path / plain["image"]).unlink()
    with pytest.raises(SfumatoError):
        request_from(tmp_path, plain)


def test_a_file_that_is_no_picture_is_one_invalid_row(model: Model, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    rows = ["a cat", {"prompt": "a dog", "image": str(tmp_path / "notes.txt")}, {"prompt": "a", "image": "missing.png"}]
    out = drive(model, tmp_path / "run", rows)
    assert counts(out) == Counts(ok=1, invalid=2)
    assert "no PNG, JPEG or WebP" in reasons(out)[1]
