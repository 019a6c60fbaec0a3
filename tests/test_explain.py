from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import ModelError, RequestError, SfumatoError, UnknownMethod
from sfumato.explain import explained
from sfumato.generation.generate import generate
from sfumato.models import latent
from sfumato.models.fingerprint import weight_hash
from sfumato.registry import Method, find
from sfumato.request import CompletedRequest, Request
from sfumato.results.schema import validate

REQUEST = Request("a red cat", seed=3, steps=2, guidance=7.5, height=16, width=16)


def test_an_explanation_says_what_made_it(tiny_pipeline: StableDiffusionPipeline) -> None:
    explanation = sfumato.explain(sfumato.wrap(tiny_pipeline), REQUEST, threshold=0.4)
    validate(explanation.tree, values=True)
    assert explanation.request == REQUEST.with_(scheduler="ddim")
    facts = explanation.provenance
    assert facts["method"] == "daam"
    assert facts["options"]["threshold"] == 0.4
    assert facts["weights_sha256"] == weight_hash(tiny_pipeline)
    assert (facts["device"], facts["dtype"], facts["family"], facts["batch"]) == ("cpu", "float32", "unet", 1)
    assert facts["pipeline"] == "StableDiffusionPipeline"
    assert {"sfumato", "torch", "diffusers", "transformers", "numpy", "python"} == facts["versions"].keys()
    assert facts["seconds"] > 0
    assert facts["notes"] == []
    assert json.loads(json.dumps(facts)) == facts


def test_the_same_request_gives_the_same_explanation(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    one, two = (sfumato.explain(model, REQUEST) for _ in range(2))
    np.testing.assert_array_equal(one.words["map"], two.words["map"])
    np.testing.assert_array_equal(np.asarray(one.image), np.asarray(two.image))
    other = sfumato.explain(model, REQUEST.with_(seed=4))
    assert not np.array_equal(np.asarray(one.image), np.asarray(other.image))


def test_many_requests_come_back_in_order(
    tiny_pipeline: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    own = type(tiny_pipeline).__call__

    @functools.wraps(own)
    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        runs.append(len(kwargs["prompt"]))
        return own(self, *args, **kwargs)

    monkeypatch.setattr(type(tiny_pipeline), "__call__", counted)
    requests = [
        REQUEST.with_(prompt="cat"),
        REQUEST.with_(prompt="dog", steps=1),
        REQUEST.with_(prompt="table", seed=9),
        REQUEST.with_(prompt="circle", images=2),
        REQUEST.with_(prompt="square", steps=1, negative_prompt="red"),
    ]
    found = sfumato.explain(sfumato.wrap(tiny_pipeline), requests, batch=3)
    assert [explanation.request.prompt for explanation in found] == ["cat", "dog", "table", "circle", "square"]
    assert [len(explanation.images) for explanation in found] == [1, 1, 1, 2, 1]
    assert sorted(runs) == [2, 2, 2]  # cat with table, the two circles, dog with square
    assert sfumato.explain(sfumato.wrap(tiny_pipeline), []) == []
    assert isinstance(sfumato.explain(sfumato.wrap(tiny_pipeline), (REQUEST,)), list)


@pytest.mark.parametrize("given", ["a red cat", None, ["a red cat"], {"prompt": "a"}, 3])
def test_something_else_than_a_request_teaches(tiny_pipeline: StableDiffusionPipeline, given: Any) -> None:
    with pytest.raises(RequestError, match=r"explain takes a request or a list of them, such as sfumato.Request\("):
        sfumato.explain(sfumato.wrap(tiny_pipeline), given)


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, None])
def test_an_impossible_batch_teaches(tiny_pipeline: StableDiffusionPipeline, batch: Any) -> None:
    with pytest.raises(RequestError, match="batch is .*; expected a whole number from 1 to 100000"):
        sfumato.explain(sfumato.wrap(tiny_pipeline), REQUEST, batch=batch)


def test_nothing_runs_before_everything_is_checked(tiny_pipeline: StableDiffusionPipeline) -> None:
    told: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        told.append(what)

    model = sfumato.wrap(tiny_pipeline)
    wrong: list[Callable[[], Any]] = [
        lambda: sfumato.explain(model, REQUEST, "nosuch", progress=progress),
        lambda: sfumato.explain(model, [REQUEST, REQUEST.with_(height=20)], progress=progress),
        lambda: sfumato.explain(model, REQUEST, progress=progress, nosuch=1),
        lambda: sfumato.explain(model, [REQUEST, REQUEST.with_(prompt="")], progress=progress),
    ]
    for attempt in wrong:
        with pytest.raises(SfumatoError):
            attempt()
    assert not told
    with pytest.raises(UnknownMethod):
        wrong[0]()


def test_a_pipeline_of_diffusers_is_wrapped(tiny_pipeline: StableDiffusionPipeline) -> None:
    request = Request("a red cat", seed=3, steps=1, height=32, width=32)
    found, wanted = sfumato.explain(tiny_pipeline, request), sfumato.explain(sfumato.wrap(tiny_pipeline), request)
    np.testing.assert_array_equal(found.words["map"].values, wanted.words["map"].values)
    with pytest.raises(ModelError, match="the model is 'studio/scenes'; give one that sfumato.load"):
        sfumato.explain("studio/scenes", request)  # type: ignore


@pytest.fixture
def completions(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The requests that models have filled, in order."""
    found: list[Request] = []
    filled = latent.LatentModel._filled

    def noted(self: latent.LatentModel, request: Request) -> CompletedRequest:
        found.append(request)
        return filled(self, request)

    monkeypatch.setattr(latent.LatentModel, "_filled", noted)
    return found


def test_a_request_is_completed_once(
    tiny_pipeline: StableDiffusionPipeline, completions: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured: list[object] = []
    configure = Method.configure
    monkeypatch.setattr(Method, "configure", lambda self, given: configured.append(given) or configure(self, given))
    model = sfumato.wrap(tiny_pipeline)
    made = sfumato.explain(model, REQUEST.with_(height=None))
    assert (len(completions), len(configured)) == (1, 1)
    assert isinstance(made.request, CompletedRequest)
    assert model.complete(made.request) is made.request
    assert len(completions) == 1


def test_a_completed_request_is_another_models_too(tiny_pipeline: StableDiffusionPipeline) -> None:
    one, other = sfumato.wrap(tiny_pipeline), sfumato.wrap(tiny_pipeline)
    completed = one.complete(REQUEST)
    again = other.complete(completed)
    assert again == completed
    assert again is not completed


def test_a_method_may_complete_its_requests_itself(
    tiny_pipeline: StableDiffusionPipeline, completions: list[Request]
) -> None:
    def explain(model: Any, requests: Any, options: Any, progress: Any) -> list[Any]:
        return [generate(model, model.complete(one)).explanation(0, {}) for one in requests]

    model, daam = sfumato.wrap(tiny_pipeline), find("daam")
    own = Method("own", "s", daam.options, frozenset(), daam.cost, "p", explain)
    (made,) = explained(model, [model.complete(REQUEST)], own, own.configure({}))
    assert made.request == model.complete(REQUEST)
    assert len(completions) == 2  # the last line's is the second


def test_an_image_of_several_with_a_variation_is_made_again_alone(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    request = Request("a red cat", seed=3, steps=2, height=16, width=24, images=2, variation=(50, 0.8))
    both = sfumato.explain(model, request)
    assert isinstance(both, sfumato.Explanation)
    for number in (0, 1):
        (alone,) = generate(model, both.select(number).request).images
        np.testing.assert_allclose(np.asarray(alone, np.int16), np.asarray(both.images[number], np.int16), atol=1)
