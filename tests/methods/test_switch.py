"""Switching is what a loop written by hand does that takes another label from a step on."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.generation.generate import generate
from sfumato.methods.switch import _settled
from sfumato.metrics.structure import normalised_ssim
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from tests.labels import REQUEST, SIDE, tiny_labels, tiny_unconditional
from tests.pipelines import PROMPT, fingerprint

WIDE = Request(PROMPT, seed=2, steps=4, guidance=4.0, height=16, width=24)
TO = "1100"


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.wrap(tiny_labels(prediction_type="v_prediction"))


@pytest.fixture(scope="module")
def found(model: Model) -> Explanation:
    before = fingerprint(model.pipeline)
    made = sfumato.explain(model, REQUEST, "switch", to=TO)
    assert fingerprint(model.pipeline) == before
    return made


def node(explanation: Explanation) -> xr.Dataset:
    return explanation.tree["switch"].to_dataset()


def by_hand(seed: int, first: int, second: int, switched: int) -> NDArray[np.uint8]:
    """DDIM with guidance 2 by hand, the label exchanged from a step on."""
    pipeline = tiny_labels(prediction_type="v_prediction")
    unet, scheduler = pipeline.unet, pipeline.scheduler
    scheduler.set_timesteps(6)
    sample = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for step, time in enumerate(scheduler.timesteps):
            label = torch.tensor([first if step < switched else second])
            told = unet(sample, time, label, return_dict=False)[0]
            plain = unet(sample, time, None, return_dict=False)[0]
            sample = scheduler.step(plain + 2.0 * (told - plain), time, sample, return_dict=False)[0]
    pixels = (sample[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()
    return np.asarray((pixels * 255).round().astype(np.uint8))


def apart(one: Any, other: Any) -> int:
    """The largest difference of two pictures, in grey levels."""
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


def test_a_switch_is_a_loop_that_takes_the_other_label(found: Explanation) -> None:
    data = node(found)
    assert data["step"].values.tolist() == [1, 2, 3, 4]
    assert data["timestep"].values.tolist() == [832.0, 666.0, 499.0, 332.0]
    for place, step in enumerate((1, 2, 3, 4)):
        assert apart(data["picture"].values[place], by_hand(3, 0b0011, 0b1100, step)) <= 1
    assert apart(data["picture"].values[0], data["first"].values) > 3
    assert apart(data["picture"].values[-1], data["second"].values) > 3


def test_the_outer_pictures_are_those_of_one_label_alone(found: Explanation, model: Model) -> None:
    data = node(found)
    first, second = (generate(model, REQUEST.with_(label=label)).images[0] for label in ("0011", TO))
    assert apart(data["first"].values, first) <= 1
    assert apart(data["second"].values, second) <= 1
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(first))


def test_outcomes_are_compared_with_both(found: Explanation) -> None:
    data = node(found)
    for name in ("first", "second"):
        target = data[name].values.transpose(2, 0, 1).astype(float)
        expected = [normalised_ssim(one.transpose(2, 0, 1).astype(float), target) for one in data["picture"].values]
        np.testing.assert_allclose(data[f"normalised_ssim_to_{name}"].values, expected)


def test_the_earlier_the_switch_the_more_it_changes(found: Explanation) -> None:
    data = node(found)
    assert data["normalised_ssim_to_first"].values[0] < data["normalised_ssim_to_first"].values[-1]
    assert data["normalised_ssim_to_second"].values[0] > data["normalised_ssim_to_second"].values[-1]


def test_an_image_has_settled_from_where_on_all_switches_leave_it_alike() -> None:
    assert _settled([0.5, 0.95, 0.8, 0.9, 0.99], [2, 4, 6, 8, 9], 10, 0.9) == 0.8
    assert _settled([0.9, 0.95], [2, 4], 10, 0.9) == 0.2
    assert _settled([0.95, 0.5], [2, 4], 10, 0.9) == 1.0


def test_settled_follows_from_the_curve_and_the_limit(found: Explanation, model: Model) -> None:
    row = node(found)["normalised_ssim_to_first"].values
    low, high = float(row.min()) * 0.5, (1 + float(row.max())) / 2
    early = node(sfumato.explain(model, REQUEST, "switch", to=TO, alike=low))
    never = node(sfumato.explain(model, REQUEST, "switch", to=TO, alike=high))
    assert float(early["settled"]) == pytest.approx(1 / 6)
    assert float(never["settled"]) == 1.0


def test_several_seeds_have_a_curve_each(found: Explanation, model: Model) -> None:
    made = sfumato.explain(model, REQUEST.with_(images=3), "switch", to=TO, at=(4, 1, 4))
    data = node(made)
    assert data["step"].values.tolist() == [1, 4]
    assert data["picture"].shape == (3, 2, SIDE, SIDE, 3)
    assert data["settled"].shape == (3,)
    assert apart(data["picture"].values[0], node(found)["picture"].values[[0, 3]]) <= 1
    assert apart(data["picture"].values[2, 1], by_hand(5, 0b0011, 0b1100, 4)) <= 1
    assert apart(data["second"].values[1], by_hand(4, 0b1100, 0b1100, 0)) <= 1
    alone = node(made.select(2))
    np.testing.assert_array_equal(alone["picture"].values, data["picture"].values[2])


def test_about_ten_switches_are_spread_evenly(model: Model) -> None:
    data = node(sfumato.explain(model, REQUEST.with_(steps=20), "switch", to=TO))
    assert data["step"].values.tolist() == [2, 4, 6, 8, 10, 12, 14, 16, 18]


def test_prompts_are_switched(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    made = sfumato.explain(model, WIDE, "switch", to="the blue dog", at=2)
    new = model.encode(["the blue dog"])
    steps: list[int] = []

    def hook(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        steps.append(len(steps))
        if steps[-1] < 2:
            return None
        condition = kwargs["encoder_hidden_states"].clone()
        condition[1] = new[0]
        return args, kwargs | {"encoder_hidden_states": condition}

    handle = model.denoiser.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        expected = generate(model, WIDE).images[0]
    finally:
        handle.remove()
    data = node(made)
    assert apart(data["picture"].values[0], expected) <= 1
    assert apart(data["first"].values, generate(model, WIDE).images[0]) <= 1
    assert apart(data["second"].values, generate(model, WIDE.with_(prompt="the blue dog")).images[0]) <= 1
    assert apart(data["first"].values, data["second"].values) > 3
    assert data.attrs["to"] == "the blue dog"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "switch needs the other label or prompt; give it: to=0100 or to='a blue square'"),
        ({"to": "0011"}, "to is '0011', as in the request; give another"),
        ({"to": TO, "at": (0, 2)}, "at has 0; switch from step 1 to step 4: step 0 is the other condition alone"),
        ({"to": TO, "at": 5}, "at has 5; switch from step 1 to step 4"),
        ({"to": TO, "at": (6,)}, "at has 6"),
        ({"to": TO, "alike": 1.0}, "alike is 1.0; expected a number between 0 and 1"),
    ],
)
def test_wrong_options_say_what_to_do(model: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        sfumato.explain(model, REQUEST, "switch", **options)


def test_a_run_of_two_steps_cannot_be_switched(model: Model) -> None:
    with pytest.raises(OptionError, match="this run has 2 steps; switching needs 3 or more"):
        sfumato.explain(model, REQUEST.with_(steps=2), "switch", to=TO)


@pytest.mark.parametrize("label", ["01", "01012", "abcd", "a blue dog"])
def test_a_wrong_label_is_refused_before_the_first_image(model: Model, label: str) -> None:
    calls: list[str] = []
    with pytest.raises(ModelError, match="expected 4 bits"):
        sfumato.explain(model, REQUEST, "switch", to=label, progress=lambda what, done, total: calls.append(what))
    assert not calls


def test_the_same_prompt_is_refused(tiny_pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(OptionError, match="as in the request"):
        sfumato.explain(sfumato.wrap(tiny_pipeline), WIDE, "switch", to=PROMPT)


def test_an_unconditional_model_is_refused() -> None:
    model = sfumato.wrap(tiny_unconditional())
    with pytest.raises(ModelError, match="switch needs words or label, which DDPMPipeline .* does not have"):
        sfumato.explain(model, Request(steps=4), "switch", to="0011")
