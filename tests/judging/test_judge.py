"""Which maps are judged, on what, and beside which controls."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import sfumato
from sfumato.errors import OptionError, SfumatoError
from sfumato.generation.generate import generate
from sfumato.judging.games import judge_of, perturbation_curves
from sfumato.judging.judge import PlayedCurve, Verdict
from sfumato.judging.judge import judge as judged_by
from sfumato.judging.maps import saliencies
from sfumato.metrics.controls import control_map
from sfumato.results.explanation import Explanation
from sfumato.results.meaning import Meaning
from sfumato.results.upscale import resized
from sfumato.saliency.recovering import Recovery
from sfumato.similarity.clip import Clip
from tests.judging.test_games import curve
from tests.methods.steps import CLIP, GRIDS, REQUESTS, model_of
from tests.pipelines import fingerprint, stable_diffusion
from tests.results import synthetic

POINTS = 4
judge = partial(judged_by, clip=CLIP)


def with_node(explanation: Explanation, path: str, data: xr.Dataset) -> Explanation:
    """The same explanation with one node more."""
    nodes = {node.path: node.to_dataset(inherit=False) for node in explanation.tree.subtree}
    return Explanation(xr.DataTree.from_dict(nodes | {path: data}), explanation.request, explanation.provenance)


def maps(values: NDArray[Any], steps: list[int] | None = None) -> xr.Dataset:
    dims = ("y", "x") if steps is None else ("step", "y", "x")
    coords = {} if steps is None else {"step": steps}
    return xr.Dataset({"map": (dims, values, Meaning("map").attrs)}, coords=coords)


@pytest.fixture(scope="module")
def steps() -> Explanation:
    """Saliencies of two steps of a latent model."""
    return sfumato.explain(
        model_of("text"), REQUESTS["text"], "step_baselines", kinds=("gradient", "attention"), at=(0, 2)
    )


@pytest.fixture(scope="module")
def verdict(steps: Explanation) -> Verdict:
    model = model_of("text")
    before = fingerprint(model.pipeline)
    found = judge(model, [steps], points=POINTS)
    assert fingerprint(model.pipeline) == before
    return found


def test_words_are_summed_to_one_map_of_the_run() -> None:
    made = synthetic.explanation(unseen=2)
    (found,) = saliencies(made)
    assert (found.name, found.steps) == ("words", None)
    words = made.tree["words"]["map"].values
    np.testing.assert_allclose(found.maps, words[:-2].sum(0)[None], rtol=1e-6)


def test_maps_of_steps_are_kept_apart_and_named_without_their_parent() -> None:
    values = np.arange(2 * 6.0).reshape(2, 2, 3) - 3
    made = with_node(synthetic.explanation(), "/saliency/mine", maps(values, [4, 9]))
    made = with_node(made, "/elsewhere/other", maps(values[0]))
    found = {one.name: one for one in saliencies(made)}
    assert set(found) == {"words", "mine", "elsewhere/other"}
    assert found["mine"].steps == (4, 9)
    np.testing.assert_array_equal(found["mine"].maps, np.abs(values))  # how much, whichever way
    assert found["elsewhere/other"].steps is None
    assert found["elsewhere/other"].maps.shape == (1, 2, 3)


def test_word_maps_of_steps_are_summed_at_every_step() -> None:
    values = np.random.default_rng(0).random((3, 2, 4, 5))  # (word, step, y, x), in an order of its own
    data = xr.Dataset({"map": (("word", "step", "y", "x"), values, Meaning("map").attrs)}, coords={"step": [0, 5]})
    found = {one.name: one for one in saliencies(with_node(synthetic.explanation(), "/relevance", data))}["relevance"]
    assert found.steps == (0, 5)
    np.testing.assert_allclose(found.maps, values.sum(0))


def test_what_is_no_single_map_of_the_image_is_left_out() -> None:
    made = synthetic.explanation()
    channels = xr.Dataset({"map": (("channel", "y", "x"), np.zeros((3, 4, 4)))})
    made = with_node(made, "/activations/downs", channels)
    made = with_node(made, "/negative/words", synthetic.word_node(["dog"]))
    assert [one.name for one in saliencies(made)] == ["words"]


def test_other_names_of_maps_are_known() -> None:
    model = model_of("labels")
    mask = np.zeros((16, 16), bool)
    mask[4:6, 4:9] = True
    made = sfumato.explain(model, REQUESTS["labels"], "gradient_volume", mask=mask, mode="region", timesteps=(900, 100))
    (found,) = saliencies(made)
    assert found.name == "gradient_volume"
    np.testing.assert_allclose(found.maps, np.abs(made.tree["gradient_volume"]["region"].values))
    assert found.steps == tuple(made.tree["gradient_volume"]["step"].values.tolist())


def test_an_explanation_without_maps_is_refused() -> None:
    made = synthetic.explanation()
    bare = Explanation(xr.DataTree.from_dict({"image": made.tree["image"].to_dataset()}), made.request, {})
    with pytest.raises(SfumatoError, match="this explanation holds no map of the image; its nodes are: image"):
        saliencies(bare)
    with pytest.raises(SfumatoError, match="this explanation has 3 images; select one of them first"):
        saliencies(synthetic.explanation(images=3))


def test_a_map_is_resampled_to_the_latent() -> None:
    values = np.random.default_rng(0).random((2, 16, 24)) * 7 + 3
    (found,) = (
        one
        for one in saliencies(with_node(synthetic.explanation(), "/saliency/mine", maps(values, [1, 3])))
        if one.name == "mine"
    )
    assert found.at(2, (8, 12)) is None
    np.testing.assert_array_equal(found.at(3, (16, 24)), values[1])
    small = found.at(3, (8, 12))
    assert small is not None
    blocks = values[1].reshape(8, 2, 12, 2).mean((1, 3))
    np.testing.assert_allclose(small, blocks, rtol=1e-5)
    large = found.at(1, (32, 48))
    assert large is not None
    assert large.shape == (32, 48)
    assert values[0].min() - 1e-5 <= large.min() < large.max() <= values[0].max() + 1e-5
    low, spread = values[0].min(), np.ptp(values[0])
    np.testing.assert_allclose(large, low + spread * resized((values[0] - low) / spread, (32, 48)))
    flat = with_node(synthetic.explanation(), "/saliency/mine", maps(np.full((4, 4), 2.5)))
    np.testing.assert_array_equal(saliencies(flat)[-1].at(0, (8, 8)), np.full((8, 8), 2.5))


def test_every_map_is_played_beside_the_controls(verdict: Verdict) -> None:
    assert verdict.pairs() == [
        (game, measure) for game in ("deletion", "insertion") for measure in ("local_ssim", "features", "score")
    ]
    for pair in verdict.pairs():
        chosen = verdict.chosen(*pair)
        assert set(chosen) == {"gradient", "attention", "random", "centre"}
        assert all([(one.image, one.step) for one in rows] == [(0, 0), (0, 2)] for rows in chosen.values())
    assert verdict.skipped == ()
    for one in verdict.played:
        assert one.curve.shares.shape == (POINTS + 1,)
        assert np.isfinite(one.curve.values).all()
        if one.curve.measure != "score":
            ends = (one.curve.values[0], one.curve.values[-1])
            assert ends == pytest.approx((0, 1) if one.curve.game == "deletion" else (1, 0), abs=1e-4)


def test_the_curves_are_those_of_the_games(verdict: Verdict, steps: Explanation) -> None:
    model, request = model_of("text"), model_of("text").complete(REQUESTS["text"])
    recovery = Recovery(generate(model, request, record=True), 2)
    measures = judge_of(recovery, request.prompt, Clip())
    expected = {
        "gradient": steps.tree["saliency/gradient"]["map"].values[1],
        "random": control_map("random", GRIDS["text"], request.seed, 2),
    }
    for name, saliency in expected.items():
        for own in perturbation_curves(recovery, saliency, "insertion", measures, POINTS):
            (found,) = (
                one.curve
                for one in verdict.played
                if (one.map, one.step, one.curve.game, one.curve.measure) == (name, 2, "insertion", own.measure)
            )
            np.testing.assert_allclose(found.values, own.values, atol=1e-4)


def test_maps_of_the_whole_run_are_judged_at_the_usual_steps() -> None:
    model, request = model_of("text"), REQUESTS["text"]
    made = sfumato.explain(model, request, "daam")
    found = judge(model, [made], games=("deletion",), distances=("local_ssim",), points=POINTS, controls=("centre",))
    assert set(found.chosen("deletion", "local_ssim")) == {"words", "centre"}
    assert [one.step for one in found.chosen("deletion", "local_ssim")["words"]] == [0, 1, 2]


def test_steps_can_be_chosen_and_a_map_that_lacks_one_is_named(steps: Explanation) -> None:
    told: list[tuple[str, int, int]] = []
    found = judge(
        model_of("text"),
        [steps],
        games=("deletion",),
        distances=("local_ssim",),
        at=(2, 1),
        points=POINTS,
        progress=lambda *now: told.append(now),
    )
    assert [one.step for one in found.chosen("deletion", "local_ssim")["gradient"]] == [2]
    assert [one.step for one in found.chosen("deletion", "local_ssim")["random"]] == [1, 2]
    assert found.skipped == ("gradient has no map at step 1", "attention has no map at step 1")
    assert told[-1] == ("games", 1, 1)
    assert all(done <= total for _, done, total in told)


def test_maps_without_an_order_are_left_out_and_named(steps: Explanation) -> None:
    values = np.stack([np.ones(GRIDS["text"]), control_map("centre", GRIDS["text"], 0, 0)])
    made = with_node(steps, "/saliency/flat", maps(values, [0, 2]))
    found = judge(
        model_of("text"), [made], games=("deletion",), distances=("local_ssim",), points=2, controls=("whole image",)
    )
    assert found.skipped == (
        "flat is the same everywhere at step 0",
        "whole image is the same everywhere at step 0",
        "whole image is the same everywhere at step 2",
    )
    assert [one.step for one in found.chosen("deletion", "local_ssim")["flat"]] == [2]
    assert "whole image" not in found.chosen("deletion", "local_ssim")


def test_several_images_are_numbered(steps: Explanation) -> None:
    model = model_of("text")
    other = sfumato.explain(
        model, REQUESTS["text"].with_(prompt="a blue dog", seed=9), "step_baselines", kinds="gradient", at=(1,)
    )
    found = judge(model, [steps, other], games=("insertion",), distances=("clip",), points=2, controls=())
    rows = found.chosen("insertion", "clip")["gradient"]
    assert [(one.image, one.step) for one in rows] == [(0, 0), (0, 2), (1, 1)]
    area, _ = found.intervals("insertion", "clip")["gradient"]
    assert area.n == 3
    assert area.mean == pytest.approx(np.mean([one.curve.auc for one in rows]))
    shares, values = found.mean_curves("insertion", "clip")["gradient"]
    assert (shares.shape, values.shape) == ((3,), (3, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"games": ("removal",)}, "there is no game 'removal'; choose from: deletion, insertion"),
        ({"games": ()}, "no game is chosen; choose from: deletion, insertion"),
        ({"distances": ("fid",)}, "there is no distance 'fid'; choose from: local_ssim, features, clip"),
        ({"controls": ("noise",)}, "there is no control 'noise'; choose from: random, smooth random, centre"),
        ({"at": (3,)}, "at has 3; this run has steps 0 to 2"),
        ({"points": 0}, "points is 0; this latent has 96 places, so take 1 to 96"),
        ({"memory": 1e-6}, "memory is 1e-06 MB; one call of the denoiser takes up to"),
    ],
)
def test_what_cannot_be_played_is_refused(steps: Explanation, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        judge(model_of("text"), [steps], **changes)


def test_another_model_is_refused(steps: Explanation) -> None:
    other = sfumato.wrap(stable_diffusion(seed=1))
    with pytest.raises(SfumatoError, match=r"was made by .* with other weights than those of .*; give the model that"):
        judge(other, [steps])
    unsigned = Explanation(steps.tree, steps.request, {})
    played = judge(other, [unsigned], games=("deletion",), distances=("local_ssim",), at=(0,), points=1).played
    assert {one.map for one in played} == {"gradient", "attention", "random", "centre"}


def test_a_pixel_model_is_judged_without_a_score() -> None:
    model = model_of("labels")
    made = sfumato.explain(model, REQUESTS["labels"], "step_baselines", kinds="gradient", at=(2,))
    found = judge(model, [made], points=POINTS)
    assert found.pairs() == [
        (game, measure) for game in ("deletion", "insertion") for measure in ("local_ssim", "features")
    ]


def verdict_of(values: dict[str, list[float]]) -> Verdict:
    """Areas by map, in both games and measures, one image each."""
    return Verdict(
        tuple(
            PlayedCurve(image, 0, name, curve([area, area], game=game, measure=measure))  # type: ignore[arg-type]
            for game in ("deletion", "insertion")
            for measure in ("local_ssim", "score")
            for name, areas in values.items()
            for image, area in enumerate(areas)
        )
    )


def test_the_table_has_the_best_map_first() -> None:
    rows = verdict_of({"low": [0.1, 0.3], "high": [0.8, 0.8], "middle": [0.5, 0.5]}).rows()
    assert [(row["game"], row["measure"], row["better"]) for row in rows[::3]] == [
        ("deletion", "local_ssim", "higher"),
        ("deletion", "score", "lower"),
        ("insertion", "local_ssim", "lower"),
        ("insertion", "score", "higher"),
    ]
    names = [row["map"] for row in rows]
    assert names[:3] == names[9:] == ["high", "middle", "low"]
    assert names[3:6] == names[6:9] == ["low", "middle", "high"]
    assert str(rows[2]["area"]).startswith("0.200 [0.100, 0.300]")
    assert str(rows[2]["slope"]) == "0.000 [0.000, 0.000] (n=2)"


def test_gains_over_a_control_are_paired_and_positive_where_a_map_is_better() -> None:
    played = {"good": [0.6, 0.9], "random": [0.5, 0.8], "bad": [0.4, 0.7]}
    found = verdict_of(played)
    for game, measure, better in (
        ("deletion", "local_ssim", 1),
        ("deletion", "score", -1),
        ("insertion", "local_ssim", -1),
    ):
        gains = found.gains(game, measure, "random")
        assert set(gains) == {"good", "bad"}
        # the images differ by 0.3, the maps on each by 0.1: pairing leaves no spread
        assert gains["good"].low == pytest.approx(0.1 * better)
        assert gains["good"].high == pytest.approx(0.1 * better)
        assert gains["bad"].mean == pytest.approx(-0.1 * better)
    assert found.gains("deletion", "local_ssim", "centre") == {}
    rows = {row["map"]: row for row in found.rows()[:3]}
    assert str(rows["good"]["over random"]).startswith("0.100 [0.100, 0.100]")
    assert "over random" not in rows["random"]
    assert "over centre" not in rows["good"]


def test_curves_are_plain_numbers(verdict: Verdict) -> None:
    curves = json.loads(json.dumps(verdict.curves()))
    assert len(curves) == len(verdict.played) == 6 * 4 * 2
    for plain, one in zip(curves, verdict.played, strict=True):
        assert (plain["map"], plain["step"], plain["game"]) == (one.map, one.step, one.curve.game)
        np.testing.assert_allclose(plain["values"], one.curve.values, atol=1e-5)
        np.testing.assert_allclose(plain["shares"], one.curve.shares, atol=1e-5)
