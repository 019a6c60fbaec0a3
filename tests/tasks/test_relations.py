"""The task of relations: containment and turning signs on made-up maps, then four prompts from beginning to end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sfumato
from sfumato.errors import ModelError, RequestError, SfumatoWarning
from sfumato.metrics.verdicts import LEAST
from sfumato.models.model import Model
from sfumato.models.words import Word
from sfumato.runs.finding import Finding
from sfumato.runs.running import run
from sfumato.runs.task import Item, find_task
from sfumato.studio.scenes import held_out_captions
from sfumato.tasks import relations
from sfumato.tasks.relations import MEASURES, UNLINKED, pairs_record
from sfumato.tasks.shared import word_maps
from sfumato.tasks.shared.parsing import Dependent, Parse, Parser, parser_of
from sfumato.tasks.shared.word_maps import TAUS, Mapped, TaggedOptions
from tests.labels import tiny_labels
from tests.tasks.made_up import by_word, covering, fading, made, with_items

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


@pytest.fixture(scope="module")
def scenes() -> Model:
    """The embedded model."""
    return sfumato.load("studio/scenes")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is drawn."""
    monkeypatch.setattr(relations, "threshold_sheet", lambda *given, **more: Image.new("RGB", (4, 4)))


def found_of(given: Sequence[Mapped], parser: Parser | None = None) -> Finding:
    """What the task concludes from made-up images, with the rows of their pairs."""
    parser = parser or parser_of("lexicon", ())
    records = [
        (Item(one.request, {"tags": parser.name}), pairs_record(one, parser(one.request.prompt, one.words)))
        for one in given
    ]
    found = find_task("relations").parts.conclude(records, TaggedOptions(), {"model": "made up"})
    items = [{"prompt": item.request.prompt} | dict(row) for item, record in records for row in record.rows]
    return with_items(found, items)


def circles(a: Any, red: Any, circle: Any, count: int = LEAST) -> list[Mapped]:
    return [made(CIRCLE, [a, red, circle], seed=seed) for seed in range(count)]


def rows_of(found: Finding) -> dict[str, Any]:
    return {row["relation"]: row for row in found.rows}


@pytest.mark.usefixtures("undrawn")
def test_a_dependent_within_its_head_has_an_miod_of_one() -> None:
    found = found_of(circles(covering(0.1), covering(0.8), covering(0.5)))
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
def test_a_sign_that_turns_with_the_threshold_makes_the_finding_hold() -> None:
    found = found_of(circles(FLAT, FLAT, fading()))
    assert found.verdict == "replicated"
    assert rows_of(found)["amod"]["head larger at tau"] == "0.1, 0.2, 0.3, 0.4, 0.5"
    assert rows_of(found)["amod"]["dependent larger at tau"] == "0.6, 0.7, 0.8, 0.9"
    assert "the sign turns for amod, det." in found.sentence
    assert found_of(circles(FLAT, FLAT, FLAT)).verdict == "inconclusive"
    larger = circles(covering(0.1), covering(0.8), covering(0.5))  # of each pair one map is larger at all thresholds
    assert found_of(larger).verdict == "not replicated"


@pytest.mark.usefixtures("undrawn")
def test_an_interval_that_includes_no_difference_says_nothing_of_either() -> None:
    larger, smaller = circles(FLAT, FLAT, covering(0.9)), circles(FLAT, FLAT, covering(0.2))
    found = found_of([*larger[:3], *smaller[3:]])
    assert rows_of(found)["amod"]["head larger at tau"] == rows_of(found)["amod"]["dependent larger at tau"] == ""
    assert "it is the head's for no relation, the dependent's for no relation." in found.sentence


@pytest.mark.usefixtures("undrawn")
def test_too_few_pairs_are_shown_but_not_judged() -> None:
    found = found_of(circles(FLAT, FLAT, fading(), count=LEAST - 1))
    assert found.verdict == "inconclusive"
    assert "the sign turns for no relation" in found.sentence
    assert rows_of(found)["amod"]["mIoU"].n == LEAST - 1
    assert rows_of(found)["amod"]["head larger at tau"] == ""


@pytest.mark.usefixtures("undrawn")
def test_many_pairs_of_one_image_are_one_observation() -> None:
    words = ["one", "two", "three", "four", "five", "six", "head"]
    listed = Parse(("x",) * 7, tuple(Dependent(6, place, "list") for place in range(6)))
    nothing = Parse(("x",), ())
    parser = Told(lambda prompt: listed if prompt.endswith("head") else nothing)
    given = [by_word(" ".join(words), {"head": fading()}, rest=FLAT), made("dog", [FLAT], seed=1)]
    with pytest.warns(SfumatoWarning, match="in 1 of 2 prompts"):
        found = found_of(given, parser)
    assert rows_of(found)["list"]["mIoU"].n == 6
    assert found.verdict == "inconclusive"
    again = [by_word(" ".join(words), {"head": fading()}, rest=FLAT, seed=seed) for seed in range(5)]
    assert found_of(again, parser).verdict == "replicated"


@pytest.mark.usefixtures("undrawn")
def test_only_words_of_a_parsed_prompt_are_known_to_be_unlinked() -> None:
    given = [*circles(FLAT, FLAT, FLAT, count=2), made("a zebra and a cat", [FLAT] * 5, seed=2)]
    with pytest.warns(SfumatoWarning, match=r"in 1 of 3 prompts the tagger \(lexicon\) finds no word that depends on"):
        found = found_of(given)
    assert found.about.items() >= {"prompts": 3, "prompts_without_heads": 1, "unknown_words": 1}.items()
    assert {item["prompt"] for item in found.items} == {CIRCLE}
    assert [item["relation"] for item in found.items] == ["det", "amod", UNLINKED] * 2
    pair = next(item for item in found.items if item["relation"] == UNLINKED)
    assert {pair["dependent"], pair["head"]} == {"a", "red"}


@pytest.mark.usefixtures("undrawn")
def test_a_prompt_of_linked_words_alone_has_nothing_to_compare_with() -> None:
    both = Parse(("adj", "noun"), (Dependent(1, 0, "amod"),))
    given = [made("red dog", [FLAT, FLAT], seed=seed) for seed in range(2)]
    found = found_of(given, Told(lambda prompt: both))
    assert list(rows_of(found)) == ["amod"]
    assert found.sentence.endswith("overlap with an IoU of 1.000 [1.000, 1.000] (n=2) at 0.4.")


@pytest.mark.usefixtures("undrawn")
def test_words_without_a_map_are_in_no_pair() -> None:
    found = found_of([made("a red circle, gray background", [FLAT] * 6, seed=s, cut=3) for s in range(2)])
    assert {item["relation"] for item in found.items} == {"det", "amod", UNLINKED}
    assert {item["head"] for item in found.items} == {"circle", "a"}
    # a map that marks nothing is in a pair that nobody can judge
    nothing = found_of(circles(0 * FLAT, FLAT, FLAT))
    assert str(rows_of(nothing)["det"]["mIoU"]) == "nan [nan, nan] (n=0)"
    assert rows_of(nothing)["amod"]["mIoU"] == (1, 1, 1, 5)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings("ignore:one prompt gives no interval")
def test_one_prompt_shows_nothing() -> None:
    prompt = "a red ring left of a blue heart on the gray background"
    found = found_of([by_word(prompt, {"heart": fading(), "ring": fading()}, rest=FLAT)])
    assert found.verdict == "inconclusive"
    assert "the sign turns for no relation" in found.sentence
    assert {row["head larger at tau"] for row in found.rows} == {""}


@pytest.mark.usefixtures("undrawn")
def test_heads_that_the_model_did_not_see_show_nothing() -> None:
    found = found_of([made(CIRCLE, [FLAT] * 3, seed=seed, cut=2) for seed in range(LEAST)])
    assert (found.verdict, found.rows, found.about["prompts_without_heads"]) == ("inconclusive", [], 0)


@pytest.mark.parametrize("prompts", [["a dog", "two cats"], ["circle", "red"], ["a dog"]])
def test_prompts_in_which_nothing_is_parsed_are_refused(prompts: list[str], scenes: Model, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as failure:
        run("relations", scenes, out=tmp_path / "run", prompts=prompts, tagger="lexicon")
    assert str(failure.value) == (
        "the tagger (lexicon) finds no word that depends on another; the lexicon knows the scenes' captions alone, for "
        "other prompts give a spaCy model with a parser: --tagger en_core_web_sm"
    )
    assert not (tmp_path / "run").exists()


def test_four_prompts_from_beginning_to_end(scenes: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = held_out_captions(4)
    done = run("relations", scenes, out=tmp_path / "run", prompts=4, common={"steps": 2})
    found, items = Finding.from_json(done.finding), done.items
    counts = [len(scenes.tokens(prompt).words) for prompt in prompts]
    assert len(items) == sum(n * (n - 1) // 2 for n in counts)  # each pair once, linked or not
    assert (items["relation"] != UNLINKED).sum() == sum(n - 1 for n in counts)
    columns = [f"{name} at {tau}" for tau in TAUS for name in MEASURES]
    assert items.columns[-len(columns) - 3 :].tolist() == ["relation", "dependent", "head", *columns]
    values = items[columns].to_numpy().reshape(-1, len(TAUS), 3)
    assert ((values >= 0) & (values <= 1)).all()
    assert (values[:, :, 2] <= values[:, :, :2].min(2) + 1e-5).all()  # IoU is the least of the three
    *names, last = [row["relation"] for row in found.rows]
    pairs = Counter(items["relation"])
    assert last == UNLINKED
    assert names == sorted(pairs.keys() - {UNLINKED}, key=lambda name: (-pairs[name], name))
    assert found.about.items() >= {"prompts": 4, "tags": "lexicon", "pairs": len(items), "seeds": "0 to 3"}.items()
    with Image.open(tmp_path / "run" / "figure.png") as figure:
        assert figure.width > figure.height > 200
    monkeypatch.setattr(word_maps, "explain", lambda *given, **more: pytest.fail("an image was made"))
    again = run("relations", scenes, out=tmp_path / "run", prompts=4, common={"steps": 2})
    assert (again.finding, again.items.equals(items)) == (done.finding, True)
    json.loads((tmp_path / "run" / "finding.json").read_text())


def test_a_prompt_alone_is_warned_about(scenes: Model, tmp_path: Path) -> None:
    with pytest.warns(SfumatoWarning, match="one prompt gives no interval"):
        done = run("relations", scenes, out=tmp_path / "run", prompts=[CIRCLE], common={"steps": 2})
    assert done.finding["verdict"] == "inconclusive"


def test_a_model_that_reads_no_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="relations needs words, which"):
        run("relations", tiny_labels(), out=tmp_path / "run", prompts=[CIRCLE])
    assert not (tmp_path / "run").exists()
