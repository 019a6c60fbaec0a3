"""The task of cohyponyms: its captions, its sums on drawn images with known maps, then a run to the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import sfumato
from sfumato.errors import OptionError
from sfumato.models.model import Model
from sfumato.runs.finding import Finding
from sfumato.runs.running import run
from sfumato.runs.task import Item, find_task
from sfumato.studio.grammar import parsed
from sfumato.studio.scenes import COHYPONYMS, SIZE, scene_of
from sfumato.tasks import cohyponyms
from sfumato.tasks.cohyponyms import cohyponym_captions, pair_record
from sfumato.tasks.shared import word_maps
from sfumato.tasks.shared.scene_images import OTHER
from sfumato.tasks.shared.word_maps import Mapped, WordMapOptions
from tests.tasks.made_up import Maps, blank, by_word, covering, with_items

MANY = st.integers(1, 20), st.integers(0, 10**6)
LEFT, RIGHT = covering(0.5, SIZE).T.copy(), 1 - covering(0.5, SIZE).T
EVERYWHERE = np.ones((SIZE, SIZE), np.float32)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is drawn."""
    for sheet in ("panels_sheet", "examples_sheet"):
        monkeypatch.setattr(cohyponyms, sheet, lambda *given, **more: Image.new("RGB", (4, 4)))


@pytest.fixture(scope="module")
def scenes() -> Model:
    """The embedded model."""
    return sfumato.load("studio/scenes")


@given(*MANY)
@settings(max_examples=30)
def test_cohyponym_captions_differ_in_the_second_noun_alone(pairs: int, seed: int) -> None:
    captions = cohyponym_captions(pairs, seed)
    kind_of = {shape: kind for kind, shapes in COHYPONYMS.items() for shape in shapes}
    assert len(captions) == 2 * pairs
    for similar, unrelated in zip(captions[::2], captions[1::2], strict=True):
        one, other = parsed(similar), parsed(unrelated)
        assert one.groups[0] == other.groups[0]
        assert replace(one.groups[1], shape="star") == replace(other.groups[1], shape="star")
        assert one.relation == other.relation == "and"
        assert one.groups[1].shape != one.groups[0].shape
        assert one.groups[1].colour != one.groups[0].colour
        assert kind_of[one.groups[1].shape] == kind_of[one.groups[0].shape]
        assert kind_of[other.groups[1].shape] != kind_of[other.groups[0].shape]
        words = [set(enumerate(caption.split())) for caption in (similar, unrelated)]
        assert len(words[0] - words[1]) == len(words[1] - words[0]) == 1
    assert cohyponym_captions(pairs, seed) == captions
    assert cohyponym_captions(pairs + 3, seed)[: 2 * pairs] == captions


def found_of(images: Sequence[Mapped]) -> Finding:
    """What the task concludes from pairs of made-up images, with their rows."""
    records = [
        (Item(one.request, {OTHER: other.request.prompt}), pair_record((one, other)))
        for one, other in zip(images[::2], images[1::2], strict=True)
    ]
    found = find_task("cohyponyms").parts.conclude(records, WordMapOptions(), {"model": "made up"})
    return with_items(found, [dict(row) for _, record in records for row in record.rows])


def related(pairs: int, *, alike: tuple[Maps, Maps], apart: tuple[Maps, Maps], wrong: str = "similar") -> list[Mapped]:
    """Pairs of images with one pair of maps for similar nouns and one for others; either kind shows nothing."""
    found = []
    for place, caption in enumerate(cohyponym_captions(pairs, 0)):
        nouns = [group.shape for group in parsed(caption).groups]
        maps = dict(zip(nouns, apart if place % 2 else alike, strict=True))
        image = scene_of(caption, place // 2).image
        if wrong == ("unrelated" if place % 2 else "similar"):
            image = blank(caption).image
        found.append(by_word(caption, maps, rest=EVERYWHERE, seed=place // 2, image=image))
    return found


@pytest.mark.usefixtures("undrawn")
def test_similar_nouns_that_share_their_maps_and_go_wrong_make_the_finding_hold() -> None:
    found = found_of(related(5, alike=(LEFT, LEFT), apart=(LEFT, RIGHT)))
    assert found.verdict == "replicated"
    assert found.sentence == (
        "With a cohyponym instead of an unrelated noun the maps' IoU is 1.000 [1.000, 1.000] (n=5) higher, and both "
        "objects are right -1.000 [-1.000, -1.000] (n=5) more often."
    )
    shared, ranked, right = found.rows
    assert (shared["cohyponyms"], shared["unrelated"]) == ((1, 1, 1, 5), (0, 0, 0, 5))
    assert str(ranked["cohyponyms more"]) == "2.000 [2.000, 2.000] (n=5)"
    assert right["measure"] == "both objects right"
    assert [item["nouns"] for item in found.items] == ["cohyponyms", "unrelated"] * 5


@pytest.mark.usefixtures("undrawn")
def test_cohyponyms_need_shared_maps_and_wrong_images_both() -> None:
    half = LEFT + 0.5 * RIGHT
    assert found_of(related(5, alike=(LEFT, RIGHT), apart=(LEFT, LEFT))).verdict == "not replicated"
    assert found_of(related(5, alike=(half, half), apart=(half, half))).verdict == "inconclusive"
    right = found_of(related(5, alike=(LEFT, LEFT), apart=(LEFT, RIGHT), wrong="none"))
    assert right.verdict == "inconclusive"
    back = found_of(related(5, alike=(LEFT, LEFT), apart=(LEFT, RIGHT), wrong="unrelated"))
    assert back.verdict == "not replicated"
    assert found_of(related(4, alike=(LEFT, LEFT), apart=(LEFT, RIGHT))).verdict == "inconclusive"


@pytest.mark.parametrize("pairs", [0, -1])
def test_no_pairs_are_refused(pairs: int, scenes: Model, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"prompts is {pairs}; expected a whole number from 1 to 100000"):
        run("cohyponyms", scenes, out=tmp_path / "run", prompts=pairs)


@pytest.mark.filterwarnings("ignore:one prompt gives no interval")
def test_pairs_from_beginning_to_end(scenes: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("cohyponyms", scenes, out=tmp_path / "run", prompts=2, common={"steps": 2, "seed": 5})
    found, items = Finding.from_json(done.finding), done.items
    assert found.verdict == "inconclusive"  # two pairs are too few
    assert items["prompt"].tolist() == cohyponym_captions(2, 5)
    assert items["seed"].tolist() == [5, 5, 6, 6]  # both images of a pair have the same
    assert items["IoU of the nouns' maps"].between(0, 1).all()
    assert len(found.rows) == 3
    assert found.about.items() >= {"prompts": 4, "model": "studio/scenes", "steps": 2, "method": "daam"}.items()
    with Image.open(tmp_path / "run" / "figure.png") as figure:
        assert figure.width > 300
    monkeypatch.setattr(word_maps, "explain", lambda *given, **more: pytest.fail("an image was made"))
    again = run("cohyponyms", scenes, out=tmp_path / "run", prompts=2, common={"steps": 2, "seed": 5})
    assert (again.finding, again.items.equals(items)) == (done.finding, True)


@pytest.mark.filterwarnings("ignore:one prompt gives no interval")
def test_pairs_of_ones_own_need_a_second_caption_of_two_objects(scenes: Model, tmp_path: Path) -> None:
    one, other = "a red circle and a blue ring", "a red circle and a blue star"
    prompts = [
        {"prompt": one, "other": other},
        one,
        {"prompt": one, "other": "a red circle"},
        {"prompt": "two red circles", "other": other},
        {"prompt": "a zebra", "other": other},
    ]
    done = run("cohyponyms", scenes, out=tmp_path / "run", prompts=prompts, common={"steps": 1})
    assert (done.counts.ok, done.counts.invalid) == (1, 4)
    reasons = done.items.drop_duplicates("line").sort_values("row")["reason"].tolist()
    assert reasons[1] == "it has no column other; expected the second caption of the pair"
    assert (
        reasons[2]
        == reasons[3]
        == ("it does not name two objects of different shapes, each with a colour, as: a red circle and a blue square")
    )
