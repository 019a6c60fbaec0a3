"""Bad input of every kind: one line that says what is wrong, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import run

OFTEN = ("--steps", "1", "--size", "32x32")

REQUESTS = {
    "empty prompt": ([""], "has no words"),
    "only spaces": (["  \t "], "has no words"),
    "only zero-width": (["\u200b\u200d"], "has no words"),
    "NUL in the prompt": (["a\0b"], "prompt contains a NUL character at place 1"),
    "lone surrogate": (["a \udcff cat"], "prompt contains half of a surrogate pair at place 2"),
    "NUL in the negative prompt": (["a", "--negative", "\0"], "negative_prompt contains a NUL"),
    "seed -1": (["a", "--seed", "-1"], "seed is -1; expected a whole number from 0 to"),
    "seed 2**63": (["a", "--seed", str(2**63)], "seed is 9223372036854775808"),
    "last seed, two images": (["a", "--seed", str(2**63 - 1), "--images", "2"], "seed is 9223372036854775807"),
    "steps 0": (["a", "--steps", "0"], "steps is 0; expected a whole number from 1 to 1000"),
    "steps -1": (["a", "--steps", "-1"], "steps is -1"),
    "steps 1e9": (["a", "--steps", "1000000000"], "steps is 1000000000"),
    "guidance nan": (["a", "--guidance", "nan"], "guidance is nan; expected a finite number"),
    "guidance inf": (["a", "--guidance", "inf"], "guidance is inf"),
    "guidance -1": (["a", "--guidance", "-1"], "guidance is -1.0"),
    "size 0": (["a", "--size", "0x0"], "height is 0; expected a whole number from 8"),
    "size 7": (["a", "--size", "7x7"], "height is 7"),
    "width 7": (["a", "--width", "7"], "width is 7"),
    "size without x": (["a", "--size", "512"], "--size is '512'; expected height x width in pixels, such as 512x768"),
    "size of three": (["a", "--size", "1x2x3"], "--size is '1x2x3'"),
    "size twice": (["a", "--size", "32x32", "--height", "32"], "give the size once"),
    "images 0": (["a", "--images", "0"], "images is 0; expected a whole number from 1 to 64"),
    "empty scheduler": (["a", "--scheduler", " "], "scheduler is ' '"),
    "variation without strength": (
        ["a", "--variation", "5"],
        "--variation is '5'; expected another seed and a strength, such as 5:0.1",
    ),
    "variation without seed": (["a", "--variation", ":0.1"], "--variation is ':0.1'"),
    "variation of nothing": (["a", "--variation", ""], "--variation is ''"),
    "variation in words": (["a", "--variation", "five:nan"], "--variation is 'five:nan'"),
    "variation by -0.1": (["a", "--variation", "5:-0.1"], "--variation is '5:-0.1'"),
    "variation by nan": (["a", "--variation", "5:nan"], "--variation is '5:nan'"),
    "variation with seed -1": (["a", "--variation", "-1:0.1"], "--variation is '-1:0.1'"),
    "variation by 1.1": (["a", "--variation", "5:1.1"], "the strength of the variation is 1.1; expected a number from"),
    "variation with seed 2**63": (
        ["a", "--variation", f"{2**63}:0.1"],
        "the seed of the variation is 9223372036854775808; expected a whole number from 0 to",
    ),
    "huge number": (["a", "--seed", "9" * 5000], "--seed"),
}
WITH_MODEL = {
    "odd size": (["a", "--size", "513x512"], "height is 513; this model makes multiples of 8, so take 512 or 520"),
    "unknown scheduler": (["a", "--scheduler", "magic"], "no scheduler 'magic' fits this model; choose from: "),
    "unknown method": (["a", "--method", "magic"], "there is no method 'magic'; choose from: ablation"),
    "unknown option": (["a", "--option", "magic=1"], "daam has no option 'magic'; its options are: layers, steps,"),
    "option without value": (["a", "--option", "threshold"], "--option is 'threshold'; expected name=value"),
    "option of another type": (["a", "--option", "threshold=x"], "the option threshold is 'x'; expected a number"),
    "option out of range": (["a", "--option", "threshold=2"], "threshold is 2.0; expected a number above 0, at most 1"),
    "no such layer": (["a", "--option", "layers=nowhere"], "no layer matches 'nowhere'"),
    "no such step": (["a", "--option", "steps=5"], "steps has 5; this run has steps 0 to 0"),
    "broken pattern": (["a", "--option", "layers=("], "no regular expression"),
    "no budget": (["a", "--option", "keep=step", "--option", "budget_mb=0.000001"], "budget"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_that_cannot_be_made(name: str, tmp_path: Path, lent: object) -> None:
    arguments, message = REQUESTS[name]
    done = run("explain", "--out", str(tmp_path / "deep" / "out"), *arguments)
    assert message in done.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WITH_MODEL)
def test_a_request_that_the_model_or_the_method_refuses(name: str, tmp_path: Path, lent: object) -> None:
    arguments, message = WITH_MODEL[name]
    done = run("explain", *OFTEN, "--out", str(tmp_path / "deep" / "out"), *arguments)
    assert message in done.error
    assert not list(tmp_path.iterdir())


def a_file(place: Path) -> str:
    place.write_text("mine")
    return "is a file; give the name of a folder"


def below_a_file(place: Path) -> str:
    place.parent.rmdir()
    place.parent.write_text("mine")
    return "a part of the path is a file"


def foreign_folder(place: Path) -> str:
    place.mkdir()
    (place / "thesis.txt").write_text("mine")
    return "is not empty and no earlier result of Sfumato"


def with_foreign_file(place: Path) -> str:
    place.mkdir()
    (place / ".sfumato.json").write_text(json.dumps({"format": "sfumato-output", "version": 2, "files": {}}))
    (place / "thesis.txt").write_text("mine")
    return "also holds files that Sfumato did not write (thesis.txt)"


@pytest.mark.parametrize("prepare", [a_file, below_a_file, foreign_folder, with_foreign_file])
def test_an_output_folder_that_cannot_be_used(prepare: Callable[[Path], str], tmp_path: Path, lent: object) -> None:
    place = tmp_path / "parent" / "out"
    place.parent.mkdir()
    message = prepare(place)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert message in run("explain", "a cat", *OFTEN, "--out", str(place)).error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "the name of the folder is empty"),
        (".", "is the folder you are in"),
        ("/", "is the folder you are in"),
        ("a\0b", "embedded null byte"),
        ("x" * 300, "the name is too long"),
        ("/proc/nowhere/out", "cannot write /proc/nowhere/out"),
    ],
)
def test_an_output_folder_that_cannot_be(name: str, message: str, lent: object) -> None:
    assert message in run("explain", "a cat", *OFTEN, "--out", name).error


def test_a_folder_that_may_not_be_written_to(tmp_path: Path, lent: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)  # the tests may run as a user whom no mode stops
    assert (
        "permission denied; choose a folder that you may write to"
        in run("explain", "a", "--out", str(tmp_path / "out")).error
    )


def test_a_full_disk_leaves_nothing(tmp_path: Path, lent: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    assert "the disk is full" in run("explain", "a", *OFTEN, "--out", str(tmp_path / "out")).error
    assert not list(tmp_path.iterdir())


def no_pipeline(folder: Path) -> str:
    (folder / "model_index.json").unlink()
    return "is no pipeline: it has no model_index.json"


def broken_index(folder: Path) -> str:
    (folder / "model_index.json").write_text("{")
    return "model_index.json"


def other_family(folder: Path) -> str:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "CogVideoXPipeline"}))
    return "CogVideoXPipeline is not supported; supported are: StableDiffusionPipeline"


def truncated_weights(folder: Path) -> str:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    os.truncate(path, path.stat().st_size // 2)
    return "cannot be loaded"


def empty_weights(folder: Path) -> str:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    return "cannot be loaded"


def pickled_weights(folder: Path) -> str:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(pickle.dumps({"weight": [0.0] * 1000}))
    return "cannot be loaded"


def missing_part(folder: Path) -> str:
    shutil.rmtree(folder / "vae")
    return "lacks the folder 'vae'"


def a_file_instead(folder: Path) -> str:
    shutil.rmtree(folder)
    folder.write_text("weights")
    return "is a file; give a folder in diffusers layout"


def nothing_there(folder: Path) -> str:
    shutil.rmtree(folder)
    return "there is no model"


MODELS = [
    no_pipeline,
    broken_index,
    other_family,
    truncated_weights,
    empty_weights,
    pickled_weights,
    missing_part,
    a_file_instead,
    nothing_there,
]


@pytest.mark.parametrize("damage", MODELS)
def test_a_model_that_cannot_be_loaded(damage: Callable[[Path], str], model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    message = damage(folder)
    done = run("explain", "a cat", "--model", str(folder), "--out", str(tmp_path / "out"))
    assert message in done.error
    assert done.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("device", ["toaster", "cuda:99", ""])
def test_a_device_that_is_not_there(device: str, model_folder: Path, tmp_path: Path) -> None:
    done = run("explain", "a", "--model", str(model_folder), "--device", device, "--out", str(tmp_path / "out"))
    assert "device" in done.error or "cannot be moved" in done.error


@pytest.mark.parametrize("name", ["studio/nothing", "nothing", "a/b/c", "~/nothing", "\0", "\udcff"])
def test_a_model_name_that_means_nothing(name: str, tmp_path: Path) -> None:
    assert "model" in run("explain", "a", "--model", name, "--out", str(tmp_path / "out")).error
