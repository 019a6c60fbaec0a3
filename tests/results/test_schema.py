from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sfumato.results import schema
from sfumato.results.explanation import Explanation
from sfumato.results.schema import SchemaError
from tests.results import synthetic


def changed(**nodes: Callable[[xr.Dataset], xr.Dataset]) -> xr.DataTree:
    """The tree of a good explanation with some nodes changed."""
    good = synthetic.explanation().tree
    datasets = {name: good[name].to_dataset() for name in good.children}
    return schema.normalise(xr.DataTree.from_dict(datasets | {n: change(datasets[n]) for n, change in nodes.items()}))


def test_a_good_tree_passes() -> None:
    schema.validate(changed(), values=True)


@pytest.mark.parametrize(
    ("node", "change", "message"),
    [
        ("words", lambda d: d.drop_vars("map"), "node 'words' lacks the array 'map'; it has: none"),
        ("words", lambda d: d.drop_vars("pos"), "node 'words' lacks the coordinate 'pos'"),
        ("words", lambda d: d.rename(y="row"), r"dimensions \(word, row, x\); expected \(word, y, x\) or \(image"),
        ("words", lambda d: d.transpose("y", "word", "x"), r"dimensions \(y, word, x\)"),
        ("words", lambda d: d.assign(map=d["map"].astype(np.float64)), "type float64; expected float32"),
        ("words", lambda d: d.assign_coords(seen=("word", np.ones(8, int))), "words/seen .* expected bool"),
        ("words", lambda d: d.assign_coords(index=("word", [0] * 8)), "every word needs its own place"),
        ("words", lambda d: d.assign_coords(occurrence=("word", [1] * 8)), "names occurrence 1 of 'a' twice"),
        ("words", lambda d: d.assign_coords(y=np.arange(16.0)), "cell centres as fractions"),
        ("words", lambda d: d.assign_coords(x=d["x"].values[::-1]), "rising between 0 and 1"),
        ("words", lambda d: d.drop_attrs(), "lacks the attribute 'method'"),
        ("tokens", lambda d: d.drop_vars("word_index"), "node 'tokens' lacks the coordinate 'word_index'"),
        ("image", lambda d: d.astype(np.int16), "image/pixels has values of type int16; expected uint8"),
        ("image", lambda d: d.assign_coords(channel=["B", "G", "R"]), r"expected \['R', 'G', 'B'\]"),
        ("image", lambda d: d.assign_coords(image=[4]), "expected 0 to 0"),
        ("image", lambda d: d.isel(y=slice(0, 0)), "no axis may be empty"),
        ("image", lambda d: d.drop_vars("seed"), "lacks the coordinate 'seed'"),
    ],
)
def test_what_is_wrong_is_said(node: str, change: Callable[[xr.Dataset], xr.Dataset], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        schema.validate(changed(**{node: change}))


def test_only_the_image_must_be_there() -> None:
    good = synthetic.explanation().tree
    schema.validate(xr.DataTree.from_dict({"image": good["image"].to_dataset()}), values=True)
    with pytest.raises(SchemaError, match="needs the node 'image'.*its nodes are: words"):
        schema.validate(xr.DataTree.from_dict({"words": good["words"].to_dataset()}))


def test_several_images_need_maps_of_their_own() -> None:
    good = synthetic.explanation(images=2).tree
    nodes = {name: good[name].to_dataset() for name in good.children}
    nodes["words"] = nodes["words"].isel(image=0)
    with pytest.raises(SchemaError, match="lacks the dimension 'image', but there are 2 images"):
        schema.validate(schema.normalise(xr.DataTree.from_dict(nodes)))


def test_values_are_read_only_when_asked() -> None:
    def broken(dataset: xr.Dataset) -> xr.Dataset:
        maps = dataset["map"].values.copy()
        maps[2, 0, 0] = np.inf
        return dataset.assign(map=(dataset["map"].dims, maps))

    tree = changed(words=broken)
    schema.validate(tree)
    with pytest.raises(SchemaError, match="'circle' holds NaN or infinite values"):
        schema.validate(tree, values=True)


def test_a_word_that_was_not_seen_has_no_zeros() -> None:
    tree = changed(words=lambda d: d.assign_coords(seen=("word", [True] * 7 + [False])))
    with pytest.raises(SchemaError, match="must be NaN for a word that the model did not see"):
        schema.validate(tree, values=True)


def test_other_nodes_need_only_named_dimensions_and_storable_values() -> None:
    fine = xr.Dataset({"shap": ("word", np.ones(3)), "names": ("word", ["a", "b", "c"]), "n": ((), 4)})
    made = synthetic.explanation(more={"word_importance": fine, "segments/inner": xr.Dataset({"a": ("k", [1j])}).real})
    assert made.tree["word_importance"]["names"].values.tolist() == ["a", "b", "c"]
    unnamed = xr.DataArray(np.ones(3)).to_dataset(name="shap")
    with pytest.raises(SchemaError, match="/word_importance/shap has the unnamed dimension 'dim_0'"):
        synthetic.explanation(more={"word_importance": unnamed})
    with pytest.raises(SchemaError, match="values of type complex128"):
        synthetic.explanation(more={"odd": xr.Dataset({"a": ("k", [1j])})})


def test_known_names_below_other_nodes_are_free() -> None:
    free = xr.Dataset({"a": ("k", [1.0])})
    made = synthetic.explanation(more={"study/words": free, "words/by_step": free})
    assert set(made.summary()["nodes"]) == {"image", "words", "tokens", "study/words", "words/by_step"}
    nameless = synthetic.word_node(["red"])
    del nameless.attrs["unit"]
    with pytest.raises(SchemaError, match="node 'words' lacks the attribute 'unit'"):
        synthetic.explanation(more={"words": nameless, "words/by_step": free})
    broken = synthetic.word_node(["red"]).drop_vars("pos")
    with pytest.raises(SchemaError, match="lacks the coordinate 'pos'"):
        synthetic.explanation(more={"words": broken, "words/by_step": free})


def test_text_keeps_every_character_that_can_be_stored() -> None:
    texts = ["é", "😀", "שלום", "\u200b", "a\nb", "half \ud800 pair", ""]
    node = xr.Dataset({"said": ("word", np.array(texts))})
    made = synthetic.explanation(more={"odd": node})
    expected = [*texts[:5], "half \ufffd pair", ""]
    assert made.tree["odd"]["said"].values.tolist() == expected
    assert made.tree["odd"]["said"].dtype == schema.TEXT


def test_plain_values_are_what_json_has() -> None:
    given = {"a": np.float32(0.5), "b": (1, 2), "c": Path("x") / "y", "d": float("nan"), "e": {3, 1}, "f": np.arange(2)}
    assert schema.plain(given) == {"a": 0.5, "b": [1, 2], "c": "x/y", "d": None, "e": [1, 3], "f": [0, 1]}
    with pytest.raises(SchemaError, match=r"provenance\['model'\]\[0\] is of type object"):
        schema.plain({"model": [object()]}, "provenance")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    )
)
def test_plain_leaves_json_values_alone(value: object) -> None:
    assert schema.plain(value) == value


def test_normalising_twice_changes_nothing(made: Explanation) -> None:
    again = schema.normalise(made.tree)
    xr.testing.assert_identical(again, made.tree)
