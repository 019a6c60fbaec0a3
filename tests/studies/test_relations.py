"""The study of relations: containment and turning signs on made-up maps, then four prompts from beginning to end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from sfumato.errors import RequestError, SfumatoWarning
from sfumato.mapped import Mapped
from sfumato.metrics.verdicts import LEAST
from sfumato.models.words import Word
from sfumato.runs.finding import Finding
from sfumato.studies.asking import TAUS
from sfumato.studies.parsing import Dependent, Parse
from sfumato.studies.relations import MEASURES, UNLINKED, study_relations
from sfumato.studio.scenes import held_out_captions
from tests.studies.made_up import MODEL, answered, by_word, covering, fading, made

CIRCLE = "a red circle"
FLAT = covering(0.45)
"""As large at every threshold, and overtaken by a fading map below the fifth of them."""


class Told:
    """A parser that says what a function of the prompt says."""

    name = "made up"

    def __init__(self, parse: Callable[[str], Parse]) -> None:
        self._parse = parse

    def __call__(self, prompt: str, words: Sequence[Word]) -> Parse:
        return self._parse(prompt)


def found_of(monkeypatch: pytest.MonkeyPatch, given: Sequence[Mapped], **more: Any) -> Finding:
    """What the study says of made-up images."""
    images = iter(given)
    answered(monkeypatch, "relations", lambda prompt, seed: next(images))
    return study_relations(MODEL, [one.request.prompt for one in given], **{"tagger": "lexicon"} | more)


def circles(a: Any, red: Any, circle: Any, count: int = LEAST) -> list[Mapped]:
    return [made(CIRCLE, [a, red, circle], seed=seed) for seed in range(count)]


def rows_of(found: Finding) -> dict[str, Any]:
    return {row["relation"]: row for row in found.rows}


@pytest.mark.usefixtures("undrawn")
def test_a_dependent_within_its_head_has_an_miod_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of(monkeypatch, circles(covering(0.1), covering(0.8), covering(0.5)))
    rows = rows_of(found)
    assert list(rows) == ["amod", "det", UNLINKED]
    assert rows["det"] == {
        "relation": "det",
        "mIoD": pytest.approx((1, 1, 1, 5)),
        "mIoH": pytest.approx((0.2, 0.2, 0.2, 5)),
        "mIoU": pytest.approx((0.2, 0.2, 0.2, 5)),
        "head larger at tau": "0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9",
        "dependent larger at tau": "",
    }
    assert rows["amod"]["mIoD"] == rows["amod"]["mIoU"] == pytest.approx((0.625, 0.625, 0.625, 5))
    assert str(rows["amod"]["mIoH"]) == "1.000 [1.000, 1.000] (n=5)"
    assert rows["amod"]["dependent larger at tau"].count(",") == 8
    assert str(rows[UNLINKED]["mIoU"]) == "0.125 [0.125, 0.125] (n=5)"  # "a" within "red"
    assert found.sentence == (
        "Between thresholds 0.1 and 0.9 the sign turns for no relation. Wherever one of the two maps is larger, it is "
        "the head's for det, the dependent's for amod. A word and its head overlap with an IoU of 0.412 [0.412, 0.412] "
        "(n=10) at 0.4, unlinked words of a prompt with 0.125 [0.125, 0.125] (n=5)."
    )
    assert found.verdict == "not replicated"
    item = found.items[0]
    assert (item["relation"], item["dependent"], item["head"]) == ("det", "a", "circle")
    assert [item[f"{name} at 0.4"] for name in MEASURES] == [1, 0.2, 0.2]


@pytest.mark.usefixtures("undrawn")
def test_a_sign_that_turns_with_the_threshold_makes_the_finding_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of(monkeypatch, circles(FLAT, FLAT, fading()))
    assert found.verdict == "replicated"
    assert rows_of(found)["amod"]["head larger at tau"] == "0.1, 0.2, 0.3, 0.4, 0.5"
    assert rows_of(found)["amod"]["dependent larger at tau"] == "0.6, 0.7, 0.8, 0.9"
    assert "the sign turns for amod, det." in found.sentence
    assert found_of(monkeypatch, circles(FLAT, FLAT, FLAT)).verdict == "inconclusive"
    larger = circles(covering(0.1), covering(0.8), covering(0.5))  # of each pair one map is larger at all thresholds
    assert found_of(monkeypatch, larger).verdict == "not replicated"


@pytest.mark.usefixtures("undrawn")
def test_an_interval_that_includes_no_difference_says_nothing_of_either(monkeypatch: pytest.MonkeyPatch) -> None:
    larger, smaller = circles(FLAT, FLAT, covering(0.9)), circles(FLAT, FLAT, covering(0.2))
    found = found_of(monkeypatch, [*larger[:3], *smaller[3:]])
    assert rows_of(found)["amod"]["head larger at tau"] == rows_of(found)["amod"]["dependent larger at tau"] == ""
    assert "it is the head's for no relation, the dependent's for no relation." in found.sentence


@pytest.mark.usefixtures("undrawn")
def test_too_few_pairs_are_shown_but_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of(monkeypatch, circles(FLAT, FLAT, fading(), count=LEAST - 1))
    assert found.verdict == "inconclusive"
    assert "the sign turns for no relation" in found.sentence
    assert rows_of(found)["amod"]["mIoU"].n == LEAST - 1
    assert rows_of(found)["amod"]["head larger at tau"] == ""


@pytest.mark.usefixtures("undrawn")
def test_many_pairs_of_one_image_are_one_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["one", "two", "three", "four", "five", "six", "head"]
    listed = Parse(("x",) * 7, tuple(Dependent(6, place, "list") for place in range(6)))
    nothing = Parse(("x",), ())
    parser = Told(lambda prompt: listed if prompt.endswith("head") else nothing)
    monkeypatch.setattr("sfumato.studies.relations.parser_of", lambda tagger, prompts: parser)
    given = [by_word(" ".join(words), {"head": fading()}, rest=FLAT), made("dog", [FLAT], seed=1)]
    with pytest.warns(SfumatoWarning, match="in 1 of 2 prompts"):
        found = found_of(monkeypatch, given)
    assert rows_of(found)["list"]["mIoU"].n == 6
    assert found.verdict == "inconclusive"
    again = [by_word(" ".join(words), {"head": fading()}, rest=FLAT, seed=seed) for seed in range(5)]
    assert found_of(monkeypatch, again).verdict == "replicated"


@pytest.mark.usefixtures("undrawn")
def test_only_words_of_a_parsed_prompt_are_known_to_be_unlinked(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [*circles(FLAT, FLAT, FLAT, count=2), made("a zebra and a cat", [FLAT] * 5, seed=2)]
    with pytest.warns(SfumatoWarning, match=r"in 1 of 3 prompts the tagger \(lexicon\) finds no word that depends on"):
        found = found_of(monkeypatch, given)
    assert found.about.items() >= {"prompts": 3, "prompts_without_heads": 1, "unknown_words": 1}.items()
    assert {item["prompt"] for item in found.items} == {CIRCLE}
    assert [item["relation"] for item in found.items] == ["det", "amod", UNLINKED] * 2
    pair = next(item for item in found.items if item["relation"] == UNLINKED)
    assert {pair["dependent"], pair["head"]} == {"a", "red"}


@pytest.mark.usefixtures("undrawn")
def test_a_prompt_of_linked_words_alone_has_nothing_to_compare_with(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Parse(("adj", "noun"), (Dependent(1, 0, "amod"),))
    monkeypatch.setattr("sfumato.studies.relations.parser_of", lambda tagger, prompts: Told(lambda prompt: both))
    found = found_of(monkeypatch, [made("red dog", [FLAT, FLAT], seed=seed) for seed in range(2)])
    assert list(rows_of(found)) == ["amod"]
    assert found.sentence.endswith("overlap with an IoU of 1.000 [1.000, 1.000] (n=2) at 0.4.")


@pytest.mark.usefixtures("undrawn")
def test_words_without_a_map_are_in_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of(monkeypatch, [made("a red circle, gray background", [FLAT] * 6, seed=s, cut=3) for s in range(2)])
    assert {item["relation"] for item in found.items} == {"det", "amod", UNLINKED}
    assert {item["head"] for item in found.items} == {"circle", "a"}
    # a map that marks nothing is in a pair that nobody can judge
    nothing = found_of(monkeypatch, circles(0 * FLAT, FLAT, FLAT))
    assert str(rows_of(nothing)["det"]["mIoU"]) == "nan [nan, nan] (n=0)"
    assert rows_of(nothing)["amod"]["mIoU"] == (1, 1, 1, 5)


@pytest.mark.usefixtures("undrawn")
def test_one_prompt_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = "a red ring left of a blue heart on the gray background"
    found = found_of(monkeypatch, [by_word(prompt, {"heart": fading(), "ring": fading()}, rest=FLAT)])
    assert found.verdict == "inconclusive"
    assert "the sign turns for no relation" in found.sentence
    assert {row["head larger at tau"] for row in found.rows} == {""}


@pytest.mark.parametrize("prompts", [["a dog", "two cats"], ["circle", "red"], ["a dog"]])
def test_prompts_in_which_nothing_is_parsed_are_refused(prompts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError) as failure:
        found_of(monkeypatch, [by_word(prompt, {}, rest=FLAT) for prompt in prompts])
    assert str(failure.value) == (
        "the tagger (lexicon) finds no word that depends on another; the lexicon knows the scenes' captions alone, for "
        "other prompts give a spaCy model with a parser: --tagger en_core_web_sm"
    )


def test_four_prompts_from_beginning_to_end(scenes: Any, nothing_is_made: Any) -> None:
    prompts = held_out_captions(4)
    found = study_relations(scenes, prompts, steps=2)
    counts = [len(scenes.tokens(prompt).words) for prompt in prompts]
    assert len(found.items) == sum(n * (n - 1) // 2 for n in counts)  # each pair once, linked or not
    linked = [item for item in found.items if item["relation"] != UNLINKED]
    assert len(linked) == sum(n - 1 for n in counts)
    columns = [f"{name} at {tau}" for tau in TAUS for name in MEASURES]
    for item in found.items:
        assert list(item) == ["prompt", "seed", "relation", "dependent", "head", *columns]
        values = np.array([item[name] for name in columns]).reshape(len(TAUS), 3)
        assert ((values >= 0) & (values <= 1)).all()
        assert (values[:, 2] <= values[:, :2].min(1) + 1e-5).all()  # IoU is the least of the three
    *names, last = [row["relation"] for row in found.rows]
    pairs = Counter(item["relation"] for item in found.items)
    assert last == UNLINKED
    assert names == sorted(pairs.keys() - {UNLINKED}, key=lambda name: (-pairs[name], name))
    assert found.about.items() >= {"prompts": 4, "tags": "lexicon", "pairs": len(found.items)}.items()
    assert found.figure.width > found.figure.height > 200
    nothing_is_made()
    again = study_relations(scenes, prompts, steps=2)
    assert (again.to_json(), list(again.items)) == (found.to_json(), list(found.items))
    json.loads(found.to_json())


def test_a_prompt_alone_is_warned_about(scenes: Any) -> None:
    with pytest.warns(SfumatoWarning, match="one prompt gives no interval"):
        assert study_relations(scenes, [CIRCLE], steps=2).verdict == "inconclusive"
