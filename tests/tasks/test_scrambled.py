"""The task of scrambled prompts: its captions, its scores of perfect maps and masks, then a run to the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.models.model import Model
from sfumato.results.hard_maps import TAU
from sfumato.runs.finding import Finding
from sfumato.runs.running import run
from sfumato.runs.task import Item, find_task
from sfumato.studio.grammar import OUTER_SHAPES, RELATIONS, ScenePlan, caption_of, held_out, parsed
from sfumato.studio.reader import masks_of_words, read
from sfumato.studio.scenes import SHAPES, SIZE, scene_of, scene_plan
from sfumato.studio.segmenter import CLASSES, class_map, shape_probabilities
from sfumato.tasks import scrambled
from sfumato.tasks.scrambled import (
    HALF,
    SEGMENTER,
    SET,
    SETS,
    TAUS,
    captions_of_sets,
    scrambled_captions,
    trained_captions,
    words_record,
)
from sfumato.tasks.shared import word_maps
from sfumato.tasks.shared.captions import relation_captions
from sfumato.tasks.shared.word_maps import Mapped, WordMapOptions
from tests.tasks.made_up import blank, made, with_items

MAPS = f"daam {TAU}"
SEEDS = st.integers(0, 10**4)
HELD_OUT = relation_captions(30)


def training_may_say(drawn: ScenePlan) -> bool:
    """Whether the generator of training scenes can draw such a caption of two objects and a relation."""
    first, second = drawn.groups
    return (
        drawn.relation in RELATIONS
        and all(group.size is None and group.texture is None and group.count == 1 for group in drawn.groups)
        and first.colour != second.colour
        and (drawn.relation != "inside" or second.shape in OUTER_SHAPES)
    )


@given(st.integers(0, 2**32))
def test_the_generator_says_no_more_of_two_objects(seed: int) -> None:
    drawn = scene_plan(seed)
    assert drawn.kind != "relation" or training_may_say(drawn)


@given(st.integers(1, 30), SEEDS)
@settings(max_examples=25)
def test_scrambled_captions_are_what_training_never_says(count: int, seed: int) -> None:
    captions = scrambled_captions(count, seed)
    assert len(captions) == count
    for number, caption in enumerate(captions):
        drawn = parsed(caption)
        assert caption_of(drawn) == caption
        assert not training_may_say(drawn), caption
        first, second = drawn.groups
        assert drawn.kind == "relation"
        if number % 3 == 0:
            assert first.size
            assert second.size
        if second.size is None and drawn.relation != "inside":
            assert first.colour == second.colour
            assert first.shape != second.shape  # so that the reader can tell them apart
            assert drawn.relation != "touching"
    assert scrambled_captions(count, seed) == captions
    assert scrambled_captions(count + 4, seed)[:count] == captions


@given(st.integers(1, 30), SEEDS)
@settings(max_examples=25)
def test_trained_captions_are_those_of_training_and_of_no_other_set(count: int, seed: int) -> None:
    captions = trained_captions(count, seed)
    assert len(set(captions)) == count
    assert all(training_may_say(parsed(caption)) and not held_out(caption) for caption in captions)
    other = HELD_OUT[:count]
    assert all(training_may_say(parsed(caption)) and held_out(caption) for caption in other)
    changed = set(scrambled_captions(count, seed))
    assert len({*captions, *other, *changed}) == 2 * count + len(changed)


def test_another_seed_is_another_choice() -> None:
    assert not set(trained_captions(20, 1)) & set(trained_captions(20, 2))
    assert all(isinstance(caption, str) for caption in trained_captions(3, 0))


def in_sight(caption: str, seed: int) -> Any:
    """A scene of the caption's two objects; beside one another where the one has no room in the other."""
    said = parsed(caption)
    inside = said.relation == "inside" and said.groups[1].shape not in OUTER_SHAPES
    return scene_of(caption_of(replace(said, relation="left of")) if inside else caption, seed)


@pytest.fixture(scope="module")
def scenes() -> Model:
    """The embedded model."""
    return sfumato.load("studio/scenes")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is drawn."""
    for sheet in ("panels_sheet", "examples_sheet"):
        monkeypatch.setattr(scrambled, sheet, lambda *given, **more: Image.new("RGB", (4, 4)))


Segmenter = Callable[[str, Mapped], NDArray[np.float32]]


def knowing(caption: str, one: Mapped) -> NDArray[np.float32]:
    """A segmenter that is sure of the true class of every pixel."""
    classes = class_map(in_sight(caption, one.request.seed))
    return (classes == np.arange(len(CLASSES))[:, None, None]).astype(np.float32)


def shipped(caption: str, one: Mapped) -> NDArray[np.float32]:
    return shape_probabilities([one.image])[0]


def perfect(caption: str, seed: int) -> Mapped:
    """A drawn scene with the reader's masks as maps."""
    scene = in_sight(caption, seed)
    _, masks, _ = masks_of_words(caption, read(scene.image))
    return made(caption, list(masks.astype(np.float32)), seed=seed, image=scene.image)


def found_of(prompts: int, segmenter: Segmenter, answer: Callable[[str, int], Mapped] = perfect) -> Finding:
    """What the task concludes from made-up images of so many captions of each set, with the rows of their words."""
    records = []
    for row in captions_of_sets(prompts, 0):
        one = answer(row["prompt"], row["seed"])
        item = Item(one.request, {SET: row[SET]} | ({"shown": True} if row[SET] == SETS[2] else {}))
        records.append((item, words_record(one, segmenter(row["prompt"], one), "daam", shown=row[SET] == SETS[2])))
    found = find_task("scrambled").parts.conclude(records, WordMapOptions(), {"model": "made up"})
    items = [
        {"set": item.about[SET], "prompt": item.request.prompt} | dict(row)
        for item, record in records
        for row in record.rows
    ]
    return with_items(found, items)


def number(row: dict[str, Any], column: str) -> float:
    return float(row[column].mean)


@pytest.mark.usefixtures("undrawn")
def test_perfect_masks_score_one_on_nouns_and_nothing_on_other_words() -> None:
    found = found_of(4, knowing)
    rows = {(row["prompts"], row["map"]): row for row in found.rows}
    maps = [*(f"daam {tau}" for tau in TAUS), SEGMENTER, HALF]
    assert set(rows) == {(name, which) for name in SETS for which in maps}
    for name in SETS:
        assert number(rows[name, SEGMENTER], "mIoU, nouns") > 0.8
        assert number(rows[name, SEGMENTER], "AP, nouns") > 0.8
        for tau in TAUS:
            assert number(rows[name, f"daam {tau}"], "mIoU, nouns") == 1
            assert number(rows[name, f"daam {tau}"], "mIoU, all words") == 1
            assert number(rows[name, f"daam {tau}"], "AP, all words") == 1
        assert number(rows[name, HALF], "mIoU, nouns") < 0.5
        assert rows[name, HALF]["AP, nouns"] is None
    for item in found.items:
        if item["closed vocabulary"] and len({group.shape for group in parsed(item["prompt"]).groups}) == 2:
            assert item[SEGMENTER] > 0.9  # the reader's masks against the drawn ones
            assert item[f"AP of {SEGMENTER}"] > 0.9
    others = [item for item in found.items if not item["closed vocabulary"]]
    assert {item["word"] for item in found.items if item["closed vocabulary"]} <= set(SHAPES)
    assert {item["word"] for item in others}.isdisjoint(CLASSES)
    assert {item[SEGMENTER] for item in others} == {0}
    for item in others:  # which is what a map that is the same everywhere has
        assert 0 < item[f"AP of {SEGMENTER}"] < 0.5
    for name in SETS:
        chosen = [item for item in found.items if item["set"] == name]
        share = np.mean([item["closed vocabulary"] for item in chosen])
        assert number(rows[name, SEGMENTER], "mIoU, all words") == pytest.approx(
            share * number(rows[name, SEGMENTER], "mIoU, nouns"), abs=2e-3
        )
    assert found.verdict == "not replicated"  # the segmenter does not win
    assert len({(item["set"], item["prompt"]) for item in found.items}) == 12
    assert {item["word"] for item in found.items}.isdisjoint({"a", "inside", "left", "background"})


@pytest.mark.usefixtures("undrawn")
def test_the_shipped_segmenter_knows_the_nouns_of_drawn_scenes() -> None:
    found = found_of(4, shipped)
    rows = {row["prompts"]: row for row in found.rows if row["map"] == SEGMENTER}
    assert number(rows["as trained"], "mIoU, nouns") > 0.85
    assert number(rows["held out"], "mIoU, nouns") > 0.85
    assert number(rows["as trained"], "mIoU, all words") < 0.6


def scored(name: str, words: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """Items of five prompts of a set: of each word, what the segmenter and the map score."""
    return [
        {
            "set": name,
            "prompt": f"{name} {seed}",
            "seed": seed,
            "word": word,
            "closed vocabulary": word == "star",
            SEGMENTER: segmenter,
            MAPS: maps,
        }
        for seed in range(5)
        for word, (segmenter, maps) in words.items()
    ]


@pytest.mark.parametrize(
    ("trained", "changed", "verdict"),
    [
        ((0.9, 0.5), (0.8, 0.6), "replicated"),
        ((0.5, 0.9), (0.4, 0.95), "inconclusive"),  # the maps win on nouns of two sets of three
        ((0.9, 0.5), (0.95, 0.6), "not replicated"),  # the segmenter gets better on scrambled prompts
        ((0.9, 0.5), (0.8, 0.4), "not replicated"),  # the maps get worse
        ((0.9, 0.5), (0.9, 0.5), "inconclusive"),  # nothing moves
    ],
)
def test_all_four_comparisons_are_needed(
    trained: tuple[float, float], changed: tuple[float, float], verdict: str
) -> None:
    items = [
        *scored("as trained", {"star": trained, "red": (0.0, 0.6)}),
        *scored("held out", {"star": (0.9, 0.5), "red": (0.0, 0.6)}),
        *scored("scrambled", {"star": changed, "red": (0.0, 0.6)}),
    ]
    sentence, found = scrambled._compared(items, MAPS)
    assert found == verdict
    assert f"the segmenter's mIoU on nouns moves by {changed[0] - trained[0]:.3f} [" in sentence
    assert f"that of {MAPS} by {changed[1] - trained[1]:.3f} [" in sentence
    closed = [item for item in items if item["closed vocabulary"]]
    assert f"On nouns the segmenter's mIoU is {np.mean([i[SEGMENTER] - i[MAPS] for i in closed]):.3f} [" in sentence
    assert f"on all words {np.mean([item[SEGMENTER] - item[MAPS] for item in items]):.3f} [" in sentence


def test_the_maps_must_win_where_any_word_counts() -> None:
    items = [
        *scored("as trained", {"star": (0.9, 0.5), "red": (0.0, 0.1)}),
        *scored("scrambled", {"star": (0.8, 0.6), "red": (0.0, 0.1)}),
    ]
    assert scrambled._compared(items, MAPS)[1] == "not replicated"


@pytest.mark.usefixtures("undrawn")
def test_one_prompt_of_each_set_shows_nothing() -> None:
    found = found_of(1, knowing)
    assert found.verdict == "inconclusive"
    assert "[nan, nan]" in found.sentence


@pytest.mark.usefixtures("undrawn")
def test_images_in_which_no_object_is_found_say_nothing() -> None:
    found = found_of(2, lambda caption, one: np.zeros((len(CLASSES), SIZE, SIZE), np.float32), blank)
    assert "the images show none of the prompts' objects, so nothing can be scored" in found.sentence.lower()
    assert (found.verdict, found.rows, found.about["words"]) == ("inconclusive", [], 0)


def test_more_prompts_than_there_are_and_none_are_refused_at_once(scenes: Model, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no more than 2038 held-out captions of the kind relation, and"):
        run("scrambled", scenes, out=tmp_path / "run", prompts=10**5)
    with pytest.raises(OptionError, match="prompts is 0; expected a whole number from 1 to 100000"):
        run("scrambled", scenes, out=tmp_path / "run", prompts=0)
    assert not list(tmp_path.iterdir())


def test_a_model_of_other_images_is_refused(tiny_sd: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="scrambled reads what the images show, which works for the scenes alone"):
        run("scrambled", tiny_sd(), out=tmp_path / "run", prompts=1)
    assert not list(tmp_path.iterdir())


def test_two_prompts_of_each_set_from_beginning_to_end(
    scenes: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = {"steps": 3, "seed": 1}
    done = run("scrambled", scenes, out=tmp_path / "run", prompts=2, common=common)
    found, items = Finding.from_json(done.finding), done.items.dropna(subset=["word"])
    captions = [*trained_captions(2, 1), *relation_captions(2), *scrambled_captions(2, 1)]
    asked = set(zip([n for n in SETS for _ in range(2)], captions, strict=True))
    assert set(zip(items["set"], items["prompt"], strict=True)) <= asked
    assert set(items["seed"]) <= {1, 2}
    maps = [*(f"daam {tau}" for tau in TAUS), SEGMENTER, HALF]
    columns = [*maps, "AP of daam", f"AP of {SEGMENTER}"]
    assert items.columns[-len(columns) - 2 :].tolist() == ["word", "closed vocabulary", *columns]
    assert ((items[columns] >= 0) & (items[columns] <= 1)).all(axis=None)
    assert [(row["prompts"], row["map"]) for row in found.rows] == [(name, which) for name in SETS for which in maps]
    told = {"model": "studio/scenes", "prompts": 6, "seeds": "1 to 2", "steps": 3, "words": len(items)}
    assert found.about.items() >= told.items()
    with Image.open(tmp_path / "run" / "figure.png") as figure:
        assert figure.width > 1000
    monkeypatch.setattr(word_maps, "explain", lambda *given, **more: pytest.fail("an image was made"))
    again = run("scrambled", scenes, out=tmp_path / "run", prompts=2, common=common)
    assert again.finding == done.finding
    json.loads((tmp_path / "run" / "finding.json").read_text())


def test_prompts_of_ones_own_name_their_set(scenes: Model, tmp_path: Path) -> None:
    caption = "a red circle left of a blue square"
    prompts = [{"prompt": caption, "set": "held out"}, {"prompt": caption, "set": "mine"}, caption]
    done = run("scrambled", scenes, out=tmp_path / "run", prompts=prompts, common={"steps": 1})
    assert (done.counts.ok, done.counts.invalid) == (1, 2)
    reasons = set(done.items["reason"].dropna()) - {""}
    assert reasons == {
        "its column set does not name a set of prompts; expected one of: as trained, held out, scrambled"
    }
