"""The task of parts of speech: its sums on maps of known extent, then four prompts from beginning to end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sfumato
from sfumato.errors import ModelError, OptionError, SfumatoError, SfumatoWarning
from sfumato.models.model import Model
from sfumato.results.hard_maps import TAU
from sfumato.runs.finding import Finding
from sfumato.runs.running import run
from sfumato.runs.task import Item, Record, find_task
from sfumato.studio.scenes import held_out_captions
from sfumato.tasks import parts_of_speech
from sfumato.tasks.parts_of_speech import CLAIM, NAMES, word_record
from sfumato.tasks.shared import word_maps
from sfumato.tasks.shared.parsing import parser_of
from sfumato.tasks.shared.word_maps import TAUS, Mapped, TaggedOptions
from tests.labels import tiny_labels
from tests.tasks.made_up import Maps, by_word, covering, fading, made, with_items

PROMPT = "two red circles and the dog, gray background"  # num adj noun cconj det noun punct adj noun
EXPECTED = {"two": 0.1, "the": 0.2, "and": 0.6, ",": 0.7}
REST = covering(0.3)


@pytest.fixture(scope="module")
def scenes() -> Model:
    """The embedded model."""
    return sfumato.load("studio/scenes")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is drawn."""
    monkeypatch.setattr(parts_of_speech, "threshold_sheet", lambda *given, **more: Image.new("RGB", (4, 4)))


def records_of(given: Sequence[Mapped]) -> list[tuple[Item, Record]]:
    """What is recorded of images."""
    parser = parser_of("lexicon", ())
    return [(Item(one.request, {"tags": parser.name}), word_record(one, parser)) for one in given]


def found_of(given: Sequence[Mapped]) -> Finding:
    """What the task concludes from made-up images, with the rows of their words."""
    records = records_of(given)
    found = find_task("parts_of_speech").parts.conclude(records, TaggedOptions(), {"model": "made up"})
    return with_items(found, [dict(row) for _, record in records for row in record.rows])


def covered(shares: dict[str, float], *, seeds: int = 5, prompt: str = PROMPT, **more: Any) -> list[Mapped]:
    maps = {word: covering(share) for word, share in shares.items()}
    return [by_word(prompt, maps, rest=REST, seed=seed, **more) for seed in range(seeds)]


@pytest.mark.usefixtures("undrawn")
def test_the_four_outliers_make_the_finding_hold() -> None:
    found = found_of(covered(EXPECTED))
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
    assert rows["numerals"]["in the paper"] == "16 to 19%"
    assert str(rows["nouns"]["coverage"]) == "0.300 [0.300, 0.300] (n=15)"
    assert rows["nouns"]["more than other words"] is None
    assert rows["nouns"]["in the paper"] == "28 to 32%"
    assert str(rows["conjunctions"]["more than other words"]) == "0.300 [0.300, 0.300] (n=5)"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("word", EXPECTED)
def test_each_of_the_four_is_needed(word: str) -> None:
    found = found_of(covered(EXPECTED | {word: 0.3}))
    assert found.verdict == "inconclusive"
    other = {"two": 0.5, "the": 0.5, "and": 0.2, ",": 0.2}[word]
    assert found_of(covered(EXPECTED | {word: other})).verdict == "not replicated"
    low, high = ("0 of 9", "9 of 9") if word in ("two", "the") else ("9 of 9", "0 of 9")
    assert f"both low at {low} thresholds" in found.sentence
    assert f"both high at {high} thresholds" in found.sentence


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("word", "shares"), [("two", (0.0, 0.1, 0.4) * 2), ("and", (0.9, 0.3, 0.1) * 2)])
def test_an_interval_that_includes_no_difference_is_no_outlier(word: str, shares: tuple[float, ...]) -> None:
    maps = {known: covering(share) for known, share in EXPECTED.items()}
    given = [by_word(PROMPT, maps | {word: covering(share)}, rest=REST, seed=seed) for seed, share in enumerate(shares)]
    assert found_of(given).verdict == "inconclusive"


@pytest.mark.usefixtures("undrawn")
def test_an_outlier_at_some_thresholds_is_told_with_them() -> None:
    # the numeral covers 90, 80, ... 10% from the lowest threshold to the highest, the others 30% at all of them
    maps = {"two": fading(), "the": covering(0.2), "and": covering(0.6), ",": covering(0.7)}
    found = found_of([by_word(PROMPT, maps, rest=REST, seed=seed) for seed in range(5)])
    assert "Numerals and determiners are both low at 2 of 9 thresholds (0.8, 0.9)" in found.sentence
    assert found.verdict == "not replicated"  # at 0.4 it covers more
    items = [item for item in found.items if item["word"] == "two"]
    for tau in TAUS:
        assert items[0][f"coverage at {tau}"] == pytest.approx(1 - tau), tau


@pytest.mark.usefixtures("undrawn")
def test_parts_of_speech_are_compared_within_a_prompt() -> None:
    # numerals are lower than their neighbours in each prompt, though higher than other prompts' words
    low = by_word("two circles", {"two": covering(0.1)}, rest=covering(0.2))
    high = by_word("two circles", {"two": covering(0.6)}, rest=covering(0.7), seed=1)
    found = found_of([low, high])
    assert "a numeral covers -0.100 [-0.100, -0.100] (n=2) more" in found.sentence


@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings("ignore:one prompt gives no interval")
def test_one_prompt_shows_nothing() -> None:
    found = found_of(covered(EXPECTED, seeds=1))
    assert found.verdict == "inconclusive"
    assert "both low at 0 of 9 thresholds" in found.sentence
    # nor do many, where only one of them has any of the four
    plain = [made("a dog", [covering(0.2), REST], seed=seed) for seed in range(1, 5)]
    assert found_of([*covered(EXPECTED, seeds=1), *plain]).verdict == "inconclusive"


@pytest.mark.usefixtures("undrawn")
def test_parts_of_speech_that_no_prompt_has_are_left_out() -> None:
    no_numeral = covered({"the": 0.1, "and": 0.6, ",": 0.7}, prompt="the red dog and the cat, gray background")
    found = found_of(no_numeral)
    assert found.verdict == "inconclusive"
    assert "a numeral covers" not in found.sentence
    assert "numerals" not in [row["part of speech"] for row in found.rows]
    none = found_of(covered({}, prompt="red dog"))
    assert none.sentence.startswith("No prompt has any of the four. Numerals and determiners are both low at 0 of 9")
    only = found_of(covered({}, prompt="two"))  # nothing else to compare it with
    assert "a numeral covers nan [nan, nan] (n=0) more" in only.sentence
    assert only.verdict == "inconclusive"


@pytest.mark.usefixtures("undrawn")
def test_words_that_the_model_did_not_see_are_counted_but_not_measured() -> None:
    found = found_of(covered(EXPECTED, cut=3))
    assert found.about["words_cut_off"] == 5 * 3
    assert found.about["words"] == len(found.items) == 5 * 6
    assert {item["word"] for item in found.items}.isdisjoint({",", "gray", "background"})
    assert found.verdict == "inconclusive"  # without punctuation


@pytest.mark.usefixtures("undrawn")
def test_words_outside_the_lexicon_are_counted() -> None:
    found = found_of(covered(EXPECTED, prompt="two zebras and the okapi, gray background"))
    assert found.about["unknown_words"] == 10
    assert found.about["tags"] == "lexicon"
    assert {item["word"] for item in found.items if item["pos"] == "x"} == {"zebras", "okapi"}
    (row,) = [row for row in found.rows if row["part of speech"] == "unknown words"]
    assert row["in the paper"] == ""


@pytest.mark.usefixtures("undrawn")
def test_a_map_of_nothing_covers_nothing() -> None:
    maps: list[Maps] = [0 * REST, REST, REST]
    found = found_of([made("two red circles", maps, seed=seed) for seed in range(2)])
    assert [item[f"coverage at {TAU}"] for item in found.items if item["word"] == "two"] == [0, 0]


def test_four_prompts_from_beginning_to_end(scenes: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = held_out_captions(4)
    done = run("parts_of_speech", scenes, out=tmp_path / "run", prompts=4, common={"steps": 2, "seed": 5})
    found, items = Finding.from_json(done.finding), done.items
    words = [word for prompt in prompts for word in scenes.tokens(prompt).words]
    assert items["word"].tolist() == [word.text for word in words]
    assert items["pos"].tolist() == [word.pos for word in words]
    assert set(items["seed"]) == {5, 6, 7, 8}
    taus = [f"coverage at {tau}" for tau in TAUS]
    for shares in items[taus].values.tolist():
        assert shares == sorted(shares, reverse=True)  # a higher threshold leaves less
        assert 0 < shares[-1] <= shares[0] <= 1
    assert [row["part of speech"] for row in found.rows] == [
        NAMES[tag] for tag in NAMES if tag in {word.pos for word in words}
    ]
    assert found.source == CLAIM.text
    assert found.about.items() >= {"model": "studio/scenes", "prompts": 4, "seeds": "5 to 8", "steps": 2}.items()
    assert found.about.items() >= {"method": "daam", "tags": "lexicon", "words": len(words), "words_cut_off": 0}.items()
    with Image.open(tmp_path / "run" / "figure.png") as figure:
        assert figure.width > figure.height > 200
    monkeypatch.setattr(word_maps, "explain", lambda *given, **more: pytest.fail("an image was made"))
    again = run("parts_of_speech", scenes, out=tmp_path / "run", prompts=4, common={"steps": 2, "seed": 5})
    assert (again.finding, again.items.equals(items)) == (done.finding, True)
    json.loads((tmp_path / "run" / "finding.json").read_text())


def test_a_prompt_alone_is_warned_about(scenes: Model, tmp_path: Path) -> None:
    prompts = ["two red circles, gray background"]
    with pytest.warns(SfumatoWarning, match="one prompt gives no interval"):
        done = run("parts_of_speech", scenes, out=tmp_path, prompts=prompts, common={"steps": 2}, tagger="lexicon")
    assert done.finding["verdict"] == "inconclusive"
    assert done.finding["about"]["prompts"] == 1


def test_all_prompts_decide_on_the_tagger_and_rows_keep_their_order(
    scenes: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, tuple[str, ...]]] = []

    def tagger_for(tagger: str, prompts: Sequence[str]) -> str:
        seen.append((tagger, tuple(prompts)))
        return "lexicon"

    monkeypatch.setattr(word_maps, "tagger_for", tagger_for)
    prompts = ["a red circle", {"prompt": "a dog", "steps": "many"}, "two stars"]
    done = run("parts_of_speech", scenes, out=tmp_path, prompts=prompts, common={"steps": 1})
    assert set(seen) == {("auto", ("a red circle", "two stars"))}
    assert (done.counts.ok, done.counts.invalid) == (2, 1)
    states = done.items.drop_duplicates("line").sort_values("row")
    assert states["line"].tolist() == [1, 2, 3]
    assert states["state"].tolist() == ["ok", "invalid", "ok"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tagger": "en_nowhere"}, OptionError, "no spaCy model 'en_nowhere' is installed|spaCy is not installed"),
        ({"method": "magic"}, SfumatoError, "there is no method 'magic'"),
        ({"method": "i2am"}, ModelError, "i2am needs reference"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing(
    scenes: Model, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run("parts_of_speech", scenes, out=tmp_path / "run", prompts=["a red circle"], **options)
    assert not (tmp_path / "run").exists()


def test_a_model_that_reads_no_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="parts_of_speech needs words, which"):
        run("parts_of_speech", tiny_labels(), out=tmp_path / "run", prompts=["a red circle"])
    assert not (tmp_path / "run").exists()
