"""Sheets of the saliency of steps and of the games, and their sections of the report."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import sfumato
from sfumato.errors import SfumatoError
from sfumato.judging.judge import PlayedCurve, Verdict
from sfumato.plots.games import games_sheet
from sfumato.plots.overlays import overlay
from sfumato.plots.saliency import SHOWN, relevance_sheet, saliency_sheet
from sfumato.plots.sheets import process_sheets
from sfumato.report.page import page
from sfumato.results.explanation import Explanation
from tests.judging.test_games import curve
from tests.methods.steps import CLIP, REQUESTS, model_of
from tests.plots.test_process import filled, holds
from tests.report.reading import Page
from tests.results import synthetic


@pytest.fixture(scope="module")
def made() -> dict[str, Explanation]:
    """An explanation of every kind."""
    text, labels = (model_of(kind) for kind in ("text", "labels"))
    return {
        "rise": sfumato.explain(labels, REQUESTS["labels"], "df_rise", masks=4, at=(1, 4)),
        "cam": sfumato.explain(labels, REQUESTS["labels"], "df_cam", at=(0,), layers="downs.0.3"),
        "baselines": sfumato.explain(
            labels, REQUESTS["labels"].with_(steps=12), "step_baselines", kinds=("random", "centre"), at=range(10)
        ),
        "relevance": sfumato.explain(text, REQUESTS["text"], "relevance", clip_model=CLIP),
    }


def drawn(sheet: Image.Image) -> None:
    assert sheet.mode == "RGB"
    inside = filled(sheet)
    assert 0.05 < inside.mean() < 0.98
    height, width = inside.shape
    for half in (inside[: height // 2], inside[height // 2 :], inside[:, : width // 2], inside[:, width // 2 :]):
        assert half.any()


@pytest.mark.parametrize("kind", ["rise", "cam", "baselines"])
def test_a_sheet_shows_what_steps_recover_and_the_maps_on_it(made: dict[str, Explanation], kind: str) -> None:
    sheet = saliency_sheet(made[kind])
    drawn(sheet)
    nodes = {node.path: node.to_dataset(inherit=False) for node in made[kind].tree.subtree}
    for path, data in nodes.items():
        if "map" in data:
            assert holds(sheet, data["picture"].values[-1])
            nodes[path] = data.assign(map=-data["map"])
    inverse = saliency_sheet(Explanation(xr.DataTree.from_dict(nodes), made[kind].request, {}))
    assert inverse.size == sheet.size
    changed = (np.asarray(sheet) != np.asarray(inverse)).any((1, 2))  # rows of pixels
    rows = len(made[kind].tree["saliency"].children) + 1
    pictures, below = changed[: int(len(changed) * 0.9 / rows)], changed[int(len(changed) * 1.2 / rows) :]
    assert not pictures.any()
    assert below.mean() > 0.7


def test_a_sheet_has_a_row_for_each_map_and_a_column_for_each_step(made: dict[str, Explanation]) -> None:
    sizes = {kind: saliency_sheet(made[kind]).size for kind in ("rise", "cam", "baselines")}
    assert sizes["rise"][0] > 1.4 * sizes["cam"][0]  # two steps, one step
    assert sizes["rise"][1] == sizes["cam"][1]
    assert sizes["baselines"][1] == pytest.approx(1.5 * sizes["rise"][1], rel=0.02)
    per_step = sizes["rise"][0] - sizes["cam"][0]
    assert sizes["baselines"][0] == pytest.approx(sizes["cam"][0] + (SHOWN - 1) * per_step, abs=6)  # of ten steps


def test_the_words_have_a_curve_and_maps(made: dict[str, Explanation]) -> None:
    sheet = relevance_sheet(made["relevance"])
    drawn(sheet)
    data = made["relevance"].tree["relevance"].to_dataset()
    image = np.asarray(made["relevance"].image)
    assert holds(sheet, overlay(image, data["map"].values[1, 4]))
    short = sfumato.explain(
        model_of("text"), REQUESTS["text"].with_(prompt="a cat"), "relevance", at=(1,), clip_model=CLIP
    )
    small = relevance_sheet(short)
    drawn(small)
    assert small.width < sheet.width
    assert small.height < sheet.height


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (saliency_sheet, "this explanation holds no saliency of steps; make it with method='df_rise' or 'df_cam'"),
        (relevance_sheet, "this explanation holds no relevance; make it with method='relevance'"),
    ],
)
def test_a_sheet_says_what_is_missing(draw: Callable[[Explanation], Image.Image], message: str) -> None:
    with pytest.raises(SfumatoError, match=message):
        draw(synthetic.explanation())


def test_an_explanation_offers_the_sheets_of_its_nodes(made: dict[str, Explanation]) -> None:
    offered = {kind: set(process_sheets(one)) for kind, one in made.items()}
    assert offered == {"rise": {"saliency"}, "cam": {"saliency"}, "baselines": {"saliency"}, "relevance": {"relevance"}}


@pytest.mark.parametrize("kind", ["rise", "baselines"])
def test_the_report_has_one_section_for_all_maps(made: dict[str, Explanation], kind: str) -> None:
    read = Page(page(made[kind]))
    assert read.broken == ""
    titles = [element.text for element in read.elements if element.tag in ("h2", "summary")]
    assert titles.count("Saliency of steps") == 1
    sheets = read.all("img", class_="sheet")
    assert [one.attrs["alt"] for one in sheets] == ["Saliency of steps"]


def test_the_report_lists_what_each_word_added(made: dict[str, Explanation]) -> None:
    read = Page(page(made["relevance"]))
    assert read.broken == ""
    assert [one.attrs["alt"] for one in read.all("img", class_="sheet")] == ["Which words led at each step"]
    data = made["relevance"].tree["relevance"].to_dataset()
    rows = [row.text for row in read.all("tr")]
    for word, total in zip(data["word"].values.tolist(), data["score"].sum("step").values, strict=True):
        assert any(row.startswith(word) and f"{total:.2g}"[:3] in row for row in rows), word
    assert any("added to CLIP's score" in row for row in rows)


def verdict(images: int, measures: tuple[str, ...]) -> Verdict:
    rising = [0, 0.4, 0.8, 1.0]
    return Verdict(
        tuple(
            PlayedCurve(image, 0, name, curve([one + 0.1 * image for one in rising], game=game, measure=measure))  # type: ignore[arg-type]
            for game in ("deletion", "insertion")
            for measure in measures
            for name in ("mine", "random", "centre")
            for image in range(images)
        )
    )


def sheet_of(found: Verdict) -> Image.Image:
    return games_sheet({pair: found.mean_curves(*pair) for pair in found.pairs()})


def test_the_games_have_a_panel_for_each_measure() -> None:
    sizes = {}
    for measures in (("local_ssim",), ("local_ssim", "features", "score")):
        sheet = sheet_of(verdict(3, measures))
        drawn(sheet)
        sizes[len(measures)] = sheet.size
    assert sizes[3][0] == pytest.approx(3 * sizes[1][0], rel=0.01)
    assert sizes[3][1] == sizes[1][1]


def test_intervals_need_several_curves() -> None:
    one, several = (np.asarray(sheet_of(verdict(count, ("local_ssim",)))) for count in (1, 4))
    assert one.shape == several.shape
    assert (several < 250).any(-1).sum() > 1.2 * (one < 250).any(-1).sum()
