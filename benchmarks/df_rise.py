"""What saliency of a step costs: DF-RISE beside a loop of single calls and the bare batched denoiser; DF-CAM by layer.

The pipeline has the blocks of Stable Diffusion 1.5 at a fraction of its width, random weights, a latent of 32 x 32.

    .venv/bin/python benchmarks/df_rise.py                  500 masks, three rounds, on a CPU with one thread
    .venv/bin/python benchmarks/df_rise.py --masks 128
    .venv/bin/python benchmarks/df_rise.py --device cuda

Contenders: "loop" masks the latent and calls the denoiser once for each mask and branch; "bare" calls it on the same
masked latents in batches, and compares nothing; "sfumato" is the method's own code, similarity and sums included.
"layers" is DF-CAM with a forward and a backward pass for each layer, "together" the method's own code.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from meter import metered

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import sfumato
from sfumato.generation.feature_layers import chosen, layers_of
from sfumato.generation.generate import generate
from sfumato.generation.trace import Trace
from sfumato.request import Request
from sfumato.saliency.cam import LAYERS, cam
from sfumato.saliency.occlusion import Masks
from sfumato.saliency.recovering import Recovery, rows_within
from sfumato.saliency.rise import rise
from sfumato.saliency.similarities import local_similarity
from tests.pipelines import PROMPT, SD15_NARROW, stable_diffusion

STEP = 2
KEEP = 0.5
ROUNDS = 3


def traced(device: torch.device) -> Trace:
    """A short run whose step is recorded."""
    model = sfumato.wrap(stable_diffusion(SD15_NARROW).to(device))
    request = Request(PROMPT, seed=0, steps=4, guidance=7.5, height=256, width=256, scheduler="ddim")
    return generate(model, request, record={STEP})


def drawn(trace: Trace, count: int) -> torch.Tensor:
    """The masked latents that every contender sees."""
    recovery = Recovery(trace, STEP)
    return recovery.masked(Masks("iid", recovery.grid, KEEP, 7, 0).draw(count))


def loop(trace: Trace, count: int, rows: int) -> None:
    """One call of the denoiser for each mask and branch."""
    for sample in drawn(trace, count).split(1):
        trace.replay(STEP, sample=sample)
        trace.replay(STEP, branch="unconditional", sample=sample)


def bare(trace: Trace, count: int, rows: int) -> None:
    """Batches, and nothing but the denoiser."""
    for samples in drawn(trace, count).split(rows):
        trace.replay(STEP, sample=samples)
        trace.replay(STEP, branch="unconditional", sample=samples)


def ours(trace: Trace, count: int, rows: int) -> None:
    """The method's own code."""
    recovery = Recovery(trace, STEP, rows=rows)
    own = recovery.recovered(recovery.sample)
    masks = Masks("iid", recovery.grid, KEEP, 7, 0)
    rise(recovery, masks, lambda some: local_similarity("structure", own, recovery.recovered(some)), count)


def names(trace: Trace) -> list[str]:
    """The layers of DF-CAM."""
    known = layers_of(trace.model, trace.requests[0])
    patterns = [one for one in LAYERS if one.startswith(("down_", "mid_block.", "up_"))]
    return [layer.name for layer in chosen(patterns, known)]


def by_layer(trace: Trace, layers: list[str]) -> None:
    """A forward and a backward pass for each layer."""
    for name in layers:
        cam(Recovery(trace, STEP), [name])


def together(trace: Trace, layers: list[str]) -> None:
    """One of each for all."""
    cam(Recovery(trace, STEP), layers)


def ratios(runs: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every contender, rounds interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            with metered(device) as cost:
                run()
            seconds[name].append(cost.seconds)
    return seconds


def median_ratio(seconds: dict[str, list[float]], one: str, other: str) -> float:
    """The median over rounds of the ratio of two contenders."""
    return round(statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True)), 3)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=500)
    parser.add_argument("--memory", type=float, default=1000.0, help="MB of feature maps in a batch")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    device = torch.device(given.device)
    torch.set_num_threads(1)
    trace = traced(device)
    rows = rows_within(trace.model, trace.requests[0], given.memory)
    runs = {
        name: (lambda run=run: run(trace, given.masks, rows))
        for name, run in (("loop", loop), ("bare", bare), ("sfumato", ours))
    }
    rise_seconds = ratios(runs, given.rounds, device)
    layers = names(trace)
    cam_seconds = ratios(
        {"layers": lambda: by_layer(trace, layers), "together": lambda: together(trace, layers)}, given.rounds, device
    )
    found: dict[str, Any] = {
        "masks": given.masks,
        "rows of a batch": rows,
        "seconds": {name: round(statistics.median(values), 2) for name, values in (rise_seconds | cam_seconds).items()},
        "loop / sfumato": median_ratio(rise_seconds, "loop", "sfumato"),
        "sfumato / bare": median_ratio(rise_seconds, "sfumato", "bare"),
        "layers of DF-CAM": len(layers),
        "by layer / together": median_ratio(cam_seconds, "layers", "together"),
    }
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
