"""What maps of joint attention cost: the columns of the text, of one softmax over text and image.

One attention module at the real shapes of Flux and Stable Diffusion 3, for images of 1024 and 512 pixels, random
queries, keys and values in the memory layout of diffusers. Its map, summed over the heads, is read in several ways.

    .venv/bin/python benchmarks/joint.py                        all four shapes on a CPU, one thread, five rounds
    .venv/bin/python benchmarks/joint.py --shapes flux-512      the quickest but one
    .venv/bin/python benchmarks/joint.py --dtype bfloat16
    .venv/bin/python benchmarks/joint.py --device cuda          in float16

Contenders: "plain" is scaled_dot_product_attention alone; "sfumato" the library's own tap and sums, with the fused
kernel's log of the sum where it tells it (a CPU); "blocks" the same without, so that whole rows are computed a block at
a time; "explicit" the softmax of the whole matrix, whose columns are the map. Each reads 20 tokens of a prompt, or all.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from meter import Cost, metered
from torch import nn
from torch.overrides import TorchFunctionMode

from sfumato.generation.clock import Clock
from sfumato.generation.context import GenerationContext
from sfumato.generation.hooks import temporary_hooks
from sfumato.generation.recorders.reduce import AttentionSums
from sfumato.models.model import Branches, Site
from sfumato.request import Request

ROUNDS = 5
BRANCH = "conditional"
SHARPNESS = 2.0


@dataclass(frozen=True)
class Shape:
    """One attention module of a pipeline.

    Attributes:
        title: What it is.
        heads: Number of heads.
        channels: Of a head.
        text: Number of tokens in the context, padding included.
        text_first: Whether they stand before the image.
        grid: (height, width) of the image's positions.
        prompt: Places of 20 tokens of a prompt in the context, which Stable Diffusion 3 reads by CLIP and by T5.
        calls: How many calls are timed together.
    """

    title: str
    heads: int
    channels: int
    text: int
    text_first: bool
    grid: tuple[int, int]
    prompt: tuple[int, ...]
    calls: int

    @property
    def positions(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def columns(self) -> slice:
        """The keys that are tokens."""
        return slice(self.text) if self.text_first else slice(self.positions, None)

    @property
    def places(self) -> slice:
        """The queries that are positions."""
        return slice(self.text, None) if self.text_first else slice(self.positions)

    def tokens(self, which: str) -> tuple[int, ...]:
        return self.prompt if which == "prompt" else tuple(range(self.text))


FLUX = partial(Shape, heads=24, channels=128, text=512, text_first=True, prompt=tuple(range(20)))
SD3 = partial(Shape, heads=24, channels=64, text=333, text_first=False, prompt=(*range(1, 11), *range(77, 87)))
SHAPES = {
    "flux-1024": FLUX("Flux, 1024 x 1024", grid=(64, 64), calls=1),
    "flux-512": FLUX("Flux, 512 x 512", grid=(32, 32), calls=4),
    "sd3-1024": SD3("Stable Diffusion 3, 1024 x 1024", grid=(64, 64), calls=1),
    "sd3-512": SD3("Stable Diffusion 3, 512 x 512", grid=(32, 32), calls=8),
}


class Layer(nn.Module):
    """An attention module that is nothing but its attention."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value)


@dataclass
class OneLayer:
    """What a tap asks of a model."""

    denoiser: nn.Module
    grid: tuple[int, int]

    def token_grid(self, request: Request) -> tuple[int, int]:
        return self.grid


class Nothing(TorchFunctionMode):
    """A mode that changes nothing; while one is active, the tap leaves the call to PyTorch, which tells no log-sum."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@dataclass
class Case:
    """One shape with its query, key and value: (row, head, position, channel), of which the heads lie inside."""

    shape: Shape
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    model: nn.Module

    @classmethod
    def of(cls, shape: Shape, device: torch.device, dtype: torch.dtype) -> Case:
        generator = torch.Generator().manual_seed(0)
        size = (1, shape.text + shape.positions, shape.heads, shape.channels)
        query, key, value = (torch.randn(size, generator=generator).to(device, dtype).transpose(1, 2) for _ in range(3))
        return cls(shape, (SHARPNESS * query, key, value), nn.ModuleDict({"attn": Layer(shape.heads)}))

    def exact(self) -> Case:
        """The same numbers in float32, called once."""
        query, key, value = (one.float() for one in self.inputs)
        return Case(replace(self.shape, calls=1), (query, key, value), self.model)

    def attend(self) -> torch.Tensor:
        output: torch.Tensor = self.model["attn"](*self.inputs)
        return output


Read = Callable[[], torch.Tensor]
Reading = Callable[[Case, Sequence[int]], tuple[torch.Tensor, Read | None]]


def plain(case: Case, tokens: Sequence[int]) -> tuple[torch.Tensor, Read | None]:
    """Attention alone."""
    for _ in range(case.shape.calls):
        output = case.attend()
    return output, None


def ours(case: Case, tokens: Sequence[int], *, log_sum: bool = True) -> tuple[torch.Tensor, Read | None]:
    """The tap and the sums of the library."""
    shape = case.shape
    sums = AttentionSums([Site("attn", "joint", "double", text_first=shape.text_first)], BRANCH, tokens)
    with watched(case, sums), nullcontext() if log_sum else Nothing():
        for _ in range(shape.calls):
            output = case.attend()
    return output, lambda: torch.from_numpy(sums.grids()[shape.grid].maps).squeeze().flatten(1)


def explicit(case: Case, tokens: Sequence[int]) -> tuple[torch.Tensor, Read | None]:
    """The whole matrix; the scores are gone before the softmax is used."""
    shape, (query, key, value) = case.shape, case.inputs
    summed = torch.zeros(shape.positions, len(tokens), device=query.device)
    columns = torch.arange(shape.text + shape.positions)[shape.columns][list(tokens)].to(query.device)
    for _ in range(shape.calls):
        scores = torch.matmul(query / math.sqrt(shape.channels), key.transpose(-1, -2))
        probabilities = scores.softmax(-1)
        del scores
        output = torch.matmul(probabilities, value)
        summed += probabilities[0, :, shape.places][..., columns].float().sum(0)
        del probabilities
    return output, lambda: summed.T.cpu() / (shape.heads * shape.calls)


@contextmanager
def watched(case: Case, sums: AttentionSums) -> Iterator[None]:
    """Attach sums to the layer, as to a run of one image."""
    clock = Clock(None, lambda *_: None)
    clock.hold(0, 0.0)
    with temporary_hooks() as hooks:
        model: Any = OneLayer(case.model, case.shape.grid)
        sums.install(GenerationContext(model, (Request(""),), 1, Branches((BRANCH,)), clock, hooks))
        yield


CONTENDERS: dict[str, tuple[Reading, str]] = {
    "plain": (plain, ""),
    "plain, again": (plain, ""),
    "sfumato, 20 tokens": (ours, "prompt"),
    "sfumato, all tokens": (ours, "all"),
    "blocks, 20 tokens": (partial(ours, log_sum=False), "prompt"),
    "blocks, all tokens": (partial(ours, log_sum=False), "all"),
    "explicit, 20 tokens": (explicit, "prompt"),
    "explicit, all tokens": (explicit, "all"),
}


def measured(shape: Shape, rounds: int, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Every contender once a round, in an order that moves on by one place each round; untimed before it is timed."""
    case = Case.of(shape, device, dtype)
    costs: dict[str, list[Cost]] = {name: [] for name in CONTENDERS}
    outputs: dict[str, float] = {}
    maps: dict[str, torch.Tensor] = {}
    usual = case.attend()
    truth = {which: mapped(case.exact(), which) for which in ("prompt", "all")}
    for number in range(rounds):
        turn = number % len(CONTENDERS)
        for name in [*CONTENDERS, *CONTENDERS][turn : turn + len(CONTENDERS)]:
            run, which = CONTENDERS[name]
            tokens = shape.tokens(which)
            run(case, tokens)  # untimed: imports, kernels, and pages that a virtual machine has given back
            with metered(device) as cost:
                output, read = run(case, tokens)
            costs[name].append(cost)
            outputs[name] = float((output - usual).abs().max())
            if read is not None:
                maps[name] = read()
            del output, read
    return {
        "shape": shape.title,
        "rounds": rounds,
        "calls": shape.calls,
        "plain seconds": round(statistics.median(cost.seconds for cost in costs["plain"]) / shape.calls, 3),
        "contenders": {name: row(name, costs) | {"output differs by": outputs[name]} for name in CONTENDERS},
        "maps differ by": {name: apart(maps[name], truth[CONTENDERS[name][1]]) for name in maps},
    }


def row(name: str, costs: dict[str, list[Cost]]) -> dict[str, float]:
    """Ratios to the plain run of the same round; memory above the plain peak, in MB."""
    ratios = [own.seconds / other.seconds for own, other in zip(costs[name], costs["plain"], strict=True)]
    peak, usual = (statistics.median(cost.peak_mb for cost in costs[each]) for each in (name, "plain"))
    return {
        "time / plain": round(statistics.median(ratios), 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
        "extra MB": round(peak - usual, 1),
    }


def mapped(case: Case, which: str) -> torch.Tensor:
    """The map of an explicit softmax: (token, position)."""
    read = explicit(case, case.shape.tokens(which))[1]
    assert read is not None
    return read()


def apart(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Largest difference from the map of an explicit softmax in float32, as a share of the largest value there."""
    return float((found - truth).abs().max() / truth.max())


def shown(found: dict[str, Any]) -> str:
    """As a table."""
    lines = [
        f"**{found['shape']}**, medians of {found['rounds']} rounds, plain {found['plain seconds']:.2f} s a call:",
        "",
        "| contender | time / plain | lowest to highest | extra memory, MB | output differs by | map differs by |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, own in found["contenders"].items():
        far = found["maps differ by"].get(name)
        lines.append(
            f"| {name} | {own['time / plain']:.3f} | {own['lowest']:.3f} to {own['highest']:.3f} | "
            f"{own['extra MB']:.1f} | {own['output differs by']:.1g} | {'-' if far is None else f'{far:.1g}'} |"
        )
    return "\n".join([*lines, ""])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="float32 on a CPU, else float16")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    device = torch.device(given.device)
    dtype = getattr(torch, given.dtype or ("float32" if device.type == "cpu" else "float16"))
    torch.set_num_threads(given.threads)
    rows = []
    with torch.no_grad():
        for name in given.shapes:
            rows.append(measured(SHAPES[name], given.rounds, device, dtype))
            if not given.json:
                print(shown(rows[-1]), flush=True)
    if given.json:
        print(json.dumps({"dtype": str(dtype), "threads": given.threads, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
