"""Which timesteps a run visits: the exact lists, and that every scheduler which takes one follows it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st

import sfumato
from sfumato import Request
from sfumato.errors import ModelError, RequestError
from sfumato.generation.generate import generate
from sfumato.inputs.schedule import exponential, listed, parse_schedule
from sfumato.models.listed import following
from sfumato.models.schedulers import schedule_of, using
from tests.labels import REQUEST, tiny_labels

EARLY = [999, 893, 884, 875, 865], [206, 143, 74]
LATE = [999, 926, 857, 794], [116, 107]


def test_the_lists_of_the_source() -> None:
    early, late = exponential(30, late=False), exponential(30, late=True)
    assert (early[:5], early[-3:]) == EARLY
    assert (late[:4], late[-2:]) == LATE
    assert len(early) == len(late) == 30


@given(
    st.integers(8, 40), st.sampled_from(["early", "late", "early:100", "late:200", "window:600-400", "window:1000-400"])
)
def test_timesteps_fall_and_are_as_many_as_asked_for(steps: int, schedule: str) -> None:
    found = listed(schedule, steps, 1000)
    assert len(found) == steps
    assert found[0] == 999
    assert found[-1] >= 0
    assert (np.diff(found) < 0).all()


def test_a_smaller_gamma_concentrates_more() -> None:
    usual, more = exponential(30, late=False), exponential(30, gamma=10, late=False)
    assert (
        sum(time > 800 for time in more)
        > sum(time > 800 for time in usual)
        > sum(time > 800 for time in range(0, 1000, 33))
    )


def test_a_window_begins_where_the_run_does_in_either_count() -> None:
    found = listed("window:1000-800", 30, 1000)
    assert found == listed("window:999-800", 30, 1000)
    assert found[0] == 999
    assert sum(time >= 800 for time in found) == 24
    assert Request(schedule="window:1000-800").schedule == "window:1000-800"
    assert listed("window:200-0", 30, 1000)[-1] == 0


def test_a_window_has_six_steps_outside() -> None:
    found = listed("window:600-400", 30, 1000)
    assert sum(not 400 <= time <= 600 for time in found) == 6
    assert {400, 600} <= set(found)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, None),
        ("uniform", None),
        ("Early", "early"),
        ("late:30", "late:30"),
        ("999, 500,0", (999, 500, 0)),
        ([999, 500], (999, 500)),
    ],
)
def test_what_a_request_keeps(given: Any, kept: Any) -> None:
    request = Request(schedule=given)
    assert request.schedule == kept
    assert Request.from_dict(request.to_dict()) == request
    assert request.steps == (len(kept) if isinstance(kept, tuple) else None)


def test_an_older_key_stays() -> None:
    assert Request("a cat").key == Request("a cat", schedule="uniform").key != Request("a cat", schedule="early").key


@pytest.mark.parametrize(
    "given",
    [
        "soon",
        "early:",
        "early:-1",
        "window:400-600",
        "window:600",
        "500,999",
        "5,5",
        "",
        [],
        [9.5],
        [3, 3],
        [5, -1],
        7,
        True,
    ],
)
def test_what_is_no_schedule(given: Any) -> None:
    with pytest.raises(RequestError, match="schedule"):
        parse_schedule(given)


def test_steps_that_contradict_the_list() -> None:
    with pytest.raises(RequestError, match="lists 2 timesteps, but steps is 3"):
        Request(schedule="9,5", steps=3)


@pytest.mark.parametrize(
    ("schedule", "steps", "said"),
    [
        ("1000,5", None, "begins at timestep 1000"),
        ("early:1", 30, "no 30 different timesteps"),
        ("window:600-400", 7, "needs 8 steps"),
        ("window:1001-400", 9, "begins at timestep 1001"),
        ("window:600-590", 60, "no 60 different timesteps"),
    ],
)
def test_a_schedule_that_the_model_cannot_follow(schedule: str, steps: int | None, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        sfumato.wrap(tiny_labels()).complete(Request(label="0011", schedule=schedule, steps=steps))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "euler", "dpmsolvermultistep", "heun"])
def test_every_scheduler_that_takes_a_list_follows_it(tiny_pipeline: StableDiffusionPipeline, scheduler: str) -> None:
    model = sfumato.wrap(tiny_pipeline)
    times = [900, 700, 400, 30]
    request = Request("a red cat", seed=3, scheduler=scheduler, schedule=tuple(times))
    assert schedule_of(model, model.complete(request)) == times
    trace = generate(model, request, record=True)
    assert list(dict.fromkeys(call.timestep for call in trace.calls)) == times
    assert torch.isfinite(trace.latents).all()
    assert "listed" not in dir(tiny_pipeline.scheduler)


def test_a_scheduler_that_takes_none(tiny_pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(ModelError, match="PNDMScheduler cannot follow a schedule"):
        sfumato.wrap(tiny_pipeline).complete(Request("a cat", scheduler="pndm", schedule="early", steps=10))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_ddim_on_its_own_timesteps_is_ddim(prediction: str) -> None:
    model = sfumato.wrap(tiny_labels(prediction_type=prediction))
    request = REQUEST.with_(steps=5)
    same = request.with_(schedule=(999, 799, 599, 399, 199))
    assert schedule_of(model, model.complete(request)) == list(same.schedule or ())
    assert torch.equal(generate(model, request).latents, generate(model, same).latents)


def test_ddim_between_uneven_timesteps_matches_its_rule() -> None:
    scheduler = following(DDIMScheduler, (900, 650, 30))(clip_sample=False)
    scheduler.set_timesteps(3)
    generator = torch.Generator().manual_seed(0)
    sample, output = torch.randn(2, 1, 3, 4, 4, generator=generator)
    for now, then in ((900, 650), (650, 30), (30, None)):
        bar = scheduler.alphas_cumprod[now]
        left = torch.tensor(1.0) if then is None else scheduler.alphas_cumprod[then]
        clean = (sample - (1 - bar).sqrt() * output) / bar.sqrt()
        expected = left.sqrt() * clean + (1 - left).sqrt() * output
        found = scheduler.step(output, torch.tensor(now), sample, return_dict=False)[0]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert scheduler.num_inference_steps == 3


def test_the_own_scheduler_comes_back(tiny_pipeline: StableDiffusionPipeline) -> None:
    model, own = sfumato.wrap(tiny_pipeline), tiny_pipeline.scheduler
    with suppress(ZeroDivisionError), using(tiny_pipeline, model.complete(Request("a", schedule="early", steps=9))):
        assert tiny_pipeline.scheduler is not own
        raise ZeroDivisionError
    assert tiny_pipeline.scheduler is own


@pytest.mark.parametrize("method", ["daam", "profile"])
def test_methods_run_on_a_schedule(tiny_pipeline: StableDiffusionPipeline, method: str) -> None:
    request = Request("a red cat", seed=3, scheduler="ddim", schedule="early", steps=3)
    found = sfumato.explain(sfumato.wrap(tiny_pipeline), request, method)
    assert found.request.schedule == "early"
