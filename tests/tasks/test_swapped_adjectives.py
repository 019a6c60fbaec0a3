"""The task of swapped adjectives: its captions, its sums on drawn images, then a run to the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import sfumato
from sfumato.models.model import Model
from sfumato.runs.finding import Finding
from sfumato.runs.running import run
from sfumato.runs.task import Item, NoOptions, find_task
from sfumato.studio.grammar import parsed
from sfumato.studio.scenes import COLOURS, SIZE, Scene, scene_of
from sfumato.tasks import swapped_adjectives
from sfumato.tasks.shared.scene_images import OTHER
from sfumato.tasks.shared.word_maps import Mapped
from sfumato.tasks.swapped_adjectives import swap_record, swapped_captions
from tests.tasks.made_up import blank, by_word, drawn, with_items

MANY = st.integers(1, 20), st.integers(0, 10**6)
EVERYWHERE = np.ones((SIZE, SIZE), np.float32)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is drawn."""
    for sheet in ("panels_sheet", "examples_sheet"):
        monkeypatch.setattr(swapped_adjectives, sheet, lambda *given, **more: Image.new("RGB", (4, 4)))


@pytest.fixture(scope="module")
def scenes() -> Model:
    """The embedded model."""
    return sfumato.load("studio/scenes")


@given(*MANY)
@settings(max_examples=30)
def test_swapped_captions_differ_in_the_first_colour_alone(pairs: int, seed: int) -> None:
    captions = swapped_captions(pairs, seed)
    assert len(captions) == 2 * pairs
    for caption, swapped in zip(captions[::2], captions[1::2], strict=True):
        one, other = parsed(caption), parsed(swapped)
        assert one.groups[1] == other.groups[1]
        assert one.groups[0].shape == other.groups[0].shape != one.groups[1].shape
        assert len({one.groups[0].colour, other.groups[0].colour, one.groups[1].colour}) == 3
    assert swapped_captions(pairs, seed) == captions


def found_of(images: Sequence[Mapped]) -> Finding:
    """What the task concludes from pairs of made-up images, with their rows."""
    records = []
    for one, other in zip(images[::2], images[1::2], strict=True):
        item = Item(one.request, {OTHER: other.request.prompt})
        records.append((item, swap_record(item, np.stack([one.image, other.image]))))
    found = find_task("swapped_adjectives").parts.conclude(records, NoOptions(), {"model": "made up"})
    items = [{"prompt": item.request.prompt} | dict(row) for item, record in records for row in record.rows]
    return with_items(found, items)


def swaps(pairs: int, change: Callable[[Scene, str], NDArray[np.uint8]]) -> list[Mapped]:
    """Pairs of images, the second of which is what a function makes of the first scene and the other colour."""
    captions = swapped_captions(pairs, 0)
    found = []
    for seed, (caption, swapped) in enumerate(zip(captions[::2], captions[1::2], strict=True)):
        scene = scene_of(caption, seed)
        image = change(scene, parsed(swapped).groups[0].colour)
        found += [
            drawn(caption, seed, scene),
            by_word(swapped, {}, rest=EVERYWHERE, seed=seed, image=image),
        ]
    return found


def recoloured(scene: Scene, colour: str) -> NDArray[np.uint8]:
    image = scene.image.copy()
    image[scene.thing_masks[0]] = COLOURS[colour]
    return image


def with_another_half(scene: Scene, colour: str) -> NDArray[np.uint8]:
    """The upper half of the background is a little brighter or darker."""
    image = recoloured(scene, colour)
    above = ~scene.thing_masks.any(0) & (np.arange(SIZE) < SIZE // 2)[:, None]
    image[above] = np.where(image[above] > 128, image[above] - 20, image[above] + 20)
    return image


def without_the_other(scene: Scene, colour: str) -> NDArray[np.uint8]:
    (grey,) = {tuple(pixel) for pixel in scene.image[[0, -1], [0, -1]]}
    image = recoloured(scene, colour)
    image[scene.thing_masks[1]] = grey
    return image


def shares(found: Any) -> dict[str, float]:
    return {row["measure"]: row["mean"].mean for row in found.rows}


@pytest.mark.usefixtures("undrawn")
def test_a_swap_that_changes_the_noun_alone_changes_nothing_outside() -> None:
    found = found_of(swaps(5, recoloured))
    measured = shares(found)
    assert measured["changed outside"] == measured["share of the change outside"] == 0
    assert 0.5 < measured["changed inside"] <= 1
    assert measured["other object stays"] == measured["background stays"] == 1
    assert found.about["images_without_the_object"] == 0
    assert found.verdict == "not replicated"
    for item in found.items:
        one, other = item["prompt"], item["swapped to"]
        assert other in COLOURS
        assert other not in one


@pytest.mark.usefixtures("undrawn")
def test_a_swap_that_changes_the_surroundings_makes_the_finding_hold() -> None:
    found = found_of(swaps(5, with_another_half))
    for item in found.items:
        assert 0.3 < item["changed outside"] <= 0.5 / item["share of the image outside"] + 1e-4
        assert 0 < item["share of the change outside"] < 1
    assert found.verdict == "replicated"
    assert found_of(swaps(4, with_another_half)).verdict == "inconclusive"


@pytest.mark.usefixtures("undrawn")
def test_an_object_that_goes_away_does_not_stay() -> None:
    measured = shares(found_of(swaps(3, without_the_other)))
    assert measured["other object stays"] == 0
    assert measured["background stays"] == 1
    assert measured["changed outside"] > 0


@pytest.mark.usefixtures("undrawn")
def test_equal_images_have_no_change() -> None:
    found = found_of(swaps(2, lambda scene, colour: scene.image))
    measured = shares(found)
    assert measured["changed outside"] == measured["changed inside"] == measured["share of the change outside"] == 0


def test_images_without_the_object_say_nothing() -> None:
    found = found_of(swaps(2, lambda scene, colour: blank("a red circle").image))
    assert found.verdict == "inconclusive"
    assert found.about["images_without_the_object"] == 2
    assert found.sentence == (
        "No pair shows the object whose colour was exchanged in both images, so nothing can be said."
    )
    assert {item["changed outside"] for item in found.items} == {None}
    assert found.figure is not None
    assert found.figure.width > 100
    json.loads(found.to_json())


@pytest.mark.usefixtures("undrawn")
def test_an_object_that_fills_the_image_has_no_outside() -> None:
    captions = ["a red square and a white star", "a blue square and a white star"]
    found = found_of(
        [
            by_word(caption, {}, rest=EVERYWHERE, image=np.full((SIZE, SIZE, 3), COLOURS[colour], np.uint8))
            for caption, colour in zip(captions * 2, ["red", "blue"] * 2, strict=True)
        ],
    )
    assert shares(found)["share of the image outside"] == 0
    assert shares(found)["changed inside"] == 1
    assert np.isnan(shares(found)["changed outside"])
    assert found.verdict == "inconclusive"


@pytest.mark.filterwarnings("ignore:one prompt gives no interval")
def test_a_pair_from_beginning_to_end(scenes: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("swapped_adjectives", scenes, out=tmp_path / "run", prompts=1, common={"steps": 2})
    found, items = Finding.from_json(done.finding), done.items
    assert found.verdict == "inconclusive"  # one pair has no interval
    assert items["prompt"].tolist() == swapped_captions(1, 0)[:1]
    assert items["other"].tolist() == swapped_captions(1, 0)[1:]
    assert len(found.rows) == 6
    assert found.about.items() >= {"prompts": 2, "model": "studio/scenes", "steps": 2}.items()
    with Image.open(tmp_path / "run" / "figure.png") as figure:
        assert figure.width > 300
    monkeypatch.setattr(swapped_adjectives, "generated", lambda *given, **more: pytest.fail("an image was made"))
    again = run("swapped_adjectives", scenes, out=tmp_path / "run", prompts=1, common={"steps": 2})
    assert (again.finding, again.items.equals(items)) == (done.finding, True)


@pytest.mark.parametrize(
    "other",
    [
        "a red circle and a green square",
        "a blue circle and a red square",
        "a blue star and a green square",
        "a blue large circle and a green square",
    ],
)
def test_captions_that_differ_in_more_or_less_are_no_pair(tmp_path: Path, other: str) -> None:
    rows = [{"prompt": "a red circle and a green square", OTHER: other}]
    found = sfumato.run("swapped_adjectives", out=tmp_path / "run", prompts=rows)
    assert found.counts.invalid == 1
