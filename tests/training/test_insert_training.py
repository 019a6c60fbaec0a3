"""A training of the reference model small enough for a test: every stage, an interruption, the export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import sfumato
from sfumato.errors import TrainingError
from sfumato.generation.generate import generate
from sfumato.pipelines.reference_pipeline import ReferenceInpaintPipeline
from sfumato.studio.garments import SIZE, pair
from sfumato.studio.garments_scoring import request_of, score_garments
from sfumato_training.autoencoder import train_vae
from sfumato_training.checkpoints import checkpoints, load_latest
from sfumato_training.insert.config import Config
from sfumato_training.insert.data import REFERENCE, TARGET, load_data
from sfumato_training.insert.export import DEFAULT_GUIDANCE, DEFAULT_STEPS
from sfumato_training.insert.networks import build_unet, trained_pipeline
from sfumato_training.insert.recipe import RECIPE
from sfumato_training.recipes import recipe, train
from sfumato_training.schedule import linear_scheduler
from sfumato_training.shared_settings import VaeConfig, WithVae
from sfumato_training.trainer import Work
from tests.training.conftest import Silent
from tests.training.test_training import Cut

TINY = {
    "name": "insert",
    "checkpoint_every": 2,
    "data": {"pairs": 16, "workers": 1},
    "vae": {"steps": 2, "batch": 2, "crop": 32, "channels": [8, 8, 8, 8]},
    "unet": {
        "steps": 4,
        "batch": 2,
        "channels": [16, 16],
        "heads": 2,
        "norm_groups": 4,
        "width": 16,
        "layers": 1,
        "encoder_heads": 2,
        "warmup": 2,
        "samples_every": 4,
        "sample_steps": 1,
    },
}


def test_every_stage_runs_and_what_is_looked_at_is_measured(out: Path, config: Config) -> None:
    assert recipe("insert") is RECIPE
    assert RECIPE.of(out) == config
    assert [path.name for path in checkpoints(out / "unet")] == ["step-000002", "step-000004"]
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    (look,) = [entry for entry in entries if "pattern" in entry]
    assert 0 <= look["pattern"] <= 1
    assert np.isfinite(look["psnr inside"])
    assert (out / "samples" / look["samples"]).is_file()


def test_the_data_are_pairs_whose_seeds_belong_to_training_alone(out: Path) -> None:
    pictures, masks = load_data(out / "data")
    assert pictures.shape == (16, 2, SIZE, SIZE, 3)
    for number in (0, 15):
        one = pair(1_000_000 + number)
        np.testing.assert_array_equal(pictures[number, REFERENCE], one.reference)
        np.testing.assert_array_equal(pictures[number, TARGET], one.target)
        np.testing.assert_array_equal(masks[number], one.mask)


def test_latents_are_of_the_whole_and_of_the_masked_target(out: Path, config: Config) -> None:
    pipeline, _ = trained_pipeline(config, out)
    latents = np.load(out / "latents.npy").astype(np.float32)
    assert latents.shape == (16, 2, 4, 16, 16)
    assert float(latents[:, 0].std()) * pipeline.vae.config.scaling_factor == pytest.approx(1, rel=0.01)
    pictures, masks = load_data(out / "data")
    known = pipeline.encode_masked(
        pipeline.numpy_to_pil(pictures[:1, TARGET] / 255.0), pipeline.numpy_to_pil(masks[:1, ..., None] * 1.0)
    )
    scaled = latents[:1, 1] * pipeline.vae.config.scaling_factor
    np.testing.assert_allclose(known[:, 1:].numpy(), scaled, atol=0.15)  # bf16 in training


def test_a_training_that_was_cut_off_goes_on_bit_for_bit(out: Path, config: Config, tmp_path: Path) -> None:
    shutil.copy(out / "config.json", tmp_path)
    for name in ("data", "vae", "latents.npy"):
        (tmp_path / name).symlink_to(out / name)
    with pytest.raises(KeyboardInterrupt):
        train("insert", config, tmp_path, stages=("unet",), progress=Cut("unet", 3))
    resumed = Silent()
    train("insert", config, tmp_path, stages=("unet",), progress=resumed)
    assert [step for name, step, _ in resumed.steps if name == "unet"] == [3, 4]
    expected, found = load_latest(out / "unet"), load_latest(tmp_path / "unet")
    assert expected is not None
    assert found is not None
    for name, tensor in expected[0].items():
        assert torch.equal(tensor, found[0][name]), name


def test_what_is_exported_is_loaded_and_paints(out: Path, tmp_path: Path) -> None:
    folder = RECIPE.export(out, tmp_path, quality={"pattern_right": 0.5}, took="0.1 hours", machine="an abacus")
    assert folder == tmp_path / "insert"
    card = (folder / "README.md").read_text()
    for line in ("on an abacus. It took 0.1 hours", "| pattern right | 50.0% |", "4 steps of 2", "64 patch tokens"):
        assert line in card, line
    model = sfumato.load(folder)
    assert isinstance(model.pipeline, ReferenceInpaintPipeline)
    assert "reference" in model.features
    done = model.complete(request_of(pair(0), 0))
    assert (done.steps, done.guidance, done.height) == (DEFAULT_STEPS, DEFAULT_GUIDANCE, SIZE)
    image = generate(model, request_of(pair(0), 0).with_(steps=2)).images[0]
    assert image.size == (SIZE, SIZE)
    found = score_garments(model, 2)
    assert [figure.measure for figure in found.figures][:3] == ["pattern right", "base right", "logo right"]


def test_an_autoencoder_can_start_from_another(tmp_path: Path) -> None:
    settings = VaeConfig(steps=1, batch=2, crop=32, channels=(24, 48, 64, 64), lr=1e-9, start="studio/scenes")
    images = np.stack([pair(number).target for number in range(4)])
    train_vae(Work(WithVae(checkpoint_every=1, vae=settings), tmp_path / "on", Silent()), images)
    weights = load_latest(tmp_path / "on" / "vae")
    assert weights is not None
    known = sfumato.load("studio/scenes").pipeline.vae.state_dict()
    for name, value in known.items():
        torch.testing.assert_close(weights[0][f"model.vae.{name}"], value, atol=1e-5, rtol=1e-4)
    absent = VaeConfig(steps=1, start="absent")
    with pytest.raises(TrainingError, match="absent has no autoencoder"):
        train_vae(Work(WithVae(checkpoint_every=1, vae=absent), tmp_path / "off", Silent()), images)


def test_a_stage_without_those_before_it_says_so(config: Config, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="run the stage 'data' first"):
        train("insert", config, tmp_path, stages=("vae",), progress=Silent())


def test_the_network_starts_as_nothing_and_its_schedule_ends_in_noise(config: Config) -> None:
    unet = build_unet(config.unet, 16)
    out = unet(torch.randn(1, 9, 16, 16), 5, torch.randn(1, 64, 16)).sample
    assert not out.any()
    assert float(linear_scheduler().alphas_cumprod[-1]) < 1e-4
