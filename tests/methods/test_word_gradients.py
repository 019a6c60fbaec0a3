from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato.errors import OptionError
from sfumato.generation.generate import generate
from sfumato.generation.trace import Trace
from sfumato.methods.word_gradients import WordGradientsOptions, _image, _sample, _score
from sfumato.models.model import Model
from sfumato.plots import importance_sheet
from sfumato.progress import silent
from sfumato.report.page import page
from sfumato.request import Request
from sfumato.similarity import Clip
from tests.pipelines import fingerprint

REQUEST = Request("a red circle, teal background", seed=3, steps=5)


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.load("studio/scenes")


@pytest.fixture(scope="module")
def trace(model: Model) -> Trace:
    return generate(model, model.complete(REQUEST), record=True)


def test_the_steps_again_make_the_same_image(trace: Trace) -> None:
    condition = trace.call(0).condition[trace.branches.rows("conditional", 1)]
    expected = np.asarray(trace.images[0]).astype(float)
    for first in (4, 2, 0):
        with torch.no_grad():
            again = _image(trace, first, condition, _sample(trace, first), silent)
        pixels = ((again[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).numpy()
        assert np.abs(pixels - expected).mean() < 1.5  # the pipeline's last step adds a breath of noise level


@pytest.mark.parametrize("target", ["clip", "similarity", "brightness"])
def test_gradients_are_those_of_finite_differences(model: Model, trace: Trace, target: Any) -> None:
    options = WordGradientsOptions(target=target, through=2)
    score = _score(trace, options, Clip() if target != "brightness" else None)
    condition = trace.call(3).condition[trace.branches.rows("conditional", 1)]
    padding = model.encode([""])
    at = padding + (0.5 if target == "similarity" else 1.0) * (condition - padding)
    inputs = at.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(_image(trace, 3, inputs, _sample(trace, 3), silent)), inputs)
    step = torch.zeros_like(at)
    step[0, 2] = 0.02 * (condition - padding)[0, 2]
    with torch.no_grad():
        up, down = (float(score(_image(trace, 3, at + sign * step, _sample(trace, 3), silent))) for sign in (1, -1))
    assert float((gradient * step).sum()) == pytest.approx((up - down) / 2, rel=0.1, abs=2e-5)


def test_the_method_leaves_the_pipeline_as_it_was(model: Model) -> None:
    before = fingerprint(model.pipeline)
    found = sfumato.explain(model, REQUEST, method="word_gradients")
    assert fingerprint(model.pipeline) == before
    assert all(parameter.grad is None for parameter in model.denoiser.parameters())
    words = found.tree["word_gradients/word_importance"].to_dataset()
    assert words["player"].values.tolist() == ["a", "red", "circle", "teal", "background"]
    assert float(words["share"].sum()) == pytest.approx(1)
    assert words.attrs["steps_through"] == 3
    assert importance_sheet(found).width < 600
    assert "What a score leans on" in page(found)


def test_gradients_through_all_steps(model: Model) -> None:
    found = sfumato.explain(model, REQUEST, method="word_gradients", through=0, target="brightness")
    assert found.tree["word_gradients/word_importance"].attrs["steps_through"] == 5


def test_guidance_off(model: Model) -> None:
    found = sfumato.explain(model, REQUEST.with_(guidance=1.0), method="word_gradients", target="brightness")
    assert np.isfinite(found.tree["word_gradients/word_importance"]["phi"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "beauty"}, "choose from: clip, similarity, brightness"),
        ({"target": "brightness", "text": "red"}, "compares with no text"),
        ({"region": (0, 0, 0, 1)}, "top, left, bottom, right as shares"),
        ({"region": (0, 0)}, "top, left, bottom, right as shares"),
        ({"through": -1}, "through is -1; expected a whole number from 0"),
        ({"players": "letter"}, "choose from: word, token, phrase"),
    ],
)
def test_wrong_options_say_what_to_do(model: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        sfumato.explain(model, REQUEST, method="word_gradients", **options)


@pytest.mark.parametrize("region", [(0.997, 0, 1, 1), (0, 0.999, 1, 1), (0, 0, 0.001, 0.001)])
def test_the_narrowest_region_has_a_pixel(region: tuple[float, ...]) -> None:
    request = Request("a red circle", steps=2)
    found = sfumato.explain(sfumato.load(), request, "word_gradients", target="brightness", region=region)
    assert np.isfinite(found.tree["word_gradients/word_importance"].to_dataset()["phi"].values).all()
