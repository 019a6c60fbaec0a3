"""The baselines as a method: a node for each, the controls as they are scored elsewhere, attention as DAAM adds it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import sfumato
from sfumato.errors import ModelError, NonFinite, OptionError
from sfumato.generation.generate import generate
from sfumato.methods.step_baselines import KINDS as BASELINES
from sfumato.metrics.controls import control_map
from sfumato.registry import find
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import bicubic
from sfumato.saliency import baselines
from sfumato.saliency.recovering import Recovery
from tests.generation.recorders.explicit_attention import written_out
from tests.methods.steps import (
    GRIDS,
    REQUESTS,
    assert_steps,
    in_precision,
    model_of,
    not_a_number,
    watched,
    without_clean_estimate,
)
from tests.pipelines import fingerprint, stable_diffusion

PIXEL = tuple(kind for kind in BASELINES if kind != "attention")


def nodes(explanation: Explanation) -> dict[str, xr.Dataset]:
    return {name: one.to_dataset() for name, one in explanation.tree["saliency"].children.items()}


@cache
def explained(kind: str = "labels", **options: Any) -> dict[str, xr.Dataset]:
    given = {"at": (1,), "samples": 16} | options
    return nodes(sfumato.explain(model_of(kind), REQUESTS[kind], "step_baselines", **given))


@pytest.mark.parametrize("kind", ["text", "labels", "unconditional"])
def test_every_kind_of_model_has_all_baselines_that_it_can_have(kind: str) -> None:
    found = nodes(watched(kind, "step_baselines", at=(2, 0), samples=12))
    assert tuple(found) == (BASELINES if kind == "text" else PIXEL)
    for name, data in found.items():
        assert_steps(data, kind, [0, 2])
        assert data.attrs["method"] == name
        assert (np.ptp(data["map"].values, axis=(1, 2)) > 0).all(), name
    branches = 1 if kind == "unconditional" else 2
    calls = {name: data.attrs["denoiser_calls"] for name, data in found.items()}
    assert (calls["gradient"], calls["integrated_gradients"]) == (2, 2 * baselines.INTEGRATED)
    assert 2 * branches < calls["lime"] <= 2 * (12 + 1) * branches  # of few superpixels there are fewer coalitions
    assert not calls["random"] + calls["centre"] + calls.get("attention", 0)


def test_controls_are_those_of_the_metrics() -> None:
    found = explained(at=(1, 4), kinds=("random", "centre"))
    assert list(found) == ["random", "centre"]
    for name, data in found.items():
        for place, step in enumerate((1, 4)):
            expected = control_map(name, (16, 16), REQUESTS["labels"].seed, step)
            np.testing.assert_allclose(data["map"][place], expected, rtol=1e-6)
    assert not np.allclose(found["random"]["map"][0], found["random"]["map"][1])


@pytest.mark.parametrize("kind", ["text", "velocity"])
def test_maps_are_those_of_the_functions(kind: str) -> None:
    model, request = model_of(kind), REQUESTS[kind]
    found = explained(kind, kinds=("integrated_gradients", "gradient", "lime"))
    recovery = Recovery(generate(model, request, record=True), 1)
    expected = {
        "gradient": baselines.gradient(recovery),
        "integrated_gradients": baselines.integrated_gradients(recovery),
        "lime": baselines.lime_map(recovery, 16, request.seed),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name]["map"][0], values, rtol=1e-3, atol=1e-4 * np.abs(values).max())


def test_attention_is_the_mean_over_heads_and_layers_of_what_the_words_get() -> None:
    pipeline = stable_diffusion()
    model, request = sfumato.wrap(pipeline), REQUESTS["text"]
    found = nodes(sfumato.explain(model, request, "step_baselines", kinds="attention", at=(0, 2)))["attention"]
    cross = [site.name for site in model.sites() if site.kind == "cross"]
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in cross}

    def capture(name: str, probabilities: torch.Tensor) -> None:
        if name in seen:
            seen[name].append(probabilities)

    with written_out(pipeline, capture):
        generate(model, request)
    words = [token for word in model.tokens(request.prompt).words for token in word.tokens]
    assert len(words) == 9
    for place, step in enumerate((0, 2)):
        # the conditional row comes last; all layers of this model have one grid and one number of heads
        layers = torch.stack([each[step][-1].mean(0) for each in seen.values()]).mean(0)
        expected = bicubic(layers[:, words].sum(1).reshape(4, 6).double().numpy(), GRIDS["text"])
        np.testing.assert_allclose(found["map"][place], expected, rtol=1e-3, atol=1e-5)


def test_maps_do_not_depend_on_the_batch() -> None:
    whole, parts = (explained("text", kinds=("lime",), memory=memory)["lime"] for memory in (1000.0, 2.0))
    np.testing.assert_allclose(whole["map"], parts["map"], atol=1e-4)


def test_maps_do_not_depend_on_what_else_is_explained() -> None:
    kinds = ("lime", "gradient", "random")
    requests = [REQUESTS["labels"].with_(seed=9), REQUESTS["labels"]]
    _, same = sfumato.explain(model_of("labels"), requests, "step_baselines", at=(1,), samples=16, kinds=kinds)
    for name, data in explained(kinds=kinds).items():
        xr.testing.assert_identical(nodes(same)[name], data)


@pytest.mark.parametrize(
    ("kind", "kinds", "each"),
    [("text", (), 2 * 101 + 1 + 16), ("labels", ("gradient",), 2 + 1), ("unconditional", ("lime", "random"), 101)],
)
def test_the_cost_is_told(kind: str, kinds: tuple[str, ...], each: int) -> None:
    method, model = find("step_baselines"), model_of(kind)
    options = method.configure({"samples": 100, "kinds": kinds, "at": (0, 1)})
    assert method.cost(model, model.complete(REQUESTS[kind]), options).endswith(
        f"then up to {2 * each} calls at 2 steps"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kinds": ("gradient", "saliency")},
            "kinds is 'saliency'; choose from: lime, gradient, integrated_gradients",
        ),
        ({"at": (6,)}, "at has 6; this run has steps 0 to 5"),
        ({"samples": 3}, "samples is 3; expected a whole number from 4 to 100000"),
        ({"samples": 10.5}, "samples is 10.5; expected a whole number from 4 to 100000"),
        ({"memory": -1.0}, "memory is -1.0; expected a number above 0, at most 10000000"),
        ({"memory": 0.001}, "memory is 0.001 MB; one call of the denoiser takes up to"),
        ({"masks": 5}, "step_baselines has no option 'masks'"),
    ],
)
def test_wrong_options_say_what_to_do(options: dict[str, Any], message: str) -> None:
    before = fingerprint(model_of("labels").pipeline)
    with pytest.raises(OptionError, match=re.escape(message)):
        explained(**options)
    assert fingerprint(model_of("labels").pipeline) == before


@pytest.mark.parametrize("kind", ["labels", "unconditional"])
def test_attention_needs_words(kind: str) -> None:
    with pytest.raises(ModelError, match="has no attention on words; leave out attention"):
        explained(kind, kinds="attention")


def test_several_images_are_refused() -> None:
    with pytest.raises(OptionError, match="step_baselines looks at one image; explain each seed by itself"):
        sfumato.explain(model_of("labels"), REQUESTS["labels"].with_(images=2), "step_baselines")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_works(dtype: torch.dtype) -> None:
    found = nodes(sfumato.explain(in_precision(dtype), REQUESTS["text"], "step_baselines", at=(1,), samples=8))
    assert tuple(found) == BASELINES
    whole = explained("text", kinds=("gradient", "attention"))
    for name, data in found.items():
        assert data["map"].dtype == np.float32
        assert np.isfinite(data["map"].values).all(), name
        if name in whole:
            both = (data["map"].values.ravel(), whole[name]["map"].values.ravel())
            assert np.corrcoef(*both)[0, 1] > 0.9, name


@pytest.mark.parametrize(
    ("kind", "baseline"),
    [
        ("text", "lime"),
        ("labels", "lime"),
        ("text", "gradient"),
        ("labels", "gradient"),
        ("labels", "integrated_gradients"),
        ("labels", "random"),
    ],
)
def test_outputs_that_are_not_finite_are_an_error(kind: str, baseline: str) -> None:
    model, steps = model_of(kind), REQUESTS[kind].steps or 0
    before = fingerprint(model.pipeline)
    with not_a_number(model, 1 + steps), pytest.raises(NonFinite, match="is NaN or infinite at step 1; try float32"):
        explained.__wrapped__(kind, kinds=baseline)  # never what is remembered
    assert fingerprint(model.pipeline) == before


@pytest.mark.parametrize("baseline", ["lime", "centre"])
def test_a_scheduler_without_a_clean_estimate_is_refused(baseline: str) -> None:
    with pytest.raises(ModelError, match="EDMEulerScheduler has no clean estimate; take the scheduler ddim, ddpm or"):
        sfumato.explain(without_clean_estimate(), REQUESTS["text"], "step_baselines", kinds=baseline, at=(1,))
