from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sfumato_training.optimising import Training


def convolution(layout: torch.memory_format) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(64, 96, 3), nn.GroupNorm(8, 96), nn.Conv2d(96, 4, 1)).to(memory_format=layout)


def step(training: Training, model: nn.Module, layout: torch.memory_format, seed: int = 1) -> None:
    pixels = torch.randn(2, 64, 6, 6, generator=torch.Generator().manual_seed(seed)).to(memory_format=layout)
    training.update(model(pixels).square().mean(), 0.1, 1.0)


def test_muon_trains_matrices_with_updates_that_turn_without_stretching() -> None:
    torch.manual_seed(0)
    model = nn.Linear(64, 128)
    before = model.weight.detach().clone()
    training = Training({"part": model}, muon=["part"])
    training.update(model(torch.randn(512, 64, generator=torch.Generator().manual_seed(0))).square().sum(), 0.1, 1.0)
    moved = torch.linalg.svdvals(model.weight.detach() - before)
    # Singular values of an orthogonal step are equal: 0.2 sqrt(128) times the rate, within what Newton-Schulz leaves.
    expected = 0.1 * 0.2 * 128**0.5
    assert expected * 0.5 < moved.min()
    assert moved.max() < expected * 1.3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_no_matrix_is_left_to_adamw(layout: torch.memory_format) -> None:
    model = convolution(layout)
    training = Training({"part": model}, muon=["part"])
    assert list(training.matrices) == ["part.0.weight"]
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    step(training, model, layout)
    for name, value in model.named_parameters():
        assert not torch.equal(value, before[name]), name


def test_the_order_of_memory_changes_nothing() -> None:
    trained = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        model = convolution(layout)
        training = Training({"part": model}, muon=["part"])
        step(training, model, layout)
        trained[layout] = model[0].weight.detach().contiguous()  # type: ignore[index]
    start = convolution(torch.contiguous_format)[0].weight.detach()  # type: ignore[index]
    moved = (trained[torch.contiguous_format] - start).norm()
    # Newton-Schulz runs in bfloat16, and the columns come in another order.
    assert (trained[torch.contiguous_format] - trained[torch.channels_last]).norm() < 0.05 * moved


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_training_taken_up_from_tensors_goes_on_bit_for_bit(layout: torch.memory_format) -> None:
    def run(cut: bool) -> dict[str, Any]:
        model = convolution(layout)
        training = Training({"part": model}, muon=["part"], ema=0.9)
        step(training, model, layout, 1)
        if cut:
            kept = {name: tensor.detach().clone().contiguous() for name, tensor in training.tensors().items()}
            model = convolution(layout)
            training = Training({"part": model}, muon=["part"], ema=0.9)
            training.restore(kept, 1)
        step(training, model, layout, 2)
        return {name: tensor.detach() for name, tensor in training.tensors().items()}

    whole, again = run(cut=False), run(cut=True)
    assert whole.keys() == again.keys()
    assert "optimizer.momentum_buffer.part.0.weight" in whole
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name]), name
