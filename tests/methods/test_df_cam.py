"""DF-CAM as a method: each layer's map stretched and summed, for the whole output, a part of it, or a word."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

import sfumato
from sfumato.errors import ModelError, NonFinite, OptionError, SfumatoError, UnknownWord
from sfumato.generation.generate import generate
from sfumato.methods.masks import on_latent
from sfumato.registry import find
from sfumato.results.explanation import Explanation
from sfumato.saliency.cam import cam, on_grid
from sfumato.saliency.recovering import Recovery
from tests.labels import square
from tests.methods.steps import (
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

LAYERS = {
    "text": ("down_blocks.1.attentions.0", "up_blocks.0.attentions.1", "up_blocks.1.resnets.1"),
    "labels": ("downs.0.3", "mid_attn", "ups.0.0.net"),
}


def node(explanation: Explanation) -> xr.Dataset:
    return explanation.tree["saliency/df_cam"].to_dataset()


@cache
def explained(kind: str = "labels", **options: Any) -> xr.Dataset:
    given = {"at": (1,), "layers": LAYERS[kind]} | options
    return node(sfumato.explain(model_of(kind), REQUESTS[kind], "df_cam", **given))


def by_hand(kind: str, weights: torch.Tensor | None = None, mix: float | None = None) -> torch.Tensor:
    """Stretched maps (layer, y, x) of step 1."""
    recovery = Recovery(generate(model_of(kind), REQUESTS[kind], record=True), 1)
    maps = cam(recovery, LAYERS[kind], weights, mix=mix)
    return torch.stack([on_grid(one, recovery.grid) for one in maps.values()])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_has_maps_of_its_usual_layers(kind: str) -> None:
    data = node(watched(kind, "df_cam", at=(2, 0)))
    assert_steps(data, kind, [0, 2])
    layers = data["layer_map"]
    assert layers.dims == ("step", "layer", "y", "x")
    assert len(set(data["layer"].values.tolist())) == data.sizes["layer"] > 5
    assert (float(layers.min()), float(layers.max())) == (0, 1)
    tops = layers.max(("y", "x")).values
    assert set(tops.ravel().tolist()) <= {0, 1}  # 0 where nothing speaks for the output
    assert (tops == 1).mean() > 0.5
    np.testing.assert_allclose(data["map"], layers.sum("layer"), rtol=1e-5)
    assert {"method": "df_cam", "branch": "conditional", "denoiser_calls": 2}.items() <= data.attrs.items()


def test_layers_are_chosen_by_names_and_globs() -> None:
    assert explained()["layer"].values.tolist() == list(LAYERS["labels"])
    blocks = explained(layers="downs.*.3")
    assert blocks["layer"].values.tolist() == ["downs.0.3", "downs.1.3"]
    np.testing.assert_array_equal(blocks["layer_map"][0, 0], explained()["layer_map"][0, 0])


@pytest.mark.parametrize("kind", ["text", "labels"])
def test_maps_are_those_of_the_pass(kind: str) -> None:
    np.testing.assert_allclose(explained(kind)["layer_map"][0], by_hand(kind), atol=1e-5)


def test_both_branches_are_mixed_by_the_guidance_of_the_request() -> None:
    mixed = explained(branch="mix")
    np.testing.assert_allclose(mixed["layer_map"][0], by_hand("labels", mix=2.0), atol=1e-5)
    assert not np.allclose(mixed["map"], explained()["map"], atol=1e-2)
    assert mixed.attrs["denoiser_calls"] == 2


def test_without_guidance_there_is_one_branch() -> None:
    options: dict[str, Any] = {"at": (1,), "layers": LAYERS["labels"]}
    request = REQUESTS["labels"].with_(guidance=1.0)
    mixed, alone = (
        node(sfumato.explain(model_of("labels"), request, "df_cam", branch=branch, **options))
        for branch in ("mix", "conditional")
    )
    np.testing.assert_array_equal(mixed["map"], alone["map"])


def test_only_the_output_inside_a_mask_counts(tmp_path: Path) -> None:
    file = tmp_path / "square.png"
    Image.fromarray(square()).save(file)
    inside = explained(mask=str(file))
    np.testing.assert_allclose(inside["layer_map"][0], by_hand("labels", torch.from_numpy(square())), atol=1e-5)
    assert not np.allclose(inside["map"], explained()["map"], atol=1e-2)


def test_a_mask_is_brought_to_the_latent(tmp_path: Path) -> None:
    large = np.zeros((16, 24), bool)
    large[4:10, 8:20] = True
    file = tmp_path / "mask.png"
    Image.fromarray(large).save(file)
    model = model_of("text")
    small = torch.from_numpy(on_latent(large, model, model.complete(REQUESTS["text"])))
    assert small.shape == GRIDS["text"]
    np.testing.assert_allclose(explained("text", mask=str(file))["layer_map"][0], by_hand("text", small), atol=1e-5)


@pytest.mark.parametrize(("word", "without"), [("red", "a photo of a cat on the table"), ("a#2", None), ("A", None)])
def test_the_output_counts_along_what_a_word_changes_in_it(word: str, without: str | None) -> None:
    prompt = without or {"a#2": "a photo of red cat on the table", "A": "photo of red cat on the table"}[word]
    model, call = model_of("text"), generate(model_of("text"), REQUESTS["text"], record=True).call(1)
    with torch.no_grad():
        outputs = [
            model.denoiser(call.sample[1:], call.timestep, condition).sample
            for condition in (call.condition[1:], model.encode([prompt]))  # type: ignore[index]
        ]
    weights = outputs[0] - outputs[1]
    assert float(weights.abs().max()) > 0
    found = explained("text", word=word)
    np.testing.assert_allclose(found["layer_map"][0], by_hand("text", weights), rtol=1e-2, atol=1e-3)
    assert found.attrs["denoiser_calls"] == 3


def test_a_word_can_be_looked_at_inside_a_mask(tmp_path: Path) -> None:
    inside = np.zeros((16, 24), bool)
    inside[4:10, 8:20] = True
    file = tmp_path / "mask.png"
    Image.fromarray(inside).save(file)
    both, word, mask = (
        explained("text", **options)
        for options in ({"word": "cat", "mask": str(file)}, {"word": "cat"}, {"mask": str(file)})
    )
    assert not np.allclose(both["map"], word["map"], atol=1e-2)
    assert not np.allclose(both["map"], mask["map"], atol=1e-2)


def test_maps_do_not_depend_on_what_else_is_explained() -> None:
    requests = [REQUESTS["labels"].with_(seed=9), REQUESTS["labels"]]
    other, same = sfumato.explain(model_of("labels"), requests, "df_cam", at=(1,), layers=LAYERS["labels"])
    xr.testing.assert_identical(node(same), explained())
    assert not np.allclose(node(other)["map"], node(same)["map"], atol=1e-2)


def test_the_cost_is_told() -> None:
    method, model = find("df_cam"), model_of("labels")
    told = method.cost(model, model.complete(REQUESTS["labels"]), method.configure({}))
    assert told == "one generation (6 denoiser calls), then 9 calls at 3 steps, one of each backwards"


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("labels", {"at": (6,)}, OptionError, "at has 6; this run has steps 0 to 5"),
        ("labels", {"branch": "guided"}, OptionError, "branch is 'guided'; choose from: conditional, mix"),
        ("labels", {"layers": "mid_atn"}, OptionError, "no layer matches 'mid_atn'; near are: mid_attn"),
        ("labels", {"layers": "time_mlp"}, OptionError, "no layer matches 'time_mlp'"),
        ("labels", {"word": "red"}, ModelError, "reads no words; leave out word=red"),
        ("labels", {"mask": "absent.png"}, OptionError, "the mask 'absent.png' cannot be read"),
        ("text", {"word": "zebra"}, UnknownWord, "'zebra' is not in the prompt; its words are: a, photo, of, a#2"),
        ("text", {"word": "red#2"}, UnknownWord, "'red#2' is not in the prompt"),
        ("text", {"masks": 3}, OptionError, "df_cam has no option 'masks'"),
    ],
)
def test_wrong_options_say_what_to_do(
    kind: str, options: dict[str, Any], error: type[SfumatoError], message: str
) -> None:
    before = fingerprint(model_of(kind).pipeline)
    with pytest.raises(error, match=re.escape(message)):
        explained(kind, **options)
    assert fingerprint(model_of(kind).pipeline) == before


def test_a_mask_that_marks_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match="the mask marks no pixel"):
        sfumato.explain(model_of("labels"), REQUESTS["labels"], "df_cam", mask=np.zeros((16, 16), bool))


def test_several_images_are_refused() -> None:
    with pytest.raises(OptionError, match="df_cam looks at one image; explain each seed by itself"):
        sfumato.explain(model_of("labels"), REQUESTS["labels"].with_(images=2), "df_cam")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_works(dtype: torch.dtype) -> None:
    options: dict[str, Any] = {"at": (1,), "layers": LAYERS["text"], "word": "cat", "branch": "mix"}
    found = node(sfumato.explain(in_precision(dtype), REQUESTS["text"], "df_cam", **options))
    assert found["map"].dtype == np.float32
    assert np.isfinite(found["map"].values).all()
    assert (np.ptp(found["map"].values, axis=(1, 2)) > 0).all()
    plain = node(sfumato.explain(in_precision(dtype), REQUESTS["text"], "df_cam", **options | {"word": None}))
    whole = explained("text", branch="mix")
    correlation = np.corrcoef(plain["map"].values.ravel(), whole["map"].values.ravel())[0, 1]
    assert correlation > 0.9


@pytest.mark.parametrize("kind", ["text", "labels"])
def test_outputs_that_are_not_finite_are_an_error(kind: str) -> None:
    model, steps = model_of(kind), REQUESTS[kind].steps or 0
    before = fingerprint(model.pipeline)
    # one call tells of the layers, then the steps are made
    with not_a_number(model, 1 + steps), pytest.raises(NonFinite, match=r"the gradient at .* at step 1; try float32"):
        explained.__wrapped__(kind)  # never what is remembered
    with not_a_number(model, 2), pytest.raises(NonFinite, match="became NaN or infinite at step 2"):
        explained.__wrapped__(kind)
    assert fingerprint(model.pipeline) == before


def test_a_scheduler_without_a_clean_estimate_is_refused() -> None:
    with pytest.raises(ModelError, match="EDMEulerScheduler has no clean estimate; take the scheduler ddim, ddpm or"):
        sfumato.explain(without_clean_estimate(), REQUESTS["text"], "df_cam", at=(1,))
