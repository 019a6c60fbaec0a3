"""Scores of faces: what a reader says of them is compared with their labels, face by face and bit by bit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from numpy.typing import NDArray
from safetensors.torch import save_file

import sfumato
from sfumato.errors import ModelError, OptionError, RequestError
from sfumato.generation.generate import generate
from sfumato.metrics import bootstrap
from sfumato.models.model import Model
from sfumato.pipelines.label_pipeline import LabelPipeline
from sfumato.pipelines.label_unet import LabelUNet
from sfumato.request import Request
from sfumato.studio import faces_scoring
from sfumato.studio.faces import ATTRIBUTES, LABELS, SIZE
from sfumato.studio.faces_reader import build_reader, labels_of, load_reader
from sfumato.studio.faces_scoring import AIM, READER, score_faces
from tests.cli.running import run
from tests.labels import tiny_labels


def save(folder: Path, side: int = SIZE, steps: int = 1) -> Path:
    """A model of random weights that draws in few steps, as `sfumato train faces` would leave it, without a reader."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = LabelUNet(side, dim=8, dim_mults=(1, 2)).eval()
    LabelPipeline(unet, DDIMScheduler(clip_sample=False, prediction_type="v_prediction")).save_pretrained(folder)
    (folder / "sfumato.json").write_text(json.dumps({"defaults": {"steps": steps, "guidance": float(steps)}}))
    return folder


def save_reader(folder: Path) -> None:
    """An untrained reader."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reader = build_reader(4)
    (folder / READER).parent.mkdir()
    save_file(reader.state_dict(), folder / READER)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = save(tmp_path_factory.mktemp("models") / "faces")
    save_reader(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return sfumato.load(folder, device="cpu")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Draws faces too small for any reader, in less time."""
    made = save(tmp_path_factory.mktemp("models") / "small", side=8, steps=2)
    save_reader(made)
    return sfumato.load(made, device="cpu")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the reader says, in turn and over and over."""
    said: list[str] = []

    def read(images: Sequence[NDArray[np.uint8]], reader: Any) -> list[str]:
        return [said[place % len(said)] for place in range(len(images))]

    monkeypatch.setattr(faces_scoring, "labels_of", read)
    return said


def means(model: Model, samples: int) -> dict[str, float]:
    return {figure.measure: figure.mean for figure in score_faces(model, samples).figures}


def alone(model: Model, number: int, seed: int) -> NDArray[np.uint8]:
    """The face of a number, drawn by itself."""
    request = Request(label=LABELS[number % 16], seed=seed + number)
    return np.asarray(generate(model, request).images[0])


def test_every_label_is_drawn_in_turn_from_a_seed_of_its_own(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    images: list[NDArray[np.uint8]] = []

    def read(given: Sequence[NDArray[np.uint8]], reader: Any) -> list[str]:
        images.extend(given)
        return ["0000"] * len(given)

    monkeypatch.setattr(faces_scoring, "labels_of", read)
    score_faces(small, 18, seed=3)
    assert len(images) == 18
    for number, image in enumerate(images):
        assert np.abs(image.astype(int) - alone(small, number, 3)).max() <= 1
        assert np.abs(image.astype(int) - alone(small, number + 1, 3)).max() > 10


def test_an_untrained_reader_is_right_where_it_happens_to_be(model: Model, folder: Path) -> None:
    told: list[tuple[str, int, int]] = []
    scores = score_faces(model, 10, seed=3, progress=lambda what, done, total: told.append((what, done, total)))
    assert told == [("faces", 8, 10), ("faces", 10, 10)]
    assert (scores.model, scores.prompts) == (model.source.name, 10)
    names = [f"{name} right" for name in ATTRIBUTES]
    assert [figure.measure for figure in scores.figures] == [*names, "bits right", "all four right"]
    assert [figure.aim for figure in scores.figures] == [None] * 4 + [AIM, None]
    read = labels_of([alone(model, number, 3) for number in range(10)], load_reader(folder / READER))
    pairs = zip(read, LABELS[:10], strict=True)
    right = np.array([[a == b for a, b in zip(said, wanted, strict=True)] for said, wanted in pairs])
    for values, figure in zip([*right.T, right.mean(1), right.all(1)], scores.figures, strict=True):
        assert (figure.mean, figure.low, figure.high, figure.n) == pytest.approx(bootstrap(values))


def test_a_reader_that_always_says_the_same_is_right_for_half_of_the_bits(small: Model, answers: list[str]) -> None:
    answers.append("0110")
    expected = dict.fromkeys((f"{name} right" for name in ATTRIBUTES), 0.5) | {"bits right": 0.5}
    assert means(small, 16) == expected | {"all four right": 1 / 16}


def test_a_model_that_draws_what_it_is_told_is_all_right(small: Model, answers: list[str]) -> None:
    answers += LABELS
    assert set(means(small, 20).values()) == {1.0}


def test_a_bit_that_is_never_right_counts_for_its_attribute_alone(small: Model, answers: list[str]) -> None:
    answers += [label[:2] + str(1 - int(label[2])) + label[3] for label in LABELS]
    expected = {"bangs right": 1.0, "male right": 1.0, "smile right": 0.0, "lipstick right": 1.0}
    assert means(small, 16) == expected | {"bits right": 0.75, "all four right": 0.0}


def test_intervals_are_over_faces(small: Model, answers: list[str]) -> None:
    """A face is all right or all wrong: its four bits are not four items."""
    answers += [label if number % 2 else f"{15 - number:04b}" for number, label in enumerate(LABELS)]
    figures = {figure.measure: figure for figure in score_faces(small, 16).figures}
    bits, every = figures["bits right"], figures["all four right"]
    assert (bits.mean, bits.low, bits.high, bits.n) == (0.5, every.low, every.high, 16)
    assert bits.low < 0.35


def test_the_command_scores_a_folder_of_faces(folder: Path, answers: list[str]) -> None:
    answers += LABELS
    done = run("studio", "score", str(folder), "--prompts", "3", "--seed", "5", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["prompts"] == 3
    assert {figure["measure"]: figure["mean"] for figure in found["figures"]}["bits right"] == 1.0


@pytest.mark.parametrize("samples", [0, -1])
def test_no_faces_are_refused(model: Model, samples: int) -> None:
    with pytest.raises(OptionError, match=f"samples is {samples}; expected a whole number from 1 to 100000"):
        score_faces(model, samples)


def test_a_negative_seed_is_refused(model: Model) -> None:
    with pytest.raises(RequestError, match="seed is -1"):
        score_faces(model, 1, seed=-1)


def test_a_model_without_labels_is_refused(tiny_pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(ModelError, match="has no labels to read; score a model of `sfumato train faces`"):
        score_faces(sfumato.wrap(tiny_pipeline), 1)


def test_a_model_that_lies_in_no_folder_has_no_reader() -> None:
    with pytest.raises(ModelError, match="score a model of `sfumato train faces`"):
        score_faces(sfumato.wrap(tiny_labels()), 1)


def test_a_missing_or_damaged_reader_is_an_error_before_the_first_face(tmp_path: Path) -> None:
    made = sfumato.load(save(tmp_path), device="cpu")
    told: list[str] = []
    for damaged in (False, True):
        if damaged:
            save_reader(tmp_path)
            content = (tmp_path / READER).read_bytes()
            (tmp_path / READER).write_bytes(content[: len(content) // 2])
        with pytest.raises(
            ModelError, match="the reader of faces cannot be read .* train it with `sfumato train faces`"
        ):
            score_faces(made, 1, progress=lambda what, done, total: told.append(what))
    assert not told


def test_images_of_another_size_cannot_be_read(tmp_path: Path) -> None:
    save(tmp_path, side=32)
    save_reader(tmp_path)
    with pytest.raises(OptionError, match="the reader needs images of 64 x 64 pixels in colour; got \\(32, 32, 3\\)"):
        score_faces(sfumato.load(tmp_path, device="cpu"), 1)
