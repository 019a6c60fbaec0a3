from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from sfumato.errors import SfumatoError, UnknownWord
from sfumato.results.explanation import Explanation
from sfumato.results.schema import SchemaError
from sfumato.results.upscale import bicubic
from tests.results import synthetic


def test_the_image_is_the_stored_pixels(made: Explanation) -> None:
    assert made.image.size == (128, 128)
    np.testing.assert_array_equal(np.asarray(made.image), synthetic.scene())


def test_a_plain_word_is_the_mean_of_its_occurrences(made: Explanation) -> None:
    maps = made.words["map"].values  # "a" stands at 0 and 5
    np.testing.assert_allclose(made.word_map("a").values, (maps[0] + maps[5]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(made.word_map("a#1").values, maps[0])
    np.testing.assert_array_equal(made.word_map("a#2").values, maps[5])
    np.testing.assert_array_equal(made.word_map(2).values, maps[2])
    np.testing.assert_array_equal(made.word_map(np.int64(2)).values, maps[2])
    assert made.word_map("a").dims == ("y", "x")


def test_case_counts_only_where_it_tells_words_apart() -> None:
    made = synthetic.explanation("Red red Circle")
    maps = made.words["map"].values
    np.testing.assert_array_equal(made.word_map("red").values, maps[1])
    np.testing.assert_array_equal(made.word_map("Red").values, maps[0])
    np.testing.assert_array_equal(made.word_map("circle").values, maps[2])


def test_a_word_may_look_like_an_occurrence() -> None:
    made = synthetic.explanation("square#2 square square")
    maps = made.words["map"].values
    np.testing.assert_array_equal(made.word_map("square#2").values, maps[0])
    np.testing.assert_array_equal(made.word_map("square#1").values, maps[1])


@pytest.mark.parametrize("word", ["zebra", "a#3", "circle#0", "#1", "", 8, -1, True])
def test_an_unknown_word_lists_the_words(made: Explanation, word: str | int) -> None:
    with pytest.raises(UnknownWord, match=r"a#1, red, circle, left, of, a#2, blue, square") as caught:
        made.word_map(word)
    assert str(caught.value).startswith(repr(word))


def test_a_word_that_was_cut_off_is_an_error_not_a_zero_map() -> None:
    made = synthetic.explanation(unseen=2)
    with pytest.raises(UnknownWord, match="'square' was not seen by the model.*a#1, red, circle, left, of, a#2"):
        made.word_map("square")
    assert np.isfinite(made.word_map("circle").values).all()


def test_a_word_cut_off_only_at_its_second_occurrence_keeps_the_first() -> None:
    made = synthetic.explanation("circle and circle", unseen=1)
    np.testing.assert_array_equal(made.word_map("circle").values, made.words["map"].values[0])
    with pytest.raises(UnknownWord, match="not seen"):
        made.word_map("circle#2")


def test_long_prompts_are_listed_in_part() -> None:
    made = synthetic.explanation(" ".join(f"w{i}" for i in range(100)))
    with pytest.raises(UnknownWord, match=r"w39, \.\.\. \(100 in all\)"):
        made.word_map("zebra")


def test_several_images_have_each_their_own_maps() -> None:
    made = synthetic.explanation(images=3)
    assert [image.size for image in made.images] == [(128, 128)] * 3
    assert not np.array_equal(np.asarray(made.images[0]), np.asarray(made.images[1]))
    np.testing.assert_array_equal(made.word_map("circle", image=2).values, made.words["map"].values[2, 2])
    with pytest.raises(SfumatoError, match="image is 3; expected a whole number from 0 to 2"):
        made.word_map("circle", image=3)


def test_selecting_an_image_gives_the_explanation_of_its_seed() -> None:
    extra = xr.Dataset({"gain": (("image", "step"), np.arange(6.0).reshape(2, 3))})
    made = synthetic.explanation(images=2, more={"steps": extra})
    one = made.select(image=1)
    assert one.request == made.request.with_(seed=8, images=1)
    np.testing.assert_array_equal(np.asarray(one.image), np.asarray(made.images[1]))
    np.testing.assert_array_equal(one.word_map("circle").values, made.word_map("circle", image=1).values)
    assert one.words["map"].dims == ("word", "y", "x")
    assert one.tree["image"]["seed"].values.tolist() == [8]
    np.testing.assert_array_equal(one.tree["steps"]["gain"].values, [3.0, 4.0, 5.0])
    with pytest.raises(SfumatoError, match="image is .*; expected a whole number from 0 to 0"):
        one.select(image=1)


def test_an_explanation_without_words_says_what_it_has(made: Explanation) -> None:
    tree = xr.DataTree.from_dict({"image": made.tree["image"].to_dataset()})
    bare = Explanation(tree, made.request, {})
    with pytest.raises(SfumatoError, match="no word maps; its nodes are: image"):
        _ = bare.words
    assert bare.summary()["words"] == []
    assert "words" not in repr(bare)


def test_summary_states_coverage_peak_and_share(made: Explanation) -> None:
    summary = json.loads(json.dumps(made.summary(), allow_nan=False))
    assert [row["word"] for row in summary["words"]] == synthetic.PROMPT.split()
    assert sum(row["share"] for row in summary["words"]) == pytest.approx(1)
    circle = summary["words"][2]
    fine = bicubic(made.words["map"].values[2], (128, 128))
    assert circle["coverage"] == pytest.approx((fine >= 0.4 * fine.max()).mean())
    assert fine[circle["peak"]["y"], circle["peak"]["x"]] == fine.max()
    assert circle["peak"]["x_fraction"] == pytest.approx(0.28, abs=0.06)
    assert circle["peak"]["y_fraction"] == pytest.approx(0.5, abs=0.06)
    maps = made.words["map"].values
    assert circle["share"] == pytest.approx(maps[2].sum() / maps.sum(), rel=1e-5)
    assert summary["request"]["seed"] == 7
    assert summary["provenance"]["model"]["name"] == "studio/scenes"
    assert summary["nodes"]["words"] == {"word": 8, "y": 16, "x": 16}
    assert list(summary["nodes"]) == ["image", "words", "tokens"]


def test_summary_has_no_numbers_for_words_that_were_not_seen() -> None:
    rows = synthetic.explanation(unseen=1).summary()["words"]
    assert [row["seen"] for row in rows] == [True] * 7 + [False]
    assert [rows[-1][name] for name in ("coverage", "peak", "share")] == [None, None, None]
    assert sum(row["share"] for row in rows[:-1]) == pytest.approx(1)


def test_summary_peaks_are_x_right_y_down_on_wide_images() -> None:
    made = synthetic.explanation(size=(64, 192), grid=(8, 24))
    circle = made.summary()["words"][2]
    assert made.image.size == (192, 64)
    assert circle["peak"]["x"] == pytest.approx(0.28 * 192, abs=9)
    assert circle["peak"]["y"] == pytest.approx(0.5 * 64, abs=9)


def test_zero_maps_have_no_share_and_cover_nothing() -> None:
    made = synthetic.explanation("red")
    made.tree["words"]["map"].values[:] = 0
    row = made.summary()["words"][0]
    assert row["coverage"] == 0
    assert row["share"] is None


def test_the_representation_names_prompt_sizes_and_words(made: Explanation) -> None:
    text = repr(made)
    for part in (synthetic.PROMPT, "128 x 128", "seed 7", "words: word 8", "a#1, red, circle", "daam"):
        assert part in text
    assert len(text.splitlines()) == 5


def test_the_html_representation_escapes_the_prompt() -> None:
    shown = synthetic.explanation("<script>alert(1)</script>")._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert len(shown) < 200_000


def test_the_tree_must_fit_the_request(made: Explanation) -> None:
    with pytest.raises(SchemaError, match="holds 1 images, but the request asks for 2"):
        Explanation(made.tree, made.request.with_(images=2), {})


def test_the_given_tree_is_left_alone(made: Explanation) -> None:
    tree = made.tree.copy(deep=True)
    tree["words"].attrs["grid"] = np.array([16, 16])
    tree["words"]["pos"] = tree["words"]["pos"].astype(object)
    copied = Explanation(tree, made.request, {"path": np.float32(0.5)})
    assert isinstance(tree["words"].attrs["grid"], np.ndarray)
    assert tree["words"]["pos"].dtype == object
    assert copied.tree["words"].attrs["grid"] == [16, 16]
    assert copied.provenance == {"path": 0.5}
