"""The study of parts of speech: its sums on maps of known extent, then four prompts from beginning to end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from sfumato.errors import SfumatoWarning
from sfumato.mapped import Mapped
from sfumato.results.summary import TAU
from sfumato.runs.finding import Finding
from sfumato.studies.asking import TAUS
from sfumato.studies.pos import NAMES, study_pos
from sfumato.studio.scenes import held_out_captions
from tests.studies.made_up import MODEL, Maps, answered, by_word, covering, fading, made

PROMPT = "two red circles and the dog, gray background"  # num adj noun cconj det noun punct adj noun
EXPECTED = {"two": 0.1, "the": 0.2, "and": 0.6, ",": 0.7}
REST = covering(0.3)


def found_of(monkeypatch: pytest.MonkeyPatch, given: Sequence[Mapped], **more: Any) -> Finding:
    """What the study says of made-up images."""
    images = iter(given)
    answered(monkeypatch, "pos", lambda prompt, seed: next(images))
    return study_pos(MODEL, [one.request.prompt for one in given], tagger="lexicon", **more)


def covered(shares: dict[str, float], *, seeds: int = 5, prompt: str = PROMPT, **more: Any) -> list[Mapped]:
    maps = {word: covering(share) for word, share in shares.items()}
    return [by_word(prompt, maps, rest=REST, seed=seed, **more) for seed in range(seeds)]


@pytest.mark.usefixtures("undrawn")
def test_the_four_outliers_make_the_finding_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of(monkeypatch, covered(EXPECTED))
    assert found.verdict == "replicated"
    assert found.sentence == (
        "Against the other words of the same prompt a numeral covers -0.200 [-0.200, -0.200] (n=5) more of the image, "
        "a determiner covers -0.100 [-0.100, -0.100] (n=5) more of the image, a conjunction covers 0.300 [0.300, "
        "0.300] (n=5) more of the image, a punctuation mark covers 0.400 [0.400, 0.400] (n=5) more of the image. "
        "Numerals and determiners are both low at 9 of 9 thresholds (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), "
        "conjunctions and punctuation both high at 9 of 9 thresholds (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)."
    )
    rows = {row["part of speech"]: row for row in found.rows}
    assert list(rows) == ["nouns", "adjectives", "numerals", "determiners", "conjunctions", "punctuation"]
    assert str(rows["numerals"]["coverage"]) == "0.100 [0.100, 0.100] (n=5)"
    assert rows["numerals"]["in the source"] == "16 to 19%"
    assert str(rows["nouns"]["coverage"]) == "0.300 [0.300, 0.300] (n=15)"
    assert rows["nouns"]["more than other words"] is None
    assert rows["nouns"]["in the source"] == "28 to 32%"
    assert str(rows["conjunctions"]["more than other words"]) == "0.300 [0.300, 0.300] (n=5)"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("word", EXPECTED)
def test_each_of_the_four_is_needed(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of(monkeypatch, covered(EXPECTED | {word: 0.3}))
    assert found.verdict == "inconclusive"
    other = {"two": 0.5, "the": 0.5, "and": 0.2, ",": 0.2}[word]
    assert found_of(monkeypatch, covered(EXPECTED | {word: other})).verdict == "not replicated"
    low, high = ("0 of 9", "9 of 9") if word in ("two", "the") else ("9 of 9", "0 of 9")
    assert f"both low at {low} thresholds" in found.sentence
    assert f"both high at {high} thresholds" in found.sentence


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("word", "shares"), [("two", (0.0, 0.1, 0.4) * 2), ("and", (0.9, 0.3, 0.1) * 2)])
def test_an_interval_that_includes_no_difference_is_no_outlier(
    word: str, shares: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = {known: covering(share) for known, share in EXPECTED.items()}
    given = [by_word(PROMPT, maps | {word: covering(share)}, rest=REST, seed=seed) for seed, share in enumerate(shares)]
    assert found_of(monkeypatch, given).verdict == "inconclusive"


@pytest.mark.usefixtures("undrawn")
def test_an_outlier_at_some_thresholds_is_told_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # the numeral covers 90, 80, ... 10% from the lowest threshold to the highest, the others 30% at all of them
    maps = {"two": fading(), "the": covering(0.2), "and": covering(0.6), ",": covering(0.7)}
    found = found_of(monkeypatch, [by_word(PROMPT, maps, rest=REST, seed=seed) for seed in range(5)])
    assert "Numerals and determiners are both low at 2 of 9 thresholds (0.8, 0.9)" in found.sentence
    assert found.verdict == "not replicated"  # at 0.4 it covers more
    items = [item for item in found.items if item["word"] == "two"]
    for tau in TAUS:
        assert items[0][f"coverage at {tau}"] == pytest.approx(1 - tau), tau


@pytest.mark.usefixtures("undrawn")
def test_parts_of_speech_are_compared_within_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    # numerals are lower than their neighbours in each prompt, though higher than other prompts' words
    low = by_word("two circles", {"two": covering(0.1)}, rest=covering(0.2))
    high = by_word("two circles", {"two": covering(0.6)}, rest=covering(0.7), seed=1)
    found = found_of(monkeypatch, [low, high])
    assert "a numeral covers -0.100 [-0.100, -0.100] (n=2) more" in found.sentence


@pytest.mark.usefixtures("undrawn")
def test_one_prompt_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of(monkeypatch, covered(EXPECTED, seeds=1))
    assert found.verdict == "inconclusive"
    assert "both low at 0 of 9 thresholds" in found.sentence
    # nor do many, where only one of them has any of the four
    plain = [made("a dog", [covering(0.2), REST], seed=seed) for seed in range(1, 5)]
    assert found_of(monkeypatch, [*covered(EXPECTED, seeds=1), *plain]).verdict == "inconclusive"


@pytest.mark.usefixtures("undrawn")
def test_parts_of_speech_that_no_prompt_has_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    no_numeral = covered({"the": 0.1, "and": 0.6, ",": 0.7}, prompt="the red dog and the cat, gray background")
    found = found_of(monkeypatch, no_numeral)
    assert found.verdict == "inconclusive"
    assert "a numeral covers" not in found.sentence
    assert "numerals" not in [row["part of speech"] for row in found.rows]
    none = found_of(monkeypatch, covered({}, prompt="red dog"))
    assert none.sentence.startswith("No prompt has any of the four. Numerals and determiners are both low at 0 of 9")
    only = found_of(monkeypatch, covered({}, prompt="two"))  # nothing else to compare it with
    assert "a numeral covers nan [nan, nan] (n=0) more" in only.sentence
    assert only.verdict == "inconclusive"


@pytest.mark.usefixtures("undrawn")
def test_words_that_the_model_did_not_see_are_counted_but_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of(monkeypatch, covered(EXPECTED, cut=3))
    assert found.about["words_cut_off"] == 5 * 3
    assert found.about["words"] == len(found.items) == 5 * 6
    assert {item["word"] for item in found.items}.isdisjoint({",", "gray", "background"})
    assert found.verdict == "inconclusive"  # without punctuation


@pytest.mark.usefixtures("undrawn")
def test_words_outside_the_lexicon_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of(monkeypatch, covered(EXPECTED, prompt="two zebras and the okapi, gray background"))
    assert found.about["unknown_words"] == 10
    assert found.about["tags"] == "lexicon"
    assert {item["word"] for item in found.items if item["pos"] == "x"} == {"zebras", "okapi"}
    (row,) = [row for row in found.rows if row["part of speech"] == "unknown words"]
    assert row["in the source"] == ""


@pytest.mark.usefixtures("undrawn")
def test_a_map_of_nothing_covers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps: list[Maps] = [0 * REST, REST, REST]
    found = found_of(monkeypatch, [made("two red circles", maps, seed=seed) for seed in range(2)])
    assert [item[f"coverage at {TAU}"] for item in found.items if item["word"] == "two"] == [0, 0]


def test_four_prompts_from_beginning_to_end(scenes: Any, nothing_is_made: Any) -> None:
    prompts = held_out_captions(4)
    found = study_pos(scenes, prompts, steps=2, seed=5)
    words = [word for prompt in prompts for word in scenes.tokens(prompt).words]
    assert [item["word"] for item in found.items] == [word.text for word in words]
    assert [item["pos"] for item in found.items] == [word.pos for word in words]
    assert {item["seed"] for item in found.items} == {5, 6, 7, 8}
    taus = [f"coverage at {tau}" for tau in TAUS]
    for item in found.items:
        assert list(item) == ["prompt", "seed", "place", "word", "pos", *taus]
        shares = [item[name] for name in taus]
        assert shares == sorted(shares, reverse=True)  # a higher threshold leaves less
        assert 0 < shares[-1] <= shares[0] <= 1
    assert [row["part of speech"] for row in found.rows] == [
        NAMES[tag] for tag in NAMES if tag in {word.pos for word in words}
    ]
    assert found.about.items() >= {"model": "studio/scenes", "prompts": 4, "seeds": "5 to 8", "steps": 2}.items()
    assert found.about.items() >= {"method": "daam", "tags": "lexicon", "words": len(words), "words_cut_off": 0}.items()
    assert found.figure.width > found.figure.height > 200
    nothing_is_made()
    again = study_pos(scenes, prompts, steps=2, seed=5)
    assert (again.to_json(), list(again.items)) == (found.to_json(), list(found.items))
    json.loads(found.to_json())


def test_a_prompt_alone_is_warned_about(scenes: Any) -> None:
    with pytest.warns(SfumatoWarning, match="one prompt gives no interval"):
        found = study_pos(scenes, ["two red circles, gray background"], steps=2, tagger="lexicon")
    assert found.verdict == "inconclusive"
    assert found.about["prompts"] == 1
