from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import SfumatoError, StoreError
from sfumato.report import Section, section, sections, write_report
from sfumato.report.page import page
from sfumato.results.explanation import Explanation
from tests.report.reading import Page, sha256
from tests.results import synthetic

HOSTILE = (
    "a </script><script>alert(1)</script> <!-- \"quoted\" 'it' &amp; {{data}} \\u003c shown\u202eleft \u200b 😀 שלום"
)


@pytest.fixture(scope="module")
def read() -> Page:
    """The page of an ordinary explanation."""
    return Page(page(synthetic.explanation()))


def test_the_page_is_one_file_that_loads_nothing(read: Page) -> None:
    for element in read.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = element.attrs.get(name) or ""
            assert value == "" or value.startswith(("data:image/", "#")), (element.tag, name, value[:80])
    assert read.all("link") == []
    style = read.all("style")[0].text
    assert "url(" not in style
    assert "@import" not in style
    script = read.all("script")[-1].text
    assert re.search(r"fetch|XMLHttpRequest|import\(|https?:", script) is None


def test_the_markup_is_whole(read: Page) -> None:
    assert read.broken == ""
    ids = [element.attrs["id"] for element in read.elements if "id" in element.attrs]
    assert len(ids) == len(set(ids))
    for element in read.elements:
        for name in ("for", "aria-controls"):
            if name in element.attrs:
                assert element.attrs[name] in ids
        if element.tag == "img":
            assert "alt" in element.attrs
        if element.tag == "button":
            assert element.attrs["type"] == "button"
    assert "{{" not in read.source


def test_only_the_pages_own_script_may_run(read: Page) -> None:
    scripts = [element for element in read.all("script") if element.attrs.get("type") is None]
    assert len(scripts) == 1
    assert sha256(scripts[0].text) == read.allowed_script
    assert all(not name.startswith("on") for element in read.elements for name in element.attrs)


def test_it_is_small() -> None:
    assert len(page(synthetic.explanation()).encode()) < 250_000
    assert len(page(synthetic.explanation(" ".join(["word"] * 75))).encode()) < 1_000_000


def test_every_word_is_a_chip_a_tile_and_a_row(read: Page) -> None:
    words = synthetic.PROMPT.split()
    chips = read.all("button", class_="chip")
    assert [re.sub(r"\d", "", chip.text) for chip in chips] == words
    assert [chip.text for chip in chips if chip.text.startswith("a")] == ["a1", "a2"]
    assert [tile.attrs["data-place"] for tile in read.all("button", class_="tile")] == [str(i) for i in range(8)]
    rows = read.all("tr")
    circle = next(row for row in rows if row.attrs.get("data-place") == "2")
    summary = synthetic.explanation().summary()["words"][2]
    assert f"{summary['peak']['x']}, {summary['peak']['y']}" in circle.text
    assert f"{summary['coverage']:.1%}" in circle.text
    assert f"{summary['share']:.1%}" in circle.text


def test_the_script_has_the_maps_as_they_are(read: Page) -> None:
    maps = synthetic.explanation().words["map"].values
    packed = read.data["images"][0]["words"]
    assert len(packed) == 8
    for heat, one in zip(maps, packed, strict=True):
        steps = np.frombuffer(base64.b64decode(one["map"]), "<u2").reshape(one["grid"])
        restored = one["low"] + steps / 65535 * (one["high"] - one["low"])
        np.testing.assert_allclose(restored, heat, atol=1e-5 * (heat.max() - heat.min()))
    assert read.data["tall"] == read.data["wide"] == 384
    assert read.data["first"] == 2  # the first noun
    assert len(base64.b64decode(read.data["colours"])) == 3 * 256


def test_how_it_was_made_is_told(read: Page) -> None:
    pairs = {row.text for row in read.all("tr")}
    for text in (
        "seed7",
        "guidance5",
        "versions · torch2.13.0",
        "model · weightssha256:0123456789abcdef",
        "seconds1.74",
    ):
        assert text in pairs
    facts = {element.text for element in read.all("dd")}
    assert {"studio/scenes", "7", "20", "128 × 128", "1.74 s"} <= facts


def test_hostile_text_stays_text() -> None:
    made = synthetic.explanation(HOSTILE)
    made.provenance["notes"] = ["never seen in training: <img src=x onerror=alert(1)>"]
    made.provenance["model"] = "<b>model</b>"
    read = Page(page(made))
    assert read.broken == ""
    assert len(read.all("script")) == 2
    assert read.all("b", id="x") == []
    assert all(e.attrs["src"].startswith("data:image/") for e in read.all("img") if e.attrs["src"] is not None)
    assert [e.text for e in read.all("button", class_="chip")][1] == "</script><script>alert(1)</script>"
    assert "{{data}}" in [e.text for e in read.all("button", class_="chip")]
    assert "\u202e" not in read.source  # would turn the rest of its line around
    assert "[U+202E]" in read.source
    assert "[U+200B]" in read.source
    assert read.all("div", class_="banner")[0].text == "never seen in training: <img src=x onerror=alert(1)>"


@settings(max_examples=15)
@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30))
def test_any_prompt_gives_a_whole_page(prompt: str) -> None:
    read = Page(page(synthetic.explanation(prompt, grid=(2, 2), size=(8, 8), tokens=False)))
    assert read.broken == ""
    assert len(read.all("script")) == 2
    assert sha256(read.all("script")[1].text) == read.allowed_script
    assert len(read.all("button", class_="chip")) == len(prompt.split())


def test_words_that_were_not_seen_are_marked_and_cannot_be_chosen() -> None:
    read = Page(page(synthetic.explanation(unseen=2)))
    assert len(read.all("button", class_="chip")) == 6
    unseen = read.all("span", class_="unseen")
    assert [chip.text for chip in unseen] == ["bluenot seen", "squarenot seen"]
    assert len(read.all("div", class_="unseen")) == 2
    assert all("not seen by the model" in row.text for row in read.all("tr", class_="unseen"))
    assert read.data["images"][0]["words"][6:] == [None, None]
    assert read.data["images"][0]["rows"][6:] == [None, None]


def test_words_out_of_vocabulary_are_marked_wherever_they_stand() -> None:
    read = Page(page(synthetic.explanation(unknown=["Circle"])))
    marked = [chip.text for chip in read.all("button", class_="chip") if "out of vocabulary" in chip.text]
    assert marked == ["circleout of vocabulary"]
    tiles = [tile.text for tile in read.all("button", class_="tile") if "out of vocabulary" in tile.text]
    assert len(tiles) == 1
    assert [row.attrs["data-place"] for row in read.all("tr") if "out of vocabulary" in row.text] == ["2"]
    rows = read.data["images"][0]["rows"]
    assert [row["label"] for row in rows if row["caveat"]] == ["circle"]
    assert "never trained on this word" in rows[2]["caveat"]
    assert read.all("div", class_="banner")[0].text == "never seen in training: Circle"
    assert "out of vocabulary" not in page(synthetic.explanation())


def test_maps_are_described_in_their_own_unit() -> None:
    node = synthetic.word_node(["red", "circle"])
    node.attrs["unit"] = "nats per position"
    read = Page(page(synthetic.explanation("red circle", tokens=False, more={"words": node})))
    assert read.data["unit"] == "nats per position"
    assert "The unit of the maps: nats per position." in read.source
    assert "attention" not in read.source.replace(synthetic.PROVENANCE["paper"], "").lower()


def test_nothing_was_seen_is_a_page_too() -> None:
    read = Page(page(synthetic.explanation("red circle", unseen=2)))
    assert read.broken == ""
    assert read.data["first"] is None


def test_several_images_have_tabs() -> None:
    read = Page(page(synthetic.explanation(images=3)))
    assert read.broken == ""
    assert [tab.text for tab in read.all("button", role="tab")] == ["seed 7", "seed 8", "seed 9"]
    assert [tab.attrs["aria-selected"] for tab in read.all("button", role="tab")] == ["true", "false", "false"]
    for i in "012":
        assert len(read.all("img", data_image=i)) == 1
        assert len(read.all("section", data_image=i)) == 2  # words and tokens
    assert len(read.data["images"]) == 3
    assert len({image["words"][2]["map"] for image in read.data["images"]}) == 3
    assert Page(page(synthetic.explanation())).all("button", role="tab") == []


def test_wide_and_large_images_keep_their_shape() -> None:
    read = Page(page(synthetic.explanation("red", size=(96, 160), grid=(12, 20))))
    assert (read.data["tall"], read.data["wide"]) == (384, 640)
    assert "aspect-ratio:160/96" in read.source
    read = Page(page(synthetic.explanation("red", size=(600, 1500), grid=(4, 10))))
    assert (read.data["tall"], read.data["wide"]) == (410, 1024)


def test_a_method_without_words_has_a_page() -> None:
    good = synthetic.explanation()
    nodes = {
        "image": good.tree["image"].to_dataset(),
        "profile": xr.Dataset({"ssim": ("step", np.linspace(0, 1, 20))}),
    }
    read = Page(page(Explanation(xr.DataTree.from_dict(nodes), good.request, {"method": "profile"})))
    assert read.broken == ""
    assert read.all("input") == []
    assert read.data["images"] == [{"words": [], "rows": []}]
    assert "Profile" in [heading.text for heading in read.all("h2")]


def test_nodes_of_any_method_are_shown() -> None:
    draw = np.random.default_rng(0)
    words = np.array(["<b>", "red"], dtype=object)
    node = xr.Dataset(
        {
            "shap": ("word", np.array([0.5, -0.25]), {"unit": "similarity"}),
            "pairs": (("word", "other"), np.array([[1.0, np.nan], [0.125, -2.0]])),
            "trajectory": ("step", draw.random(500)),
            "maps": (("step_kept", "head", "y", "x"), draw.random((4, 5, 6, 6))),
            "crops": (("segment", "y", "x", "channel"), draw.integers(0, 255, (2, 6, 6, 3)).astype(np.uint8)),
            "names": ("segment", ["one", "<two>"]),
            "valid": ("word", [True, False]),
            "total": ((), 3.25),
            "nothing": ("empty", np.zeros(0)),
            "volume": (("a", "b", "c"), draw.random((3, 40, 50))),
        },
        coords={"word": words, "other": words},
        attrs={"estimator": "exact"},
    )
    read = Page(page(synthetic.explanation(more={"word_importance": node, "attention/16x16": node[["total"]]})))
    assert read.broken == ""
    assert len(read.all("b")) == len(read.all("div", class_="tile")) + len(read.all("button", class_="tile"))
    titles = [heading.text for heading in read.all("h2")]
    assert "Word importance" in titles
    assert "Attention, 16x16" in titles
    part = next(s for s in read.all("section") if s.attrs.get("data-node") == "word_importance")
    for text in (
        "estimator: exact",
        "shap (word 2) float64 · similarity",
        "-0.25",
        "3.25",
        "the first 16 of 20",
        "empty",
        "one, <two>",
        "lowest",
        "–",
        "yes",
        "no",
    ):
        assert text in part.text, text


def test_large_arrays_are_described_not_read() -> None:
    class Unread(xr.backends.BackendArray):
        shape, dtype = (5000, 1000), np.dtype(np.float32)

        def __getitem__(self, key: object) -> np.ndarray:
            raise AssertionError("this array must not be read")

    lazy = xr.core.indexing.LazilyIndexedArray(Unread())
    node = xr.Dataset({"raw": xr.Variable(("step", "unit"), lazy)})
    read = Page(page(synthetic.explanation("red", more={"raw": node})))
    assert "5,000,000 values, not shown here" in read.source


def test_sections_of_other_methods_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "_renderers", dict(sections._renderers))

    @section("scores")
    def scores(explanation: Explanation, path: str) -> Section:
        return Section("My <scores>", f"<p>{explanation.tree[path].sizes['word']} words</p>", note="a & b", folded=True)

    @section("hidden")
    def hidden(explanation: Explanation, path: str) -> None:
        return None

    node = xr.Dataset({"shap": ("word", np.ones(3))})
    read = Page(page(synthetic.explanation(more={"scores": node, "hidden": node})))
    part = next(s for s in read.all("section") if s.attrs.get("data-node") == "scores")
    assert part.text == "My <scores>a & b3 words"
    assert [s for s in read.all("section") if s.attrs.get("data-node") == "hidden"] == []
    with pytest.raises(SfumatoError, match="'scores' has a section already: .*scores"):
        section("scores")(scores)


def test_words_stand_before_other_nodes() -> None:
    node = xr.Dataset({"shap": ("word", np.ones(3))})
    made = synthetic.explanation()
    nodes = {"image": made.tree["image"].to_dataset(), "aaa": node, "words": made.words}
    read = Page(page(Explanation(xr.DataTree.from_dict(nodes), made.request, {})))
    assert [s.attrs["data-node"] for s in read.all("section") if "data-node" in s.attrs] == ["words", "aaa"]


def test_writing_replaces_the_file_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = synthetic.explanation("red")
    write_report(made, tmp_path / "r.html")
    first = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert first == page(made)
    with pytest.raises(StoreError, match="cannot write .*a part of the path is a file"):
        write_report(made, tmp_path / "r.html" / "r.html")
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreError, match=r"cannot write .*r\.html': the disk is full"):
        write_report(synthetic.explanation("blue"), tmp_path / "r.html")
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == first
