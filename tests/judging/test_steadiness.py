"""Explanations made once more: from other seeds, with a little other noise, and the same bit by bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import sfumato
from sfumato.errors import SfumatoError, SfumatoWarning, UnknownMethod
from sfumato.judging import steadiness
from sfumato.judging.again import again, methods_of
from sfumato.judging.steadiness import noise, other_seeds, seeds
from sfumato.methods.daam import select
from sfumato.metrics import rank_correlation
from sfumato.models.model import Model
from sfumato.request import SEEDS, Request
from sfumato.results.explanation import Explanation
from sfumato.results.joining import join
from sfumato.results.meaning import Meaning
from sfumato.results.opening import open as open_explanation
from tests.judging.made_up import GRID, REQUEST, explained, pattern, patterns, shared, stepped
from tests.labels import REQUEST as LABEL
from tests.methods.steps import model_of
from tests.pipelines import fingerprint
from tests.results import synthetic

Again = Callable[[Model, Explanation, Request], Explanation]


@pytest.fixture
def made_again(monkeypatch: pytest.MonkeyPatch) -> Callable[[Again], None]:
    """Lets a function stand for making an explanation again."""
    return lambda function: monkeypatch.setattr(steadiness, "again", function)


def assert_alike(one: Explanation, other: Explanation) -> None:
    """The same nodes with the same bits."""
    assert [node.path for node in one.tree.subtree] == [node.path for node in other.tree.subtree]
    for node in one.tree.subtree:
        assert node.to_dataset(inherit=False).identical(other.tree[node.path].to_dataset(inherit=False)), node.path
    assert one.request == other.request


# made again


@pytest.mark.parametrize(
    ("kind", "method", "options"),
    [
        ("text", "daam", {}),
        ("text", "daam", {"keep": ("step", "head"), "steps": (0, 2), "normalise": True, "threshold": 0.4}),
        ("text", "daam", {"layers": "up_blocks", "budget_mb": 50.0}),
        ("text", "step_baselines", {"kinds": ("gradient", "attention"), "at": (0, 2)}),
        ("text", "ovam", {"text": ("cat", "crown"), "activation": "linear"}),
        ("labels", "step_baselines", {"kinds": ("gradient",), "at": (1, 3)}),
        ("labels", "profile", {"objects": ("samples", "clean", "attention"), "every": 2}),
        ("labels", "switch", {"to": "1100"}),
    ],
)
def test_the_same_request_gives_the_same_bits(kind: str, method: str, options: dict[str, Any], tmp_path: Path) -> None:
    model, request = model_of(kind), LABEL if kind == "labels" else REQUEST.with_(steps=3)
    made = sfumato.explain(model, request, method, **options)
    before = fingerprint(model.pipeline)
    found = again(model, made, request)
    assert fingerprint(model.pipeline) == before
    assert_alike(found, made)
    assert found.provenance["options"] == made.provenance["options"]
    made.save(tmp_path / "stored.zarr")
    assert_alike(again(model, open_explanation(tmp_path / "stored.zarr"), made.request), made)


def test_joined_methods_are_made_again_and_joined() -> None:
    model = model_of("text")
    parts = [
        sfumato.explain(model, REQUEST, "daam", keep=("step",)),
        sfumato.explain(model, REQUEST, "step_baselines", kinds=("gradient",), at=(1,)),
    ]
    made = join(parts)
    (first, own), (second, others) = methods_of(made)
    assert (first, second) == ("daam", "step_baselines")
    assert (own["keep"], others["kinds"], others["at"]) == (("step",), ("gradient",), (1,))
    found = again(model, made, REQUEST)
    assert_alike(found, made)
    assert found.provenance["method"] == "daam, step_baselines"


def test_another_request_gives_what_explain_gives() -> None:
    model, made = model_of("text"), sfumato.explain(model_of("text"), REQUEST, "daam", normalise=True)
    other = REQUEST.with_(seed=9, prompt="a blue dog")
    assert_alike(again(model, made, other), sfumato.explain(model, other, "daam", normalise=True))


def test_nothing_is_streamed_once_more(tmp_path: Path) -> None:
    model, folder = model_of("labels"), tmp_path / "streamed"
    made = sfumato.explain(model, LABEL, "profile", objects=("samples",), stream=str(folder)).load()
    assert made.provenance["options"]["stream"] == str(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    found = again(model, made, LABEL)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert found.provenance["options"] == made.provenance["options"] | {"stream": None}
    assert_alike(found, made)


def test_what_is_to_be_noted_is_said_once() -> None:
    request = REQUEST.with_(prompt="cat " * 80)
    with pytest.warns(SfumatoWarning, match="cut off after 77 tokens"):
        made = sfumato.explain(model_of("text"), request)
    assert_alike(again(model_of("text"), made, request), made)  # where a warning is an error


@pytest.mark.parametrize(
    "provenance",
    [{}, {"method": "daam"}, {"options": {}}, {"method": None, "options": {}}, {"method": "daam", "options": "x=1"},
     {"parts": [{"method": "daam", "options": {}}, {"paper": "?"}]}],
)  # fmt: skip
def test_without_a_method_nothing_can_be_made_again(provenance: dict[str, Any]) -> None:
    made = explained()
    bare = Explanation(made.tree, made.request, provenance)
    with pytest.raises(SfumatoError, match="does not say which method made it, so it cannot be made again"):
        again(model_of("text"), bare, REQUEST)


def test_unknown_methods_and_selections_are_refused() -> None:
    made = explained()
    with pytest.raises(UnknownMethod, match="there is no method 'magic'; choose from: ablation"):
        methods_of(Explanation(made.tree, made.request, {"method": "magic", "options": {}}))
    kept = sfumato.explain(model_of("text"), REQUEST, keep=("step",))
    with pytest.raises(SfumatoError, match="is a selection of steps, layers or heads; check the one that it is of"):
        methods_of(select(kept, steps=[0]))


# other seeds


def test_the_seeds_that_follow_are_taken(made_again: Callable[[Again], None]) -> None:
    asked: list[Request] = []

    def note(model: Model, explanation: Explanation, request: Request) -> Explanation:
        asked.append(request)
        return explanation

    made_again(note)
    told: list[tuple[str, int, int]] = []
    found = other_seeds(model_of("text"), explained(), 3, lambda *now: told.append(now))
    assert len(found) == 3
    assert [request.seed for request in asked] == [3, 4, 5]
    assert {request.with_(seed=0) for request in asked} == {model_of("text").complete(REQUEST.with_(seed=0))}
    assert told == [("other seeds", number, 3) for number in (1, 2, 3)]
    asked.clear()
    other_seeds(model_of("text"), explained(request=REQUEST.with_(seed=SEEDS - 1)), 3)
    noise(model_of("text"), explained(request=REQUEST.with_(seed=SEEDS - 1)), [], repeats=3)
    for used in ([request.seed for request in asked[:3]], [(one.variation or (SEEDS - 1, 0))[0] for one in asked[3:]]):
        assert len({*used, SEEDS - 1}) == 4  # after the last seed come the first ones


def test_what_no_seed_changes_is_steady() -> None:
    rows, nodes = seeds(explained(), [explained(request=REQUEST.with_(seed=seed)) for seed in (3, 4)])
    shares, maps = rows
    assert shares.number == "how far shares move by seed"
    assert (shares.value.mean, shares.value.high) == pytest.approx((0, 0))
    assert shares.control.mean > 0
    assert shares.verdict == "passed"
    assert (maps.number, maps.against) == ("rank agreement by seed", "maps of other words")
    assert maps.value[:3] == pytest.approx((1, 1, 1))
    assert maps.value.n == 3 * 5  # pairs of seeds, for each word
    known = list(patterns().values())
    others = [rank_correlation(a, b) for a in known for b in known if a is not b]
    assert maps.control.mean == pytest.approx(np.mean(others), abs=1e-6)
    assert maps.verdict == "passed"
    node = nodes["shares_by_seed"]
    assert node["share"].shape == (3, 5)
    assert node["seed"].values.tolist() == [2, 3, 4]
    assert node["word"].values.tolist() == ["red", "cat", ",", "dog", "left"]
    np.testing.assert_allclose(node["share"].sum("word"), 1)


def test_how_far_shares_move_is_the_mean_deviation() -> None:
    others = [shared({"red": 0.8, "cat": 0.2}), shared({"red": 0.7, "cat": 0.3})]
    rows, nodes = seeds(shared({"red": 0.6, "cat": 0.4}), others)
    row = rows[0]
    assert row.value.mean == pytest.approx(0.2 / 3)  # 0.7 and 0.3 in the mean; 0.1, 0.1 and 0 off
    assert row.control.mean == pytest.approx(0.2)
    assert row.gain.mean == pytest.approx(0.2 / 3 - 0.2)
    assert (row.against, row.wanted) == ("how far words are apart", "below")
    assert row.verdict == "inconclusive"  # of two words
    np.testing.assert_allclose(nodes["shares_by_seed"]["share"], [[0.6, 0.4], [0.8, 0.2], [0.7, 0.3]])


def test_shares_that_move_as_far_as_words_are_apart_mean_nothing() -> None:
    rows, _ = seeds(shared({"red": 0.9, "cat": 0.1}), [shared({"red": 0.1, "cat": 0.9})])
    assert rows[0].value.mean == pytest.approx(0.4)
    assert rows[0].control.mean == pytest.approx(0)
    assert rows[0].gain.low > 0
    assert rows[0].verdict == "inconclusive"  # of two words
    assert (rows[1].against, rows[1].value.mean, rows[1].value.n) == ("random maps", pytest.approx(-1), 1)
    assert rows[1].verdict == "inconclusive"


def test_worths_without_shares_are_compared_all_the_same() -> None:
    own, other = shared({"red": 0.3, "cat": 0.2, "dog": 0.1}), shared({"red": 0.1, "cat": -0.2, "dog": -0.3})
    rows, nodes = seeds(own, [other])
    assert nodes == {}
    (row,) = rows
    assert (row.value.mean, row.value.n) == (pytest.approx(1), 1)
    rows, _ = seeds(other, [own])
    assert rows[0].value.mean == pytest.approx(1)


def test_maps_that_another_seed_gives_to_other_words_fail() -> None:
    maps = patterns()
    turned = dict(zip(maps, [*list(maps.values())[1:], maps["red"]], strict=True))
    _, row = seeds(explained(maps), [explained(turned)])[0]
    assert row.value.mean < 0.2
    assert row.gain.mean < 0
    assert row.verdict == "failed"


def test_the_only_map_is_compared_with_random_ones() -> None:
    one = {"red": pattern(0)}
    rows, _ = seeds(explained(one), [explained(one)] * 4)
    assert rows[-1].against == "random maps"
    assert rows[-1].value.mean == pytest.approx(1)
    assert abs(rows[-1].control.mean) < 0.2
    assert (rows[-1].value.n, rows[-1].verdict) == (10, "passed")


def test_maps_of_steps_have_no_shares() -> None:
    made = stepped([pattern(0), pattern(1)])
    rows, nodes = seeds(made, [stepped([pattern(0), pattern(2)])])
    assert nodes == {}
    (row,) = rows
    assert row.against == "the other maps"
    assert row.value.mean == pytest.approx((1 + rank_correlation(pattern(1), pattern(2))) / 2, abs=1e-6)


def test_maps_on_grids_of_their_own_are_compared_with_those_on_the_same() -> None:
    def made(*numbers: int) -> Explanation:
        one, other = stepped([pattern(number) for number in numbers]), pattern(9, (3, 4)).astype(np.float32)
        nodes = {node.path: node.to_dataset(inherit=False) for node in one.tree.subtree}
        nodes["/saliency/small"] = xr.Dataset({"map": (("y", "x"), other, Meaning("map").attrs)})
        return Explanation(xr.DataTree.from_dict(nodes), one.request, one.provenance)

    rows, _ = seeds(made(0, 1), [made(0, 2)])
    (row,) = rows
    assert row.value.n == 3
    assert row.value.mean == pytest.approx((2 + rank_correlation(pattern(1), pattern(2))) / 3, abs=1e-6)


def test_words_that_one_seed_lacks_are_not_compared() -> None:
    fewer = {name: heat for name, heat in patterns().items() if name != "cat"}
    rows, nodes = seeds(explained(), [explained(fewer)])
    assert nodes == {}
    assert [row.value.n for row in rows] == [4]


def test_maps_without_an_order_are_not_counted() -> None:
    flat = patterns() | {"cat": np.ones(GRID)}
    rows, _ = seeds(explained(flat), [explained(flat)])
    assert rows[-1].value.n == rows[-1].control.n == 4
    assert math.isfinite(rows[-1].control.mean)


# noise


def test_the_largest_change_of_a_map_under_little_noise(made_again: Callable[[Again], None]) -> None:
    asked: list[Request] = []
    factors = {3: 1.1, 4: 0.7, 5: 1.2}

    def moved(model: Model, explanation: Explanation, request: Request) -> Explanation:
        asked.append(request)
        assert request.variation is not None
        return explained({name: heat * factors[request.variation[0]] for name, heat in patterns().items()})

    made_again(moved)
    told: list[tuple[str, int, int]] = []
    others = [explained({name: heat * factor for name, heat in patterns().items()}) for factor in (1.5, 3.0)]
    (row,) = noise(
        model_of("text"), explained(), others, repeats=3, strength=0.2, progress=lambda *now: told.append(now)
    )
    assert row.value[:3] == pytest.approx((0.3, 0.3, 0.3), abs=1e-6)
    assert row.control[:3] == pytest.approx((2, 2, 2), abs=1e-6)
    assert row.number == "largest change at 0.2 of the noise"
    assert (row.check, row.against, row.wanted) == ("noise", "noise of another seed", "below")
    assert (row.value.n, row.verdict) == (5, "passed")
    assert [request.variation for request in asked] == [(3, 0.2), (4, 0.2), (5, 0.2)]
    assert {request.with_(variation=None) for request in asked} == {model_of("text").complete(REQUEST)}
    assert told == [("changed noise", number, 3) for number in (1, 2, 3)]


def test_maps_that_no_noise_moves(made_again: Callable[[Again], None]) -> None:
    made_again(lambda model, explanation, request: explanation)
    (row,) = noise(model_of("text"), explained(), [explained({name: 2 * heat for name, heat in patterns().items()})])
    assert row.value[:3] == (0, 0, 0)
    assert row.control.mean == pytest.approx(1)
    assert row.verdict == "passed"
    assert row.number == "largest change at 0.05 of the noise"


def test_maps_that_move_as_with_another_seed_fail(made_again: Callable[[Again], None]) -> None:
    made_again(lambda model, explanation, request: explained({n: 3 * heat for n, heat in patterns().items()}))
    (row,) = noise(model_of("text"), explained(), [explained({name: 2 * heat for name, heat in patterns().items()})])
    assert (row.value.mean, row.control.mean) == (pytest.approx(2), pytest.approx(1))
    assert row.verdict == "failed"


def test_maps_of_nothing_and_words_that_are_gone_are_not_counted(made_again: Callable[[Again], None]) -> None:
    fewer = {name: heat for name, heat in patterns().items() if name != "dog"}
    made_again(lambda model, explanation, request: explained(fewer))
    (row,) = noise(model_of("text"), explained(patterns() | {"cat": np.zeros(GRID)}), [explained()])
    assert row.value.n == row.control.n == 3


def test_a_little_noise_moves_the_maps_of_a_model_a_little() -> None:
    model = model_of("text")
    made = sfumato.explain(model, REQUEST)
    before = fingerprint(model.pipeline)
    (row,) = noise(model, made, other_seeds(model, made, 2), repeats=2)
    assert fingerprint(model.pipeline) == before
    assert 0 < row.value.mean < row.control.mean


def test_prompts_read_by_no_model_can_be_compared_too() -> None:
    rows, _ = seeds(synthetic.explanation(), [synthetic.explanation(seed=8)])
    assert [row.verdict for row in rows] == ["passed", "passed"]
