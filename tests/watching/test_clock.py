from __future__ import annotations

import pytest
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.request import Request
from sfumato.trace import generate
from tests.watching.watchers import Seeing

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
