"""Every number that a page or a picture of a result shows is in its JSON and its CSV, for every method."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axis import Tick
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import sfumato
from sfumato.judging.trust import trust
from sfumato.registry import methods
from sfumato.report.folder import fill_folder
from sfumato.report.sections import sections
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.joining import join
from sfumato.results.numbers import MOST_MAPS, MOST_VALUES, number_rows
from sfumato.results.rows import as_csv
from tests.families import family
from tests.labels import REQUEST, square, tiny_labels
from tests.methods.steps import REQUESTS, model_of
from tests.references import reference_request, tiny_references
from tests.report.reading import Page
from tests.results import synthetic

WORDS = Request("a red circle", seed=3, steps=3)

NUMBER = re.compile(r"(?<![\w.,])[-−]?\d+(?:\.\d+)?(?:e[+-]?\d+)?%?(?!\.?\w)")
CONSTANTS = {"95%", "0.4", "10%"}
"""What captions say of their own: the level of intervals, and thresholds that the docs state."""


@cache
def labels(method: str, **options: Any) -> Explanation:
    return sfumato.explain(sfumato.wrap(tiny_labels()), REQUEST, method, **options)


@cache
def text(method: str, **options: Any) -> Explanation:
    return sfumato.explain(model_of("text"), REQUESTS["text"], method, **options)


@cache
def scenes(method: str, **options: Any) -> Explanation:
    return sfumato.explain(sfumato.load(), WORDS, method, **options)


@cache
def concepts() -> Explanation:
    found = family("Flux dev")
    return sfumato.explain(found.wrapped(), found.request(), "concept_attention")


@cache
def reference() -> Explanation:
    options: dict[str, Any] = {"at": (10, 12), "patches": (40, 100), "causal": True}
    return sfumato.explain(sfumato.wrap(tiny_references()), reference_request(), "i2am", **options)


@cache
def checked() -> Explanation:
    return trust(model_of("text"), text("daam"), ["removal", "randomisation"], stages=2).explanation


def slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow)


MADE: dict[str, Callable[[], Explanation]] = {
    "ablation": lambda: labels("ablation", channels="init_conv:0"),
    "ablation, a sweep": lambda: labels("ablation", rank="downs.0.3"),
    "switch": lambda: labels("switch", to="1100", at=(1, 3)),
    "profile": lambda: labels("profile", every=3),
    "gradient_volume": lambda: labels("gradient_volume", mask=str(mask_file()), timesteps=(500,)),
    "i2am": reference,
    "daam": lambda: text("daam"),
    "ovam": lambda: text("ovam", text="red dog"),
    "df_rise": lambda: text("df_rise", masks=8, at=(1,)),
    "df_cam": lambda: text("df_cam", at=(1,)),
    "step_baselines": lambda: text("step_baselines", at=(1,), samples=8),
    "concept_attention": concepts,
    "information": lambda: text("information", samples=2),
    "the checks": checked,
    "relevance": lambda: scenes("relevance", at=(0, 2)),
    "shapley": lambda: scenes("shapley"),
    "lime": lambda: scenes("lime"),
    "word_gradients": lambda: scenes("word_gradients"),
    "lime_image": lambda: scenes("lime_image", superpixels=6, budget=14),
    "segments": lambda: scenes("segments", by="saliency"),
    "several": lambda: join([labels("ablation", channels="init_conv:0"), labels("switch", to="1100", at=(1, 3))]),
}
FAST = ("ablation", "switch", "daam")


@cache
def mask_file() -> Path:
    from tempfile import mkdtemp

    from PIL import Image

    file = Path(mkdtemp()) / "mask.png"
    Image.fromarray((square() * 255).astype(np.uint8)).save(file)
    return file


def test_every_method_is_here() -> None:
    missing = {one.name for one in methods()}.difference(MADE)
    assert not missing, f"add to MADE how an explanation of these is made: {', '.join(sorted(missing))}"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of every figure that is drawn, without the ticks of its axes."""
    texts: list[str] = []
    draw = FigureCanvasAgg.draw

    def watched(canvas: Any) -> None:
        draw(canvas)
        ticks = {id(label) for tick in canvas.figure.findobj(Tick) for label in (tick.label1, tick.label2)}
        texts.extend(one.get_text() for one in canvas.figure.findobj(Text) if id(one) not in ticks)

    monkeypatch.setattr(FigureCanvasAgg, "draw", watched)
    return texts


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", [name if name in FAST else slow(name) for name in MADE])
def test_what_is_shown_is_in_json_and_csv(name: str, drawn: list[str], tmp_path: Path) -> None:
    explanation = MADE[name]()
    fill_folder(explanation, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    with (tmp_path / "numbers.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    rows = number_rows(summary["numbers"])
    assert [row["name"] for row in table] == [row["name"] for row in rows]
    for read, row in zip(table, rows, strict=True):
        assert read["value"] == ("" if row["value"] is None else str(row["value"]))
        assert {label: str(value) for label, value in row["at"].items() if value is not None} == {
            column.removeprefix("at."): value for column, value in read.items() if column.startswith("at.") and value
        }
    assert not [row["name"] for row in rows if re.match(r"ssim", row["name"].rpartition("/")[2])]  # which of three?
    known = values_of(rows, summary["request"], summary["images"])
    shown = list(drawn)
    for _, part in sections(explanation):
        spaced = part.body.replace("<", " <")  # cells that follow each other are separate numbers
        shown.append(f"{part.note} {Page(f'<p>{spaced}</p>').elements[0].text}")
    missing = [token for text_ in shown for token in tokens(text_) if not any(matches(token, one) for one in known)]
    assert missing == []


def tokens(text_: str) -> Iterator[str]:
    """The decimals and shares in a text; whole numbers are labels, sizes and counts."""
    for found in NUMBER.findall(text_):
        if ("." in found or "%" in found or "e" in found) and found not in CONSTANTS:
            yield found.replace("−", "-")


def matches(token: str, value: float) -> bool:
    """Whether a value, rounded as a number is written, is that number."""
    share = token.endswith("%")
    mantissa, _, exponent = token.rstrip("%").partition("e")
    places = len(mantissa.partition(".")[2]) - int(exponent or 0)
    written = float(token.rstrip("%"))
    return abs((100 * value if share else value) - written) <= 0.5000001 * 10.0**-places


def values_of(*sources: Any) -> set[float]:
    found: set[float] = set()
    for source in sources:
        if isinstance(source, dict):
            found |= values_of(*source.values())
        elif isinstance(source, list):
            found |= values_of(*source)
        elif isinstance(source, int | float):
            found.add(float(source))
    return found


def test_named_numbers_of_interventions_and_their_labels() -> None:
    numbers = labels("ablation", channels="init_conv:0").summary()["numbers"]["ablation"]
    node = labels("ablation", channels="init_conv:0").tree["ablation"]
    assert numbers["normalised_ssim"] == float(node["normalised_ssim"])
    assert numbers["changed.share"] == float(node["changed"].values.mean())
    assert numbers["moved.highest"] == pytest.approx(float(node["moved"].max()))
    swept = labels("ablation", rank="downs.0.3")
    records = swept.summary()["numbers"]["sweep"]["normalised_ssim"]
    assert [one["value"] for one in records] == swept.tree["sweep"]["normalised_ssim"].values.tolist()
    assert {one["layer"] for one in records} == {"downs.0.3"}
    switched = labels("switch", to="1100", at=(1, 3)).summary()["numbers"]["switch"]
    assert [one["step"] for one in switched["normalised_ssim_to_first"]] == [1, 3]
    assert 0 <= switched["settled"] <= 1


def test_words_have_a_row_for_each_image() -> None:
    several = synthetic.explanation(images=2)
    summary = several.summary()
    share = summary["numbers"]["words"]["share"]
    assert [(one["image"], one["word"], one["value"]) for one in share] == [
        (row["image"], row["word"], row["share"]) for row in summary["words"]
    ]
    alone = synthetic.explanation().summary()["numbers"]["words"]["share"]
    assert "image" not in alone[0]


def test_arrays_that_are_too_large_have_statistics() -> None:
    import xarray as xr

    base = synthetic.explanation("red")
    nodes = {node.path: node.to_dataset(inherit=False) for node in base.tree.subtree}
    values = np.arange(2 * MOST_VALUES, dtype=np.float64)
    values[3] = np.nan
    maps = np.ones((MOST_MAPS + 1, 2, 2), np.float32)
    nodes["/large"] = xr.Dataset({"curve": ("step", values), "maps": (("head", "y", "x"), maps)})
    nodes["/empty"] = xr.Dataset({"map": (("y", "x"), np.full((2, 2), np.nan))}, attrs={"box": [1, 2], "ok": True})
    numbers = Explanation(xr.DataTree.from_dict(nodes), base.request, {}).summary()["numbers"]
    assert numbers["large"]["curve.lowest"] == 0
    assert numbers["large"]["curve.highest"] == 2 * MOST_VALUES - 1
    assert numbers["large"]["curve.mean"] == pytest.approx(np.nanmean(values))
    assert numbers["large"]["maps.mean"] == 1
    assert numbers["empty"] == {"box": [1, 2], "ok": True, "map.lowest": None, "map.mean": None, "map.highest": None}
    rows = number_rows({"empty": numbers["empty"]})
    assert [row["value"] for row in rows] == [1, 2, True, None, None, None]
    assert as_csv(rows).splitlines()[:3] == ["name,at.position,value", "empty/box,0,1", "empty/box,1,2"]


def test_a_joined_report_writes_no_dictionary() -> None:
    page = sfumato.report.page.page(MADE["several"]())
    assert not re.search(r"\{(&#x27;|&quot;)\w+(&#x27;|&quot;): ", page)
    assert "parts · 2, switch · options · to" in Page(page).all("section")[-1].text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_names_in_the_docs_are_those_of_results(root: Path) -> None:
    text_ = (root / "docs" / "numbers.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_.]+)+)`", text_))
    assert len(documented) > 15
    known = {row["name"] for made in MADE.values() for row in number_rows(made().summary()["numbers"])}
    assert documented - known == set()
