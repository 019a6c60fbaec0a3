"""DF-RISE as a method: its node is the estimator's answer on what the steps recover, and nothing is left behind."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import sfumato
from sfumato.errors import ModelError, NonFinite, OptionError, SfumatoError
from sfumato.generation.feature_layers import layers_of
from sfumato.generation.generate import generate
from sfumato.generation.trace import Trace
from sfumato.methods.df_rise import CHOICES
from sfumato.models import noise
from sfumato.registry import find
from sfumato.results.explanation import Explanation
from sfumato.saliency.occlusion import Masks
from sfumato.saliency.recovering import Recovery
from sfumato.saliency.similarities import local_similarity, parity
from tests.methods.steps import (
    CLIP,
    GRIDS,
    KINDS,
    REQUESTS,
    assert_steps,
    in_precision,
    model_of,
    not_a_number,
    watched,
    without_clean_estimate,
)
from tests.pipelines import fingerprint


def node(explanation: Explanation) -> xr.Dataset:
    return explanation.tree["saliency/df_rise"].to_dataset()


@cache
def explained(kind: str = "labels", **options: Any) -> xr.Dataset:
    return node(sfumato.explain(model_of(kind), REQUESTS[kind], "df_rise", **{"masks": 16, "at": (1,)} | options))


def for_rows(count: int, kind: str = "labels") -> float:
    """Memory, in MB, for so many rows at a time."""
    model = model_of(kind)
    each = sum(layer.bytes for layer in layers_of(model, model.complete(REQUESTS[kind])))
    return (count + 0.5) * each / 1e6


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_has_maps_of_its_steps(kind: str) -> None:
    data = node(watched(kind, "df_rise", masks=8, at=(2, 0)))
    assert_steps(data, kind, [0, 2])
    assert data["error"].dims == ("step", "y", "x")
    assert data["masks"].values.tolist() == [8, 8]
    assert (data["score"].values < 1).all()
    expected = data["error"].values.mean((1, 2)) / np.ptp(data["map"].values, axis=(1, 2))
    np.testing.assert_allclose(data["relative_error"], expected, rtol=1e-4)
    told = {"method": "df_rise", "target": "x0", "similarity": "structure", "masking": "iid"}
    assert told.items() <= data.attrs.items()
    assert (np.ptp(data["map"].values, axis=(1, 2)) > 0).all()


def clean_by_hand(trace: Trace, output: torch.Tensor, sample: torch.Tensor, timestep: float) -> torch.Tensor:
    alpha = trace.scheduler.alphas_cumprod[round(timestep)]
    if trace.scheduler.config.prediction_type == "v_prediction":
        return alpha.sqrt() * sample - (1 - alpha).sqrt() * output
    return (sample - (1 - alpha).sqrt() * output) / alpha.sqrt()


def guided_by_hand(trace: Trace, step: int, samples: torch.Tensor) -> torch.Tensor:
    """Outputs of the denoiser, a row at a time, guidance applied."""
    call, scale, found = trace.call(step), trace.requests[0].guidance or 1.0, []
    for sample in samples:
        with torch.no_grad():
            if call.condition is None or scale <= 1:
                condition = () if call.condition is None else (call.condition[-1:],)
                found.append(trace.model.denoiser(sample[None], call.timestep, *condition).sample)
                continue
            both = torch.stack((sample, sample))
            plain, told = trace.model.denoiser(both, call.timestep, call.condition).sample.split(1)
        found.append(plain + scale * (told - plain))
    return torch.cat(found)


@pytest.mark.parametrize("target", CHOICES["target"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_map_is_the_mean_over_masks_by_hand(kind: str, target: str) -> None:
    trace = generate(model_of(kind), REQUESTS[kind], record=True)
    found = explained(kind, target=target, masks=12).isel(step=0)
    sample, timestep = trace.call(1).sample[-1:], trace.call(1).timestep
    masks = Masks("iid", GRIDS[kind], 0.5, 7, REQUESTS[kind].seed * 1009 + 1).draw(12)
    samples = sample * masks[:, None]
    own, outputs = guided_by_hand(trace, 1, sample), guided_by_hand(trace, 1, samples)
    if target == "parity" and kind == "unconditional":
        following = noise.previous(trace.scheduler, own, sample, timestep)  # its own step adds noise
        similarity = parity(following, outputs)
    elif target == "parity":
        similarity = parity(trace.call(2).sample[-1:], outputs)  # the next latent of the run itself
    else:
        one, others = own, outputs
        if target == "x0":
            one, others = (clean_by_hand(trace, *pair, timestep) for pair in ((own, sample), (outputs, samples)))
        elif kind == "velocity":
            alpha = trace.scheduler.alphas_cumprod[round(timestep)]
            one, others = (alpha.sqrt() * a + (1 - alpha).sqrt() * b for a, b in ((own, sample), (outputs, samples)))
        similarity = local_similarity("structure", one, others)
    kept = masks.sum(0).clamp(min=1)
    np.testing.assert_allclose(found["map"], (masks * similarity).sum(0) / kept, rtol=1e-3, atol=2e-4)
    assert float(found["score"]) == pytest.approx(float(similarity.mean()), rel=1e-3, abs=2e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_scheduler_that_scales_its_input_is_masked_after_that() -> None:
    request = REQUESTS["text"].with_(scheduler="euler")
    trace = generate(model_of("text"), request, record=True)
    found = node(sfumato.explain(model_of("text"), request, "df_rise", masks=6, at=0, target="parity")).isel(step=0)
    masks = Masks("iid", GRIDS["text"], 0.5, 7, request.seed * 1009).draw(6)
    first, second = (noise.input_scale(trace.scheduler, trace.call(step).timestep) for step in (0, 1))
    assert first < 0.1 < second < 0.9
    following = trace.call(1).sample[-1:] / second
    similarity = parity(following, guided_by_hand(trace, 0, trace.call(0).sample[-1:] * masks[:, None]))
    kept = masks.sum(0).clamp(min=1)
    np.testing.assert_allclose(found["map"], (masks * similarity).sum(0) / kept, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("masking", CHOICES["masking"])
def test_maps_do_not_depend_on_the_batch(masking: str) -> None:
    options: dict[str, Any] = {"masking": masking, "masks": 12, "grid": 4}
    whole, parts = explained("text", **options), explained("text", **options, memory=for_rows(5, "text"))
    assert not parts["map"].equals(whole["map"])  # other batches are rounded in another way
    np.testing.assert_allclose(parts["map"], whole["map"], rtol=1e-4, atol=1e-5)
    assert parts["masks"].equals(whole["masks"])
    assert explained("text", **options, memory=1e7)["map"].equals(whole["map"])


def test_maps_do_not_depend_on_what_else_is_explained() -> None:
    requests = [REQUESTS["labels"].with_(seed=9), REQUESTS["labels"]]
    other, same = sfumato.explain(model_of("labels"), requests, "df_rise", masks=16, at=(1,))
    xr.testing.assert_identical(node(same), explained())
    assert not np.allclose(node(other)["map"], node(same)["map"], atol=1e-2)


def test_masks_differ_from_step_to_step() -> None:
    both = explained(masks=3, at=(1, 4))
    one, other = (both["map"].values[place] == 0 for place in (0, 1))  # where no mask kept a place
    assert one.any()
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("similarity", [name for name in CHOICES["similarity"] if name != "perceptual"])
def test_every_similarity_weighs_the_masks_in_its_own_way(similarity: str) -> None:
    found = explained(similarity=similarity)
    assert found.attrs["similarity"] == similarity
    assert -1 <= float(found["score"][0]) < 1
    if similarity != "structure":
        assert not np.allclose(found["map"], explained()["map"], atol=1e-2)


def test_decoded_images_can_be_compared_by_their_features() -> None:
    found = explained("text", similarity="perceptual", masks=6, clip_model=CLIP)
    assert found["map"].shape == (1, 8, 12)
    assert 0 < float(found["score"][0]) <= 1
    nearly_all = explained("text", similarity="perceptual", masks=6, keep=0.995, clip_model=CLIP)
    assert float(nearly_all["score"][0]) > float(found["score"][0])


def test_what_keeps_more_stays_more_alike() -> None:
    scores = [float(explained(keep=keep)["score"][0]) for keep in (0.1, 0.5, 0.97)]
    assert scores == sorted(scores)
    assert scores[2] - scores[0] > 0.05


def test_smooth_masks_give_a_smooth_map_around_zero() -> None:
    found = explained(masking="grid", grid=3, masks=40)["map"].values[0]
    single = explained()["map"].values[0]
    assert found.min() < 0 < found.max()
    roughness = [np.abs(np.diff(one)).mean() / np.ptp(one) for one in (found, single)]
    assert roughness[0] < 0.5 * roughness[1]


def test_the_conditional_branch_is_that_of_guidance_one() -> None:
    request = REQUESTS["labels"]
    alone = explained(branch="conditional", at=(0,))  # later samples were made with guidance
    plain = node(sfumato.explain(model_of("labels"), request.with_(guidance=1.0), "df_rise", masks=16, at=(0,)))
    np.testing.assert_allclose(alone["map"], plain["map"], atol=1e-5)
    assert not np.allclose(alone["map"], explained(at=(0,))["map"], atol=1e-3)


def test_without_steps_three_of_the_run_are_taken() -> None:
    found = sfumato.explain(model_of("labels"), REQUESTS["labels"].with_(steps=8), "df_rise", masks=2)
    assert node(found)["step"].values.tolist() == [2, 4, 6]
    once = sfumato.explain(model_of("labels"), REQUESTS["labels"].with_(steps=1), "df_rise", masks=2)
    assert node(once)["step"].values.tolist() == [0]


def test_it_stops_when_it_is_sure_enough() -> None:
    found = explained(masks=200, until=1.0, memory=for_rows(30), at=(1, 2), branch="conditional")
    assert found["masks"].values.tolist() == [90, 90]  # the first batch after 64
    assert explained(masks=66, until=1e-9)["masks"].values.tolist() == [66]


@pytest.mark.parametrize(("branch", "branches"), [("guided", 2), ("conditional", 1)])
def test_the_calls_are_counted_and_foretold(branch: str, branches: int) -> None:
    model, request = model_of("labels"), model_of("labels").complete(REQUESTS["labels"])
    rows = 0

    def count(module: Any, args: Any, output: Any) -> None:
        nonlocal rows
        rows += len(output[0])

    hook = model.denoiser.register_forward_hook(count)
    found = explained(branch=branch, at=(1, 3))
    hook.remove()
    assert found.attrs["denoiser_calls"] == 2 * (16 + 1) * branches
    pictures = 2 * branches
    others = 2 * 6 + 2  # the generation, and one call that tells how much memory a row takes
    assert found.attrs["denoiser_calls"] == rows - others - pictures
    method = find("df_rise")
    cost = method.cost(model, request, method.configure({"branch": branch, "at": (1, 3), "masks": 16}))
    assert f"then {2 * 18 * branches} calls for 16 masks at 2 steps" in cost
    assert "then up to" in method.cost(model, request, method.configure({"until": 0.1}))


def test_progress_ends_with_all_masks_done() -> None:
    told: list[tuple[str, int, int]] = []
    sfumato.explain(
        model_of("labels"),
        REQUESTS["labels"],
        "df_rise",
        progress=lambda *now: told.append(now),
        masks=10,
        at=(1, 3),
        memory=for_rows(4),
    )
    masks = [(done, total) for name, done, total in told if name == "masks"]
    assert masks == [(done, 20) for done in (4, 8, 10, 14, 18, 20, 20)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": (6,)}, "at has 6; this run has steps 0 to 5"),
        ({"at": (-1,)}, "at is -1; expected a whole number from 0 to 1000"),
        ({"at": True}, "at is True; expected a whole number from 0 to 1000"),
        ({"at": "middle"}, "at is 'middle'; expected a whole number from 0 to 1000"),
        ({"at": 1.5}, "at is 1.5; expected a whole number"),
        ({"masks": 0}, "masks is 0; expected a whole number from 1 to 100000"),
        ({"masks": 2.5}, "masks is 2.5; expected a whole number from 1 to 100000"),
        ({"masks": True}, "masks is True; expected a whole number from 1 to 100000"),
        ({"keep": 0}, "keep is 0; expected a number between 0 and 1, both excluded"),
        ({"keep": 1}, "keep is 1; expected a number between 0 and 1"),
        ({"keep": float("nan")}, "keep is nan; expected a number between 0 and 1"),
        ({"masking": "grid", "grid": 17}, "grid is 17; the latent has 16 x 16 places, give 16 or fewer"),
        ({"grid": 0}, "grid is 0; expected a whole number from 1 to 1024"),
        ({"until": 0}, "until is 0; expected a number above 0"),
        ({"memory": 0}, "memory is 0; expected a number above 0, at most 10000000"),
        ({"memory": 1e-6}, "memory is 1e-06 MB; one call of the denoiser takes up to"),
        ({"masking": "blobs"}, "masking is 'blobs'; choose from: iid, grid"),
        ({"target": "x1"}, "target is 'x1'; choose from: x0, eps, parity"),
        ({"similarity": "fid"}, "similarity is 'fid'; choose from: structure, local_ssim, luminance"),
        ({"branch": "negative"}, "branch is 'negative'; choose from: guided, conditional"),
        ({"target": "parity", "similarity": "local_ssim"}, "target=parity compares by structure alone"),
        ({"target": "eps", "similarity": "perceptual"}, "similarity is 'perceptual', which looks at images"),
        ({"similarity": "perceptual"}, "has no decoder; take structure, local_ssim, luminance, contrast or cosine"),
        ({"samples": 3}, "df_rise has no option 'samples'"),
    ],
)
def test_wrong_options_say_what_to_do(options: dict[str, Any], message: str) -> None:
    before = fingerprint(model_of("labels").pipeline)
    with pytest.raises(OptionError, match=re.escape(message)):
        explained(**options)
    assert fingerprint(model_of("labels").pipeline) == before


def test_several_images_are_refused() -> None:
    with pytest.raises(OptionError, match="df_rise looks at one image; explain each seed by itself"):
        sfumato.explain(model_of("labels"), REQUESTS["labels"].with_(images=2), "df_rise")


@pytest.mark.parametrize(
    ("target", "dtype"), [("x0", torch.float16), ("x0", torch.bfloat16), ("parity", torch.float16)]
)
def test_half_precision_works_or_says_what_is_wrong(target: str, dtype: torch.dtype) -> None:
    model = in_precision(dtype)
    found = node(sfumato.explain(model, REQUESTS["text"], "df_rise", masks=8, at=(1,), target=target))
    assert found["map"].dtype == np.float32
    whole = explained("text", masks=8, target=target)
    tolerance = 0.05 if dtype == torch.float16 else 0.3
    np.testing.assert_allclose(found["map"], whole["map"], atol=tolerance)


@pytest.mark.parametrize("kind", ["text", "labels"])
@pytest.mark.parametrize("after", [2, 1_000])
def test_outputs_that_are_not_finite_are_an_error(kind: str, after: int) -> None:
    model, steps = model_of(kind), REQUESTS[kind].steps or 0
    before = fingerprint(model.pipeline)
    # at the second step, or once all steps are done and the masked latents come
    with not_a_number(model, min(after, 1 + steps + 2)), pytest.raises(NonFinite, match=r"at step \d") as error:
        explained.__wrapped__(kind)  # never what is remembered
    assert ("the denoiser's output is NaN or infinite at step 1" in str(error.value)) == (after > 2)
    assert fingerprint(model.pipeline) == before


@pytest.mark.parametrize("target", CHOICES["target"])
@pytest.mark.parametrize("kind", ["text", "labels"])
def test_a_scheduler_without_a_clean_estimate_is_refused(kind: str, target: str) -> None:
    model = without_clean_estimate(kind)
    before = fingerprint(model.pipeline)
    with pytest.raises(ModelError, match="EDMEulerScheduler has no clean estimate; take the scheduler ddim, ddpm or"):
        sfumato.explain(model, REQUESTS[kind], "df_rise", masks=4, at=(1,), target=target)
    assert fingerprint(model.pipeline) == before


def test_a_recovery_knows_its_step() -> None:
    trace = generate(model_of("labels"), REQUESTS["labels"], record={1, 3})
    recovery = Recovery(trace, 3)
    np.testing.assert_array_equal(recovery.sample, trace.call(3).sample[1:])
    expected = clean_by_hand(trace, guided_by_hand(trace, 3, recovery.sample), recovery.sample, recovery.timestep)
    np.testing.assert_allclose(recovery.clean, expected, atol=1e-4)
    pixels = ((expected[0].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0)
    assert float((torch.from_numpy(recovery.picture.astype(np.float32)) - pixels).abs().max()) <= 0.51
    mask = torch.zeros(1, *recovery.grid)
    mask[0, 3:5] = 1
    mixed = recovery.masked(mask, 7.0)
    np.testing.assert_array_equal(mixed[0, :, 3:5], recovery.sample[0, :, 3:5])
    assert set(mixed[0, :, [0, 1, 2, 5]].unique().tolist()) == {7.0}
    with pytest.raises(SfumatoError, match="there is no step 2; this run has steps 1 to 3"):
        Recovery(trace, 2)
