"""A switched condition is read by the conditional branch alone, from its step on, by the images it is meant for."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.generation.generate import generate
from sfumato.generation.interventions.conditions import SwitchCondition
from sfumato.generation.trace import Trace
from sfumato.models.model import Model
from sfumato.request import Request
from tests.labels import REQUEST, tiny_labels, tiny_unconditional
from tests.pipelines import PROMPT, fingerprint

WIDE = Request(PROMPT, seed=2, steps=4, guidance=4.0, height=16, width=24)
NONE = 16  # the number that stands for no label


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.wrap(tiny_labels(prediction_type="v_prediction"))


def run(model: Model, requests: Request | list[Request], to: str, *steps: int | None) -> Trace:
    before = fingerprint(model.pipeline)
    trace = generate(model, requests, attachments=[SwitchCondition(to, steps)], record=True)
    assert fingerprint(model.pipeline) == before
    return trace


def labels_at(trace: Trace, step: int) -> list[int]:
    condition = trace.call(step).condition
    assert condition is not None
    return [int(number) for number in condition]


def test_labels_change_from_the_step_on_and_only_where_they_are_read(model: Model) -> None:
    trace = run(model, REQUEST, "1100", 4)
    assert [labels_at(trace, step) for step in range(6)] == [[NONE, 3]] * 4 + [[NONE, 12]] * 2


def test_every_image_has_its_own_step(model: Model) -> None:
    requests = [REQUEST.with_(seed=seed) for seed in (1, 2, 3)]
    trace = run(model, requests, "1100", 2, None, 0)
    assert labels_at(trace, 0) == [NONE] * 3 + [3, 3, 12]
    assert labels_at(trace, 2) == [NONE] * 3 + [12, 3, 12]
    alone = [
        generate(model, REQUEST.with_(seed=2)).latents,
        generate(model, REQUEST.with_(seed=3, label="1100")).latents,
    ]
    torch.testing.assert_close(trace.latents[1:], torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_one_step_counts_for_all_images(model: Model) -> None:
    trace = run(model, REQUEST.with_(images=2), "1100", 3)
    assert labels_at(trace, 2) == [NONE, NONE, 3, 3]
    assert labels_at(trace, 3) == [NONE, NONE, 12, 12]


def test_without_guidance_there_is_only_the_conditional_branch(model: Model) -> None:
    trace = run(model, REQUEST.with_(guidance=1.0), "1100", 5)
    assert labels_at(trace, 4) == [3]
    assert labels_at(trace, 5) == [12]


def test_no_label_can_be_switched_to(model: Model) -> None:
    assert labels_at(run(model, REQUEST, "", 0), 0) == [NONE, NONE]


def test_prompts_change_likewise(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    plain, trace = generate(model, WIDE, record=True), run(model, WIDE, "a blue dog", 2)
    old, new = model.encode([PROMPT])[0], model.encode(["a blue dog"])[0]
    for step in range(4):
        condition, before = trace.call(step).condition, plain.call(step).condition
        assert condition is not None
        assert before is not None
        torch.testing.assert_close(condition[1], old if step < 2 else new)
        assert torch.equal(condition[0], before[0])
    assert torch.equal(trace.call(2).sample, plain.call(2).sample)
    assert not torch.equal(trace.latents, plain.latents)


def test_a_model_without_condition_is_refused() -> None:
    model = sfumato.wrap(tiny_unconditional())
    with pytest.raises(ModelError, match="DDPMPipeline has no prompt or label that could be switched"):
        run(model, Request(steps=2), "0011", 1)


def test_a_wrong_label_is_refused(model: Model) -> None:
    with pytest.raises(ModelError, match="the label is '012'; expected 4 bits"):
        run(model, REQUEST, "012", 1)


def test_as_many_steps_as_images_are_needed(model: Model) -> None:
    with pytest.raises(OptionError, match="2 steps were given for 3 images"):
        run(model, REQUEST.with_(images=3), "1100", 0, 1)
