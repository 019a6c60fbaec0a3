"""A training of faces small enough for a test: every stage, an interruption, the export, and photographs instead."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.errors import StoreError, TrainingError
from sfumato.request import Request
from sfumato.studio.faces import ATTRIBUTES, LABELS, face
from sfumato.studio.faces_reader import labels_of, load_reader, probabilities
from sfumato_training import publishing
from sfumato_training.checkpoints import checkpoints, load_latest
from sfumato_training.faces.config import Config, DataConfig
from sfumato_training.faces.data import load_data, make_data, split
from sfumato_training.faces.export import DEFAULT_GUIDANCE, DEFAULT_STEPS
from sfumato_training.faces.networks import trained_pipeline
from sfumato_training.faces.reader import bits, trained_reader
from sfumato_training.faces.recipe import RECIPE
from sfumato_training.recipes import recipe, train
from tests.training.conftest import Silent
from tests.training.test_training import Cut

TINY = {
    "name": "faces",
    "checkpoint_every": 2,
    "data": {"faces": 24, "workers": 1},
    "reader": {"steps": 3, "batch": 4, "width": 4},
    "denoiser": {
        "steps": 4,
        "batch": 2,
        "dim": 8,
        "dim_mults": [1, 2],
        "warmup": 2,
        "samples_every": 2,
        "sample_steps": 1,
    },
}


@pytest.fixture(scope="module")
def exported(out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = tmp_path_factory.mktemp("weights")
    quality = {"bits_right": 0.913, "psnr": "30.1 dB"}
    folder = RECIPE.export(out, weights, quality=quality, took="1.5 hours", machine="an abacus")
    assert folder == weights / "faces"
    return folder


def test_every_stage_runs_and_keeps_its_checkpoints(out: Path, config: Config) -> None:
    assert [path.name for path in checkpoints(out / "reader")] == ["step-000002", "step-000003"]
    assert [path.name for path in checkpoints(out / "denoiser")] == ["step-000002", "step-000004"]
    assert json.loads((out / "config.json").read_text())["denoiser"]["dim_mults"] == [1, 2]
    assert RECIPE.of(out) == config
    assert recipe("faces") is RECIPE


def test_the_log_has_what_the_looks_measured(out: Path) -> None:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    looks = {entry["step"]: entry for entry in entries if entry["stage"] == "denoiser" and "ssim" in entry}
    assert sorted(looks) == [2, 4]
    for look in looks.values():
        assert -1 <= look["ssim"] <= 1
        assert np.isfinite(look["psnr"])
        assert all(0 <= look[f"{name} right"] <= 1 for name in ATTRIBUTES)
        assert look["samples"] == f"{look['step']:06d}.png"
    losses = [entry["loss"] for entry in entries if entry["stage"] == "denoiser" and "loss" in entry]
    assert losses
    assert np.isfinite(losses).all()
    (read,) = [entry for entry in entries if entry["stage"] == "reader" and "bangs" in entry]
    assert all(0 <= read[name] <= 1 for name in ATTRIBUTES)


def test_pictures_show_labels_curves_and_samples(out: Path) -> None:
    for name in ("labels.png", "curves.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 300
    with Image.open(out / "samples" / "000004.png") as picture:
        assert picture.size == (16 * 64, 3 * 64)


def test_the_data_are_faces_drawn_from_their_seeds(out: Path) -> None:
    images, labels = load_data(out / "data")
    assert images.shape == (24, 64, 64, 3)
    assert split(24) == 18
    for number in (0, 11, 23):
        drawn = face(1_000_000 + number)
        np.testing.assert_array_equal(images[number], drawn.image)
        assert LABELS[labels[number]] == drawn.label


def test_data_that_are_there_are_left_as_they_are(out: Path, config: Config) -> None:
    before = (out / "data" / "images.npy").stat().st_mtime_ns
    silent = Silent()
    make_data(config.data, out / "data", silent)
    assert not silent.steps
    assert (out / "data" / "images.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize(("stage", "cut", "rest"), [("reader", 2, [2, 3]), ("denoiser", 3, [3, 4])])
def test_a_training_that_was_cut_off_goes_on_bit_for_bit(
    out: Path, config: Config, tmp_path: Path, stage: str, cut: int, rest: list[int]
) -> None:
    config = dataclasses.replace(config, denoiser=dataclasses.replace(config.denoiser, samples_every=0))
    shutil.copy(out / "config.json", tmp_path)
    for name in {"data", "reader"} - {stage}:
        (tmp_path / name).symlink_to(out / name)
    if stage == "reader":
        config = dataclasses.replace(config, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        train("faces", config, tmp_path, stages=(stage,), progress=Cut(stage, cut))
    resumed = Silent()
    train("faces", config, tmp_path, stages=(stage,), progress=resumed)
    assert [step for name, step, _ in resumed.steps if name == stage] == rest
    expected, found = load_latest(out / stage), load_latest(tmp_path / stage)
    assert expected is not None
    assert found is not None
    assert expected[0].keys() == found[0].keys()
    for name, tensor in expected[0].items():
        assert torch.equal(tensor, found[0][name]), name


def test_a_stage_names_the_stage_it_needs(out: Path, config: Config, tmp_path: Path) -> None:
    for stage, needed in (("reader", "run the stage 'data' first"), ("denoiser", "run the stage 'data' first")):
        with pytest.raises(TrainingError, match=needed):
            train("faces", config, tmp_path, stages=(stage,), progress=Silent())
    (tmp_path / "data").symlink_to(out / "data")
    with pytest.raises(TrainingError, match="run the stage 'reader' first"):
        train("faces", config, tmp_path, stages=("denoiser",), progress=Silent())
    with pytest.raises(TrainingError, match="run the stage 'denoiser' first"):
        trained_pipeline(config, tmp_path)


def test_the_exported_model_loads_and_draws(exported: Path) -> None:
    model = sfumato.load(exported, device="cpu")
    assert (model.family, model.features) == ("pixel", {"label", "replay"})
    completed = model.complete(Request(label="0101"))
    assert (completed.steps, completed.guidance, completed.height) == (DEFAULT_STEPS, DEFAULT_GUIDANCE, 64)
    found = sfumato.explain(model, Request(label="0101", steps=3, seed=4), "profile", objects="samples")
    assert found.image.size == (64, 64)
    assert np.asarray(found.image).std() > 0


def test_averaged_weights_are_what_the_pipeline_uses(out: Path, config: Config) -> None:
    found = load_latest(out / "denoiser")
    assert found is not None
    weights = dict(trained_pipeline(config, out)[0].unet.named_parameters())
    for name, parameter in weights.items():
        assert torch.equal(parameter, found[0][f"ema.unet.{name}"]), name
    assert any(not torch.equal(parameter, found[0][f"model.unet.{name}"]) for name, parameter in weights.items())


def test_the_exported_weights_are_the_averaged_ones_in_half_precision(
    exported: Path, out: Path, config: Config
) -> None:
    source, steps = trained_pipeline(config, out)
    assert steps == 4
    expected = dict(source.unet.named_parameters())
    for name, parameter in sfumato.load(exported, device="cpu").denoiser.named_parameters():
        assert torch.equal(parameter, expected[name].half().float()), name


def test_the_exported_reader_reads_as_the_trained_one(exported: Path, out: Path, config: Config) -> None:
    images = [face(seed).image for seed in range(5)]
    reader = load_reader(exported / "reader" / "model.safetensors")
    ours, theirs = probabilities(images, reader), probabilities(images, trained_reader(config, out))
    assert ours.shape == (5, 4)
    np.testing.assert_allclose(ours, theirs, atol=0.01)
    assert set(labels_of(images, reader)) <= set(LABELS)


def test_the_folder_is_small_and_says_what_it_is(exported: Path) -> None:
    files = [path for path in exported.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md", ".png"}
    assert sum(path.stat().st_size for path in files) < publishing.LIMIT_MB * 1e6
    card = " ".join((exported / "README.md").read_text().split())
    assert "| bits right | 91.3% |" in card
    assert "1.5 hours in all" in card
    assert "on an abacus" in card
    assert "24 faces, drawn by `sfumato.studio.faces`, label imbalance 0.5" in card
    assert "4 steps of 2 faces" in card
    assert "the label of 10% of the faces was withheld" in card
    assert json.loads((exported / "sfumato.json").read_text())["attributes"] == list(ATTRIBUTES)


def test_a_failed_export_leaves_the_old_model(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RECIPE.export(out, tmp_path)
    before = (folder / "README.md").read_text()
    monkeypatch.setattr(publishing, "LIMIT_MB", 0.001)
    with pytest.raises(StoreError, match="faces would take .* MB; it must stay under"):
        RECIPE.export(out, tmp_path, took="3 hours")
    assert (folder / "README.md").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_a_reader_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(sfumato.errors.ModelError, match="train it with `sfumato train faces`"):
        load_reader(tmp_path / "model.safetensors")


def test_bits_of_numbers() -> None:
    assert bits(torch.tensor([0b0011, 0b1000])).tolist() == [[0, 0, 1, 1], [1, 0, 0, 0]]


# CelebA's layout, with attributes in another order than ours, an image that the list lacks, and one that it adds.
NAMES = ("Attractive", "Male", "Smiling", "Bangs", "Wearing_Lipstick")
ROWS = {"1.jpg": "1 -1 -1 1 -1", "2.jpg": "-1 1 -1 -1 1", "gone.jpg": "1 1 1 1 1", "3.jpg": "-1 1 1 -1 -1"}
READ = [0b1000, 0b0101, 0b0110]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Images of 48 x 80 pixels: grey above and below, their own colour in the middle square."""
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    for number, name in enumerate(("1.jpg", "2.jpg", "3.jpg", "unlisted.jpg")):
        pixels = np.full((80, 48, 3), 128, np.uint8)
        pixels[16:64] = (60 * number + 20, 200, 40)
        Image.fromarray(pixels).save(folder / "img_align_celeba" / name, quality=95)
    return folder


def write_list(folder: Path, kind: str, names: tuple[str, ...] = NAMES) -> None:
    if kind == "txt":
        lines = [str(len(ROWS)), " ".join(names), *(f"{name}  {row}" for name, row in ROWS.items())]
    else:
        lines = [",".join(("image_id", *names)), *(",".join((name, *row.split())) for name, row in ROWS.items())]
    (folder / f"list_attr_celeba.{kind}").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_photographs_are_cut_to_their_middle_and_labelled(photographs: Path, tmp_path: Path, kind: str) -> None:
    write_list(photographs, kind)
    make_data(DataConfig(faces=3, folder=str(photographs)), tmp_path / "data", Silent())
    images, labels = load_data(tmp_path / "data")
    assert labels.tolist() == READ
    for number, image in enumerate(images):
        colour = image[8:56].reshape(-1, 3).mean(0)
        np.testing.assert_allclose(colour, (60 * number + 20, 200, 40), atol=6)
        np.testing.assert_allclose(image[:, 0], image[:, -1], atol=25)  # the whole width


def photographs_error(folder: Path, place: Path, faces: int = 3) -> Any:
    make_data(DataConfig(faces=faces, folder=str(folder)), place, Silent())


def test_photographs_without_a_list_are_an_error(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"has no list_attr_celeba.txt or .csv; give a folder in CelebA's layout"):
        photographs_error(photographs, tmp_path / "data")
    with pytest.raises(TrainingError, match="run the stage 'data' first"):
        load_data(tmp_path / "data")


@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_a_list_without_an_attribute_is_an_error(photographs: Path, tmp_path: Path, kind: str) -> None:
    write_list(photographs, kind, ("Attractive", "Male", "Smiling", "Fringe", "Wearing_Lipstick"))
    with pytest.raises(TrainingError, match="has no attribute 'Bangs'; its attributes are: Attractive, Male"):
        photographs_error(photographs, tmp_path / "data")


def test_more_faces_than_photographs_are_an_error(photographs: Path, tmp_path: Path) -> None:
    write_list(photographs, "txt")
    with pytest.raises(TrainingError, match=r"lists 3 images; ask for at most as many with \[data\] faces"):
        photographs_error(photographs, tmp_path / "data", faces=4)


def test_a_damaged_photograph_is_named(photographs: Path, tmp_path: Path) -> None:
    write_list(photographs, "txt")
    (photographs / "img_align_celeba" / "2.jpg").write_bytes(b"no picture")
    with pytest.raises(TrainingError, match=r"2.jpg' cannot be read: .*; remove its line from the list"):
        photographs_error(photographs, tmp_path / "data")


@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_an_empty_list_is_an_error(photographs: Path, tmp_path: Path, kind: str) -> None:
    (photographs / f"list_attr_celeba.{kind}").write_text("")
    with pytest.raises(TrainingError):
        photographs_error(photographs, tmp_path / "data")
