"""The surroundings of every test: no network, no telemetry, one thread, and pipelines that must come back unchanged."""

from __future__ import annotations

import os

# Read by the libraries while they are imported, so set before any of them is.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    DISABLE_TELEMETRY="YES",
    DO_NOT_TRACK="1",
    TRANSFORMERS_VERBOSITY="error",
    DIFFUSERS_VERBOSITY="error",
    MPLBACKEND="Agg",
    NO_COLOR="1",
    TERM="dumb",
    COLUMNS="120",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"):  # each makes rich or typer colour what the tests read
    os.environ.pop(name, None)

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 1200
"""Seconds that a slow test may take, which needs far fewer unless the machine is busy with much else."""

# Examples are drawn from a fixed seed and not timed one by one: the first call of a model is far slower than the rest.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time than the others, where they do not say themselves how much."""
    slow = {"slow", "soak"}
    for item in items:
        if slow & {marker.name for marker in item.iter_markers()} and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache that is empty at first and this process's own: no test sees what another run has left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUMATO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def tiny_sd() -> Callable[..., StableDiffusionPipeline]:
    """The builder of random-weight Stable Diffusion pipelines; see `tests.pipelines.stable_diffusion`."""
    from tests.pipelines import stable_diffusion

    return stable_diffusion


@pytest.fixture(scope="session")
def _shared_pipeline(tiny_sd: Callable[..., StableDiffusionPipeline]) -> StableDiffusionPipeline:
    return tiny_sd()


@pytest.fixture
def tiny_pipeline(_shared_pipeline: StableDiffusionPipeline) -> Iterator[StableDiffusionPipeline]:
    """The smallest pipeline with cross-attention, built once; a test that does not leave it as it was fails.

    Build one with `tiny_sd()` to change its parts for good.
    """
    from tests.pipelines import fingerprint

    before = fingerprint(_shared_pipeline)
    yield _shared_pipeline
    after = fingerprint(_shared_pipeline)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    assert not changed, f"the test left the shared pipeline changed: {', '.join(changed[:8])}"
