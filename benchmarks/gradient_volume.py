"""What a gradient volume costs: ours beside the source's listing, and beside nothing but its backward passes.

The network is that of studio/faces with random weights, 64 x 64 pixels; one DDPM step without guidance, as there.

    .venv/bin/python benchmarks/gradient_volume.py                  64 and 256 pixels on a CPU, one thread, three rounds
    .venv/bin/python benchmarks/gradient_volume.py --device cuda    the same on a GPU, vectorised

Contenders: "listing" derives pixel after pixel by .backward() into .grad, the weights collecting gradients too, as the
source's listing C.3 does; "bare" is one forward and as many autograd.grad calls by the input, the weights frozen;
"sfumato" is the method's own code; "region" is the sum over the pixels by one backward pass.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from meter import metered

import sfumato
from sfumato.generation.generate import generate
from sfumato.generation.step_gradients import gradients, region_gradients, step_with_gradients
from sfumato.generation.trace import Trace
from sfumato.pipelines.label_pipeline import LabelPipeline
from sfumato.pipelines.label_unet import LabelUNet
from sfumato.request import Request

STEP = 5
CHUNK = 16
ROUNDS = 3


def traced(device: torch.device) -> Trace:
    """A short DDPM run whose steps are recorded."""
    from diffusers import DDPMScheduler

    torch.manual_seed(0)
    scheduler = DDPMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False)
    pipeline = LabelPipeline(LabelUNet(64, dim=24).to(device).eval().requires_grad_(False), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    model = sfumato.wrap(pipeline)
    return generate(model, Request(label="0011", steps=10, guidance=1.0), record={STEP})


def listing(trace: Trace, pixels: torch.Tensor) -> torch.Tensor:
    """Pixel by pixel into .grad, with gradients of the weights beside them."""
    unet, call = trace.model.denoiser, trace.call(STEP)
    unet.requires_grad_(True)
    try:
        x = call.sample.detach().clone().requires_grad_(True)
        noise = unet(x, call.timestep, class_labels=call.condition, return_dict=False)[0]
        alpha_bar = trace.scheduler.alphas_cumprod[int(call.timestep)]
        later = trace.scheduler.alphas_cumprod[int(trace.scheduler.timesteps[STEP + 1])]
        beta = 1 - alpha_bar / later  # of a step over several timesteps
        mean = (x - beta / (1 - alpha_bar).sqrt() * noise) / (1 - beta).sqrt()
        flat = mean[0].sum(0).flatten()
        rows = []
        for pixel in pixels.tolist():
            if x.grad is not None:
                x.grad.zero_()
            flat[pixel].backward(retain_graph=True)
            assert x.grad is not None
            rows.append(x.grad[0].sum(0).clone())
        return torch.stack(rows)
    finally:
        unet.requires_grad_(False)
        for parameter in unet.parameters():
            parameter.grad = None


def bare(trace: Trace, pixels: torch.Tensor) -> torch.Tensor:
    """One forward and the backward passes, the weights frozen."""
    unet, call = trace.model.denoiser, trace.call(STEP)
    x = call.sample.detach().clone().requires_grad_(True)
    flat = unet(x, call.timestep, class_labels=call.condition, return_dict=False)[0][0].sum(0).flatten()
    rows = [torch.autograd.grad(flat[pixel], x, retain_graph=True)[0][0].sum(0) for pixel in pixels.tolist()]
    return torch.stack(rows)


def ours(trace: Trace, pixels: torch.Tensor) -> torch.Tensor:
    """The method's own code."""
    stepped = step_with_gradients(trace, STEP, branch="conditional")
    chunk = 1 if stepped.sample.device.type == "cpu" else CHUNK
    return torch.cat([found[0].sum(1) for found in gradients(stepped, pixels, chunk=chunk)])


def region(trace: Trace, pixels: torch.Tensor) -> torch.Tensor:
    """The sum over the pixels."""
    stepped = step_with_gradients(trace, STEP, branch="conditional")
    mask = torch.zeros(stepped.result.numel())
    mask[pixels] = 1
    return region_gradients(stepped, mask.reshape(stepped.result.shape))[0].sum(1)


CONTENDERS: dict[str, Callable[[Trace, torch.Tensor], torch.Tensor]] = {
    "listing": listing,
    "bare": bare,
    "sfumato": ours,
    "region": region,
}


def measured(trace: Trace, count: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Medians of the ratios of each round, interleaved."""
    pixels = torch.randperm(64 * 64, generator=torch.Generator().manual_seed(0))[:count]
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, run in CONTENDERS.items():
            with metered(device) as cost:
                run(trace, pixels)
            seconds[name].append(cost.seconds)

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    return {
        "pixels": count,
        "seconds": {name: round(statistics.median(values), 3) for name, values in seconds.items()},
        "listing / sfumato": round(ratio("listing", "sfumato"), 3),
        "sfumato / bare": round(ratio("sfumato", "bare"), 3),
        "region / sfumato": round(ratio("region", "sfumato"), 3),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    device = torch.device(given.device)
    torch.set_num_threads(1)
    trace = traced(device)
    few = torch.tensor([5, 700])
    far = float((listing(trace, few) - ours(trace, few)).abs().max())
    rows = [measured(trace, count, given.rounds, device) for count in given.pixels]
    if given.json:
        print(json.dumps({"difference": far, "rows": rows}, indent=1))
        return 0
    print(f"largest difference between listing and sfumato: {far:.1e}")
    for row in rows:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
