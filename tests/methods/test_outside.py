"""A method of another package, whose arrays have names that nobody knows, is read like one of Sfumato's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import sfumato
from sfumato import registry
from sfumato.generation.generate import generate
from sfumato.judging.judge import judge
from sfumato.judging.maps import named_maps, saliencies, shares_of
from sfumato.models.model import Model
from sfumato.plots import importance_sheet, process_sheets
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.report.folder import fill_folder
from sfumato.report.page import page
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.meaning import Declared, Meaning
from sfumato.tasks.explain import _add_map
from tests.methods.steps import REQUESTS, model_of
from tests.report.reading import Page

HEAT = np.arange(48, dtype=np.float32).reshape(6, 8)
WORTH = {"cat": 3.0, "red": 1.0}
DRIFT = np.array([[0.5, 0.25], [0.75, 0.5], [1.0, 0.75]])


@dataclass(frozen=True)
class OutsideOptions:
    """None."""


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    """The method, for as long as these tests run."""
    registry.methods()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry._methods, "_entries", dict(registry._methods._entries))

        @method(
            "outside",
            summary="What does an outsider find?",
            options=OutsideOptions,
            needs=(),
            cost=lambda model, request, options: "one generation",
            paper="none",
        )
        def outside(
            model: Model, requests: Sequence[Request], options: OutsideOptions, progress: Progress
        ) -> list[Explanation]:
            """Findings that are the same for every request."""
            node = xr.Dataset(
                {
                    "heat": (("image", "y", "x"), HEAT[None], Meaning("map", unit="lumens").attrs),
                    "worth": ("concept", list(WORTH.values()), Meaning("importance", unit="points").attrs),
                    "drift": (("step", "side"), DRIFT, Meaning("curve", unit="metres", bounds=(0, 1)).attrs),
                },
                coords={"concept": list(WORTH), "side": ["left", "right"]},
            )
            return [generate(model, one, progress=progress).explanation(0, {"findings": node}) for one in requests]

        yield


@pytest.fixture(scope="module")
def found(registered: None) -> Explanation:
    made = sfumato.explain(model_of("text"), REQUESTS["text"], "outside")
    assert isinstance(made, Explanation)
    return made


def test_the_summary_has_its_numbers_and_rows(found: Explanation) -> None:
    summary = found.select(0).summary()
    (rows,) = summary["importance"].values()
    assert {row["player"]: (row["phi"], row["share"]) for row in rows} == {"cat": (3, 0.75), "red": (1, 0.25)}
    numbers = summary["numbers"]["findings"]
    assert numbers["heat.highest"] == 47
    assert [one["value"] for one in numbers["worth"]] == [3, 1]
    assert numbers["drift"][1] == {"step": 0, "side": "right", "value": 0.25}
    assert [one["value"] for one in numbers["low"]] == [None, None]


def test_it_is_judged(found: Explanation) -> None:
    (map_,) = saliencies(found)
    assert (map_.name, map_.steps) == ("findings", None)
    np.testing.assert_array_equal(map_.maps, HEAT[None])
    assert shares_of(found) == {"cat": 0.75, "red": 0.25}
    np.testing.assert_array_equal(named_maps(found)["worths"], [[3, 1]])
    verdict = judge(model_of("text"), [found], games=("deletion",), distances=("local_ssim",), at=(1,), points=4)
    assert set(verdict.chosen("deletion", "local_ssim")) == {"findings", "random", "centre"}


def test_it_is_drawn_into_the_folder_of_a_result(found: Explanation, tmp_path: Path) -> None:
    fill_folder(found, tmp_path)
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {"image.png", "findings.png", "findings-heat.png", "findings-drift.png"}
    opened = sfumato.open(tmp_path)
    assert set(process_sheets(opened)) == {"findings-heat", "findings-drift"}
    for name, draw in process_sheets(opened).items():
        sheet = np.asarray(draw(opened))
        np.testing.assert_array_equal(sheet, np.asarray(process_sheets(found)[name](found)))
        assert 0.02 < (sheet < 250).any(-1).mean() < 0.98
    assert importance_sheet(opened).width < 600
    text = (tmp_path / "numbers.csv").read_text()
    assert all(f"findings/{name}" in text for name in ("heat.mean", "worth", "drift"))


def test_the_map_is_on_its_sheet_and_the_curve_has_its_unit(found: Explanation) -> None:
    nodes = {node.path: node.to_dataset(inherit=False) for node in found.tree.subtree}
    turned = nodes["/findings"].assign(heat=nodes["/findings"]["heat"].copy(data=HEAT[None, ::-1].copy()))
    other = Explanation(xr.DataTree.from_dict(nodes | {"/findings": turned}), found.request, found.provenance)
    for name, same in (("findings-heat", False), ("findings-drift", True)):
        sheets = [np.asarray(process_sheets(one)[name](one)) for one in (found, other)]
        assert np.array_equal(*sheets) == same


def test_it_has_a_section_of_the_page(found: Explanation) -> None:
    read = Page(page(found))
    (part,) = [one for one in read.all("section") if one.attrs.get("data-node") == "findings"]
    assert len(read.all("img", class_="sheet")) == 2
    assert re.search(r"cat.*75", part.text)
    for said in ("lumens", "points", "metres"):
        assert said in part.text


@pytest.mark.parametrize("keep", ["small", "full"])
def test_a_run_keeps_its_numbers_and_maps(keep: str, tmp_path: Path) -> None:
    prompts = ["red cat", "a dog"]
    methods = ("daam", "outside")
    settings = {"common": {"steps": 2}, "keep": keep, "method": methods}
    run = sfumato.run("explain", model_of("text"), out=tmp_path / "run", prompts=prompts, **settings)
    items = run.items
    assert items["word"].tolist() == ["red", "cat", "a", "dog"]
    assert items["outside.worth"].fillna(0).tolist() == [1, 3, 0, 0]
    assert set(items["outside.heat.highest"]) == {47}
    for row in range(4):
        np.testing.assert_allclose(run.map_of(row, "outside.findings"), HEAT, atol=0.1)
        assert run.map_of(row, "daam").ndim == 2


def test_a_map_of_several_steps_keeps_them_apart_and_one_that_is_not_finite_is_kept() -> None:
    """One scale of 8 bits would leave nothing of a step whose values are small beside those of another one."""
    steps = np.stack([HEAT / 1e4, HEAT * 1e3])
    node = xr.Dataset({"heat": (("step", "y", "x"), steps, Meaning("map").attrs)})
    rows: list[dict[str, Any]] = [{"word": "cat", "index": 0}]
    maps: dict[str, Any] = {}
    _add_map(rows, maps, "outside", Declared("findings", "heat", node), "small")
    np.testing.assert_array_equal(maps["outside.findings"], steps[None])
    assert rows == [{"word": "cat", "index": 0}]


def test_the_page_shows_it(found: Explanation) -> None:
    pytest.importorskip("gradio")
    from sfumato.app.charts.importance import importance_bars
    from sfumato.app.pieces.sections import shown_sections

    figure = importance_bars(found)
    assert figure is not None
    assert list(figure.data[0].x) == [3, 1]
    assert [part["node"] for part in shown_sections(found)["parts"]] == ["findings"]
