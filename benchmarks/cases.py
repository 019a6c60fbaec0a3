"""The jobs that are measured. Nothing heavy is imported here, so that the command answers at once."""

from __future__ import annotations

from dataclasses import dataclass

PROMPT = "a photo of a red cat on the table"


@dataclass(frozen=True)
class Job:
    """One generation."""

    steps: int
    side: int
    prompt: str = PROMPT
    images: int = 1
    seed: int = 0
    guidance: float = 7.5


@dataclass(frozen=True)
class Case:
    """A pipeline with random weights and a job for it.

    Attributes:
        title: What the table says.
        shape: Name of a shape in tests/pipelines.py.
        job: The generation.
        rounds: How often every contender runs, if the command line does not say.
        device: Where it is meant to run.
    """

    title: str
    shape: str
    job: Job
    rounds: int = 5
    device: str = "cpu"


CASES = {
    "narrow-256": Case("SD 1.5 topology, narrow, 256 px, 10 steps", "SD15_NARROW", Job(steps=10, side=256)),
    "narrow-512": Case("SD 1.5 topology, narrow, 512 px, 10 steps", "SD15_NARROW", Job(steps=10, side=512)),
    "real-256": Case("SD 1.5 at real widths, 256 px, 3 steps", "SD15", Job(steps=3, side=256), rounds=3),
    "cuda-1": Case("SD 1.5 at real widths, 512 px, 30 steps, batch 1", "SD15", Job(steps=30, side=512), device="cuda"),
    "cuda-8": Case(
        "SD 1.5 at real widths, 512 px, 30 steps, batch 8", "SD15", Job(steps=30, side=512, images=8), device="cuda"
    ),
}

# Every contender, and whether it is measured unless the command line names others.
CONTENDERS = {
    "plain": True,
    "plain, again": True,
    "sfumato": True,
    "sfumato, parity": False,
    "daam": True,
    "attention-map-diffusers": True,
    "attention-map-diffusers, last step": False,
}
