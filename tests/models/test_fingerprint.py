from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.models.fingerprint import weight_hash

Build = Callable[..., StableDiffusionPipeline]


def test_the_hash_is_that_of_the_weights(tiny_sd: Build, tmp_path: Path) -> None:
    pipeline = tiny_sd()
    first = weight_hash(pipeline)
    assert len(first) == 64
    assert weight_hash(tiny_sd()) == first
    assert weight_hash(tiny_sd(seed=1)) != first
    pipeline.save_pretrained(tmp_path / "m")
    assert weight_hash(sfumato.load(tmp_path / "m", device="cpu").pipeline) == first
    assert weight_hash(sfumato.load(tmp_path / "m", device="cpu", dtype=torch.bfloat16).pipeline) != first


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_one_weight_changed_in_place_changes_it(tiny_sd: Build, part: str) -> None:
    pipeline = tiny_sd()
    first = weight_hash(pipeline)
    weight = next(iter(getattr(pipeline, part).parameters()))
    own = float(weight.flatten()[0])
    weight.flatten()[0] = own + 1
    assert weight_hash(pipeline) != first
    weight.flatten()[0] = own
    assert weight_hash(pipeline) == first


def test_a_replaced_weight_changes_it(tiny_sd: Build) -> None:
    pipeline = tiny_sd()
    first = weight_hash(pipeline)
    pipeline.unet.conv_in.weight = torch.nn.Parameter(pipeline.unet.conv_in.weight.detach().clone() + 1)
    assert weight_hash(pipeline) != first


def test_it_is_computed_once(tiny_sd: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = tiny_sd()
    first = weight_hash(pipeline)
    monkeypatch.setattr("sfumato.models.fingerprint.hashlib.sha256", lambda: pytest.fail("computed again"))
    assert weight_hash(pipeline) == first


def test_weights_made_in_inference_mode(tiny_sd: Build) -> None:
    with torch.inference_mode():
        pipeline = tiny_sd()
    assert weight_hash(pipeline) == weight_hash(tiny_sd())
