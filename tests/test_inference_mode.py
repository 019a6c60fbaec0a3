"""Callers that have switched derivatives off: methods take those that they need, and the result is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import ModelError
from sfumato.generation.generate import generate
from sfumato.request import Request
from tests.methods.steps import CLIP
from tests.pipelines import PROMPT

REQUEST = Request(PROMPT, seed=2, steps=1, guidance=1, height=16, width=16)
OFF = {"inference_mode": torch.inference_mode, "no_grad": torch.no_grad}


@pytest.mark.parametrize(
    ("method", "options"),
    [("df_cam", {}), ("relevance", {"clip_model": CLIP}), ("word_gradients", {"target": "brightness"})],
)
def test_methods_give_the_same_where_the_caller_takes_no_derivatives(
    tiny_pipeline: StableDiffusionPipeline, method: str, options: dict[str, Any]
) -> None:
    model = sfumato.wrap(tiny_pipeline)
    plain = sfumato.explain(model, REQUEST, method, **options)
    for name, off in OFF.items():
        with off():
            found = sfumato.explain(model, REQUEST, method, **options)
            assert torch.is_inference_mode_enabled() == (name == "inference_mode")
            assert not torch.is_grad_enabled()
        for node in plain.tree.subtree:
            for one, values in node.to_dataset().data_vars.items():
                np.testing.assert_array_equal(found.tree[node.path][one].values, values.values, err_msg=f"{name} {one}")


def test_a_condition_and_a_replay_have_derivatives_there(tiny_pipeline: StableDiffusionPipeline) -> None:
    with torch.inference_mode():
        model = sfumato.wrap(tiny_pipeline)
        trace = generate(model, REQUEST, record=True)
        condition = model.encode([PROMPT])
    condition.requires_grad_()
    output = trace.replay(0, condition=condition, gradients=True)
    (gradient,) = torch.autograd.grad(output.sum(), condition)
    assert float(gradient.abs().max()) > 0


def test_weights_that_were_made_there_are_named(tiny_sd: Callable[..., StableDiffusionPipeline]) -> None:
    with torch.inference_mode():
        model = sfumato.wrap(tiny_sd())
    with pytest.raises(ModelError, match="load the pipeline outside it"):
        sfumato.explain(model, REQUEST, "df_cam")
