"""Sheets of how far an explanation can be trusted: any words, numbers that nobody knows, and one word or many."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from sfumato.plots.figures import LINES
from sfumato.plots.sheets import process_sheets
from sfumato.plots.trust import randomisation_sheet, removal_sheet, trust_sheet
from sfumato.report.page import page
from sfumato.results.explanation import Explanation
from tests.report.reading import Page
from tests.results import synthetic

HOSTILE = ["$x_1$", "$\\frac{$", "_left", "漢字", "😀", "<blink>&amp;", "%s", "x" * 3000]


def numbers(*verdicts: str, known: bool = True) -> xr.Dataset:
    count = len(verdicts)
    ends = np.tile([0.5, 0.4, 0.7], (count, 1)) if known else np.full((count, 3), np.nan)
    texts = {"check": "seeds", "what": "rank agreement by seed", "against": "random maps", "wanted": "above"}
    return xr.Dataset(
        {name: (("number", "end"), ends) for name in ("value", "control", "gain")}
        | {name: ("number", [text] * count) for name, text in texts.items()}
        | {"verdict": ("number", list(verdicts)), "n": ("number", np.arange(count))},
        coords={"end": ["mean", "low", "high"]},
    )


def removed(*words: str, own: float = 0.5, change: float = 0.5) -> xr.Dataset:
    count, rng = len(words), np.random.default_rng(0)
    return xr.Dataset(
        {
            "change": (("word", "y", "x"), rng.random((count, 16, 24)).astype(np.float32) * change),
            "map": (("word", "map_y", "map_x"), rng.random((count, 4, 6)).astype(np.float32)),
            "pixels": (("word", "y", "x", "channel"), rng.integers(0, 256, (count, 16, 24, 3), np.uint8)),
            "agreement": ("word", np.full(count, own)),
            "agreement_of_others": ("word", np.full(count, own / 2)),
            "agreement_of_centre": ("word", np.full(count, own / 3)),
        },
        coords={"word": ("word", list(words)), "channel": ["R", "G", "B"]},
    )


def randomised(*maps: str, stages: int = 4, likeness: float = 0.5) -> xr.Dataset:
    values = np.full((stages, len(maps)), likeness)
    return xr.Dataset(
        {
            "likeness": (("stage", "map"), values),
            "control": ("map", values[0]),
            "pixels": (("stage", "y", "x", "channel"), np.zeros((stages, 16, 24, 3), np.uint8)),
        },
        coords={"stage": list(range(stages)), "map": ("map", list(maps)), "channel": ["R", "G", "B"]},
        attrs={"blocks": 9},
    )


def made(**nodes: xr.Dataset) -> Explanation:
    return synthetic.explanation("red cat", size=(16, 24), grid=(4, 6), more=nodes)


def colours(sheet: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.asarray(sheet).reshape(-1, 3).tolist()}


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def test_every_number_has_a_line_in_the_colour_of_its_verdict() -> None:
    passed, failed = (trust_sheet(made(trust=numbers(verdict))) for verdict in ("passed", "failed"))
    assert rgb(LINES[2]) in colours(passed)
    assert rgb(LINES[2]) not in colours(failed)
    assert rgb(LINES[0]) in colours(failed)
    assert not {rgb(LINES[0]), rgb(LINES[2])} & colours(trust_sheet(made(trust=numbers("inconclusive"))))
    several = trust_sheet(made(trust=numbers("passed", "failed", "inconclusive", "passed")))
    assert several.height > passed.height + 200
    assert several.width == passed.width


def test_numbers_that_nobody_knows_are_not_drawn() -> None:
    sheet = trust_sheet(made(trust=numbers("inconclusive", "inconclusive", known=False)))
    assert min(sheet.size) > 100
    removal_sheet(made(removal=removed("red", own=float("nan"), change=0)))
    randomisation_sheet(made(randomisation=randomised("red", likeness=float("nan"))))


def test_more_words_make_a_wider_sheet() -> None:
    one, four = (removal_sheet(made(removal=removed(*words))) for words in (["red"], ["red", "cat", "dog", "left"]))
    assert four.width > 3 * one.width - 200
    assert four.height == one.height
    more = randomisation_sheet(made(randomisation=randomised("red", stages=8)))
    assert more.width > randomisation_sheet(made(randomisation=randomised("red", stages=3))).width


def test_nothing_is_cut_off_beside_a_single_word() -> None:
    edges = np.asarray(removal_sheet(made(removal=removed("red"))))[:, [0, -1]]
    assert (edges > 250).all()
    edges = np.asarray(trust_sheet(made(trust=numbers("inconclusive", "passed"))))[:, [0, -1]]
    assert (edges > 250).all()


def test_many_maps_have_no_legend() -> None:
    names = [f"lime, step {step}" for step in range(40)]
    some, many = (randomisation_sheet(made(randomisation=randomised(*names[:count]))) for count in (16, 40))
    assert some.size == many.size


def test_any_word_is_drawn_and_told_without_warnings() -> None:
    shares = np.full((2, len(HOSTILE)), 0.125)
    nodes: dict[str, Any] = {
        "removal": removed(*HOSTILE),
        "randomisation": randomised(*HOSTILE),
        "trust": numbers("passed", "failed"),
        "shares_by_seed": xr.Dataset({"share": (("seed", "word"), shares)}, coords={"seed": [7, 8], "word": HOSTILE}),
    }
    explanation = made(**nodes)
    sheets = process_sheets(explanation)
    assert set(sheets) == set(nodes) - {"shares_by_seed"}
    for draw in sheets.values():
        assert min(draw(explanation).size) > 100
    read = Page(page(explanation))
    assert read.broken == ""
    assert read.all("blink") == []
    rows = [row.text for row in read.all("tr")]
    for word in HOSTILE:
        assert f"{word}0.1250.125" in rows


def test_the_page_has_verdicts_beside_the_controls() -> None:
    read = Page(page(made(trust=numbers("passed", "inconclusive", known=False))))
    rows = [row.text for row in read.all("tr") if row.text.startswith("rank agreement by seed")]
    assert rows == [
        f"rank agreement by seed– [–, –]– [–, –]random maps{verdict}" for verdict in ("passed", "inconclusive")
    ]
    read = Page(page(made(trust=numbers("failed"), removal=removed("red"), randomisation=randomised("red"))))
    assert [row.text for row in read.all("tr") if row.text.endswith("failed")] == [
        "rank agreement by seed0.5 [0.4, 0.7]0.5 [0.4, 0.7]random mapsfailed"
    ]
    parts = [part.attrs["data-node"] for part in read.all("section", class_="part") if "data-node" in part.attrs]
    assert parts == ["words", "trust", "removal", "randomisation", "tokens"]  # whatever the order of the nodes
