"""Looking at a given image, and arguments of a pipeline's own call, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.errors import OptionError
from sfumato.options import parse_arguments
from sfumato.studio.scenes import scene_of
from tests.cli.running import run


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    Image.fromarray(scene_of("a red circle left of a blue square", 3).image).save(path)
    return path


def test_a_given_image_is_explained_where_its_things_are(scene: Path, tmp_path: Path) -> None:
    words = ("--method", "ovam", "--option", "text=a red circle left of a blue square")
    looked = ("explain", "--image", str(scene), "--invert", "noise", "--timestep", "300")
    finished = run(*looked, *words, "--out", str(tmp_path / "out"), "--json")
    assert finished.code == 0
    summary = json.loads(finished.out)
    assert summary["request"]["invert"] == "noise"
    assert summary["request"]["at"] == 300
    found = sfumato.open(tmp_path / "out" / "explanation.zarr")
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(Image.open(scene).convert("RGB")))
    inside = scene_of("a red circle left of a blue square", 3)
    for word, left in (("circle", True), ("square", False)):
        heat = found.word_map(word).values
        x = int(heat.argmax()) % heat.shape[1] / heat.shape[1]
        assert (x < 0.5) == left, (word, inside)
    assert "as given" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--invert", "noise"), "invert looks at a given image; give one"),
        (("--invert", "ddim", "--image", "SCENE"), "invert is 'ddim'; the way to look at a given image is 'noise'"),
        (("--timestep", "300"), "at is 300, but no image is to be noised"),
        (("--invert", "noise", "--image", "SCENE", "--timestep", "1000"), "at is 1000; expected a whole number"),
        (("--argument", "clip_skip"), "--argument is 'clip_skip'; expected name=value"),
        (("--argument", "clip_skip=1", "--argument", "clip-skip=2"), "the argument clip_skip is given twice"),
        (("--argument", "colour=red"), "StableDiffusionPipeline takes no argument 'colour'; it takes: "),
        (
            ("--argument", "clip_skip=many"),
            "the argument clip_skip is 'many'; StableDiffusionPipeline expects int",
        ),
        (("--argument", "clip_skip=1000"), "refuses its arguments (clip_skip=1000)"),
        (("--argument", "guidance_rescale=[]"), "the argument guidance_rescale is []"),
        (("--argument", "guidance_rescale=NaN"), "the argument guidance_rescale is nan"),
        (("--argument", "guidance_rescale=1e999"), "the argument guidance_rescale is inf"),
        (("--argument", "eta=" + "[" * 100_000), "it is nested more than 100 levels deep"),
        (("--argument", "kwargs=3"), "takes no argument 'kwargs'"),
        (("--argument", "height=64"), "height is said by the request or the run, not by the model"),
    ],
)
def test_what_cannot_be_is_one_line(scene: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    given = [str(scene) if option == "SCENE" else option for option in options]
    finished = run("explain", "a red circle", *given, "--steps", "1", "--out", str(tmp_path / "out"))
    assert message in finished.error
    assert not list(tmp_path.iterdir())


def test_arguments_reach_the_pipelines_call(tmp_path: Path) -> None:
    plain, other = (
        run("explain", "a red circle", "--steps", "2", "--out", str(tmp_path / name), "--json", *more)
        for name, more in (("plain", ()), ("other", ("--argument", "guidance_rescale=0.7")))
    )
    assert plain.code == other.code == 0
    pixels = [np.asarray(Image.open(tmp_path / name / "image.png")) for name in ("plain", "other")]
    assert (pixels[0] != pixels[1]).any()
    assert json.loads(other.out)["provenance"]["arguments"] == {"guidance_rescale": 0.7}


def test_values_are_json_where_they_can_be() -> None:
    read = parse_arguments(["a=1", "b=0.5", "c=true", "d=[1, 2]", "e=plain text", 'f="quoted"', "g="])
    assert read == {"a": 1, "b": 0.5, "c": True, "d": [1, 2], "e": "plain text", "f": "quoted", "g": ""}
    with pytest.raises(OptionError, match="expected name=value"):
        parse_arguments(["=3"])
