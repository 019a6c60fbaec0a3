"""Concept relevance as a method: a map and a sum for every word at every step, beside what the image says."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import spearmanr

import sfumato
from sfumato.errors import BudgetExceeded, ModelError, NonFinite, OptionError, RequestError, SfumatoWarning
from sfumato.generation.generate import generate
from sfumato.methods.relevance import _relative
from sfumato.metrics import rank_correlation
from sfumato.registry import find
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.saliency.relevance import relevance as of_step
from sfumato.similarity.clip import Clip
from tests.methods.steps import CLIP, REQUESTS, in_precision, model_of, not_a_number, watched, without_clean_estimate
from tests.pipelines import fingerprint

WORDS = ["a", "photo", "of", "a", "red", "cat", "on", "the", "table"]


def node(explanation: Explanation) -> xr.Dataset:
    return explanation.tree["relevance"].to_dataset()


def explained(request: Request = REQUESTS["text"], **options: Any) -> xr.Dataset:
    return node(sfumato.explain(model_of("text"), request, "relevance", **{"clip_model": CLIP} | options))


@cache
def found() -> Explanation:
    return watched("text", "relevance", clip_model=CLIP)


def test_every_word_has_a_map_at_every_step() -> None:
    data = node(found())
    assert data["map"].dims == ("step", "word", "y", "x")
    assert data["map"].shape == (3, 9, 8, 12)
    assert data["map"].dtype == np.float32
    assert float(data["map"].min()) >= 0
    assert data["step"].values.tolist() == [0, 1, 2]
    assert data["word"].values.tolist() == WORDS
    assert data["index"].values.tolist() == list(range(9))
    assert data["pos"].values.tolist()[4:6] == ["adj", "noun"]
    trace = generate(model_of("text"), REQUESTS["text"], record=True)
    assert data["timestep"].values.tolist() == [trace.call(step).timestep for step in range(3)]
    np.testing.assert_allclose(data["y"], (np.arange(8) + 0.5) / 8)
    np.testing.assert_allclose(data["x"], (np.arange(12) + 0.5) / 12)
    np.testing.assert_allclose(data["score"], data["map"].sum(("y", "x")), rtol=1e-5)
    assert data.attrs["method"] == "relevance"


def test_maps_are_those_of_the_words_tokens() -> None:
    request = REQUESTS["text"].with_(prompt="a zebra on the table")  # zebra is no token, but five letters
    data = explained(request, at=(1,))
    assert data["word"].values.tolist() == ["a", "zebra", "on", "the", "table"]
    trace = generate(model_of("text"), request, record=True)
    tokens = of_step(trace, 1)
    words = model_of("text").tokens(request.prompt).words
    assert [len(word.tokens) for word in words] == [1, 5, 1, 1, 1]
    for word in words:
        np.testing.assert_allclose(data["map"][0, word.index], tokens[list(word.tokens)].sum(0), rtol=1e-5)


def test_scores_are_stretched_at_every_step() -> None:
    data = node(found())
    np.testing.assert_allclose(data["relative"].min("word"), 0, atol=1e-12)
    np.testing.assert_allclose(data["relative"].max("word"), 1)
    assert (data["relative"].argmax("word") == data["score"].argmax("word")).all()
    np.testing.assert_array_equal(_relative(np.array([[1.0, 3.0, 2.0], [5, 5, 5]])), [[0, 1, 0.5], [0, 0, 0]])


def test_the_image_tells_what_each_word_adds() -> None:
    data, clip, prompt = node(found()), Clip(), REQUESTS["text"].prompt
    picture = clip.images([np.asarray(found().image)])[0]
    without = ["a photo of a cat on the table", "a photo of a red on the table", "photo of a red cat on the table"]
    whole, *others = (float(clip.texts([text])[0] @ picture) for text in (prompt, *without))
    for word, other in zip((4, 5, 0), others, strict=True):
        assert float(data["image_score"][word]) == pytest.approx(whole - other, abs=1e-5)
    for step in range(3):
        expected = spearmanr(data["score"][step], data["image_score"]).statistic
        assert float(data["correlation"][step]) == pytest.approx(expected)


def test_rank_correlation_goes_from_minus_one_to_one() -> None:
    rising = np.array([1.0, 2.0, 5.0, 7.0])
    assert rank_correlation(rising, rising**3) == pytest.approx(1)
    assert rank_correlation(rising, -rising) == pytest.approx(-1)
    assert np.isnan(rank_correlation(rising, np.ones(4)))
    assert np.isnan(rank_correlation(np.ones(1), np.ones(1)))


def test_one_word_has_no_correlation() -> None:
    data = explained(REQUESTS["text"].with_(prompt="cat"), at=(0,))
    assert data["word"].values.tolist() == ["cat"]
    assert np.isnan(data["correlation"].values).all()
    assert not data["relative"].values.any()


def test_steps_can_be_chosen() -> None:
    some = explained(at=(2, 0, 2))
    assert some["step"].values.tolist() == [0, 2]
    np.testing.assert_allclose(some["map"], node(found())["map"][[0, 2]], rtol=1e-5)


def test_words_that_were_cut_off_are_left_out() -> None:
    prompt = " ".join(["cat"] * 80)
    with pytest.warns(SfumatoWarning, match="cut off after 77 tokens"):
        data = explained(REQUESTS["text"].with_(prompt=prompt), at=(0,))
    assert data.sizes["word"] == 75


def test_maps_do_not_depend_on_what_else_is_explained() -> None:
    requests = [REQUESTS["text"].with_(prompt="a blue dog"), REQUESTS["text"]]
    _, same = sfumato.explain(model_of("text"), requests, "relevance", at=(1,), clip_model=CLIP)
    xr.testing.assert_identical(node(same), explained(at=(1,)))


def test_no_guidance_and_a_negative_prompt_are_possible() -> None:
    plain = explained(REQUESTS["text"].with_(guidance=1.0), at=(0,))
    np.testing.assert_allclose(plain["map"], node(found())["map"][[0]], rtol=1e-3, atol=1e-6)  # the same first sample
    negative = explained(REQUESTS["text"].with_(negative_prompt="a dog"), at=(0,))
    np.testing.assert_allclose(negative["map"], plain["map"], rtol=1e-3, atol=1e-6)


def test_the_cost_is_told() -> None:
    method, model = find("relevance"), model_of("text")
    request = model.complete(REQUESTS["text"])
    assert method.cost(model, request, method.configure({})).endswith("forwards and backwards at 3 steps")
    assert method.cost(model, request, method.configure({"at": 1})).endswith("forwards and backwards at 1 steps")


@pytest.mark.parametrize("kind", ["labels", "unconditional"])
def test_a_model_without_words_is_refused(kind: str) -> None:
    with pytest.raises(ModelError, match="relevance needs cross-attention, followed, words, which .* does not have"):
        sfumato.explain(model_of(kind), REQUESTS[kind], "relevance")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": (3,)}, "at has 3; this run has steps 0 to 2"),
        ({"at": ("first",)}, "at is 'first'; expected a whole number from 0 to 1000"),
        ({"budget": 0}, "budget is 0; expected a number above 0, at most 10000000"),
        ({"word": "cat"}, "relevance has no option 'word'"),
    ],
)
def test_wrong_options_say_what_to_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        explained(**options)


def test_a_prompt_without_words_is_refused() -> None:
    for prompt in ("", "   "):
        with pytest.raises(RequestError, match="the prompt has no words to follow; write what the image shows"):
            explained(REQUESTS["text"].with_(prompt=prompt))


def test_several_images_are_refused() -> None:
    with pytest.raises(OptionError, match="relevance follows one image; explain each seed by itself"):
        explained(REQUESTS["text"].with_(images=2))


def test_another_clip_that_is_none_is_refused() -> None:
    with pytest.raises(ModelError, match="the CLIP model 'no/such' cannot be read"):
        explained(at=(0,), clip_model="no/such")


def test_without_a_clip_that_fits_there_are_maps_but_no_agreement() -> None:
    with pytest.warns(SfumatoWarning, match="the agreement with the prompt is left out: nothing can judge the images"):
        data = node(sfumato.explain(model_of("text"), REQUESTS["text"], "relevance", at=(1,)))
    xr.testing.assert_identical(data["map"], explained(at=(1,))["map"])
    assert np.isnan(data["image_score"]).all()
    assert np.isnan(data["correlation"]).all()
    assert data.attrs["judge"] == "none"


def test_attention_beyond_the_budget_is_refused() -> None:
    before = fingerprint(model_of("text").pipeline)
    with pytest.raises(BudgetExceeded, match="the budget is 0 MB; make a smaller image, or raise the budget"):
        explained(at=(1,), budget=0.01)
    assert fingerprint(model_of("text").pipeline) == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_works(dtype: torch.dtype) -> None:
    data = node(sfumato.explain(in_precision(dtype), REQUESTS["text"], "relevance", at=(1,), clip_model=CLIP))
    assert np.isfinite(data["map"].values).all()
    whole = node(found())["score"].values[1]
    assert np.corrcoef(data["score"].values[0], whole)[0, 1] > 0.9


def test_outputs_that_are_not_finite_are_an_error() -> None:
    model = model_of("text")
    before = fingerprint(model.pipeline)
    with not_a_number(model, 3), pytest.raises(NonFinite, match="the gradient of the attention is NaN or infinite"):
        explained(at=(1,))
    with not_a_number(model, 1), pytest.raises(NonFinite, match="the latents became NaN or infinite at step 2 of 3"):
        explained(at=(1,))
    assert fingerprint(model.pipeline) == before


def test_a_scheduler_without_a_clean_estimate_will_do() -> None:
    model = without_clean_estimate()
    data = node(sfumato.explain(model, REQUESTS["text"], "relevance", at=(1,), clip_model=CLIP))
    assert float(data["score"].min()) > 0
