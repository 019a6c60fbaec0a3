from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.generation.generate import generate
from sfumato.generation.recorders.samples import Samples
from sfumato.request import Request
from tests.families import family
from tests.generation.recorders.watchers import Seeing

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize(
    ("scheduler", "steps"),
    [
        ("ddim", [0, 1, 2, 3]),
        ("euler", [0, 1, 2, 3]),
        ("dpmsolvermultistep", [0, 1, 2, 3]),
        ("heun", [0, 1, 1, 2, 2, 3, 3]),  # two calls for a timestep but the first
        ("pndm", [0, 1, 1, 2, 3]),
    ],
)
def test_the_step_comes_from_the_timestep(
    tiny_pipeline: StableDiffusionPipeline, scheduler: str, steps: list[int]
) -> None:
    told = []
    request = Request("cat", steps=4, guidance=1, height=16, width=16, scheduler=scheduler)
    trace = generate(
        sfumato.wrap(tiny_pipeline),
        request,
        record=True,
        progress=lambda what, done, total: told.append((what, done, total)),
    )
    assert [call.step for call in trace.calls] == steps
    assert told == [("denoising", step + 1, 4) for step in steps]
    timesteps = [call.timestep for call in trace.calls]
    assert timesteps == sorted(timesteps, reverse=True)
    assert len(set(timesteps)) == 4


def test_watchers_read_the_step_that_is_under_way(tiny_pipeline: StableDiffusionPipeline) -> None:
    seen: list[tuple[int, int, float]] = []
    watcher = Seeing(lambda attention, run: seen.append((run.clock.step, run.clock.calls, run.clock.timestep)))
    trace = generate(
        sfumato.wrap(tiny_pipeline),
        Request("cat", steps=3, guidance=1, height=16, width=16),
        attachments=[watcher],
        record=True,
    )
    expected = [(call.step, number + 1, call.timestep) for number, call in enumerate(trace.calls)]
    assert list(dict.fromkeys(seen)) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["Flux, image to image", "Stable Diffusion 3, image to image"])
def test_a_run_from_an_image_begins_where_the_strength_says(name: str, dtype: torch.dtype) -> None:
    """The denoiser is told a timestep that half precision rounds, so the place must come from elsewhere."""
    pipeline = family(name).build().to(dtype)
    model, request = family(name).wrapped(pipeline), family(name).request(steps=10, strength=0.45)
    seen: list[tuple[int, float]] = []
    generate(
        model,
        request,
        attachments=[Seeing(lambda a, run: seen.append((run.clock.step, run.clock.timestep)), ("joint",))],
    )
    steps = list(dict.fromkeys(seen))
    assert [step for step, _ in steps] == list(range(model.steps(model.complete(request))))
    assert len(steps) == 5
    assert [time for _, time in steps] == pytest.approx(pipeline.scheduler.timesteps[-5:].tolist())


def test_samples_of_packed_latents_are_maps() -> None:
    found: list[tuple[int, ...]] = []
    taking = Samples(lambda step, samples: found.append(tuple(samples.shape)))
    trace = generate(family("Chroma").wrapped(), family("Chroma").request(), attachments=[taking])
    assert found == [tuple(trace.latents.shape)] * 2 == [(1, 16, 16, 24)] * 2
