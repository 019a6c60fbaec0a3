"""Are the numbers of ``parity="daam-0.2"`` those of the daam package? Both run on the same random-weight pipelines.

    .venv/bin/python benchmarks/parity.py [--json]

The sizes are those that the package handles: a square image of 512 pixels, one prompt, guidance on.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks import peers
from benchmarks.cases import Job

PEAKED = 30.0  # factor on the queries: random weights alone give nearly uniform maps, on which a wrong order hides


@dataclass(frozen=True)
class Trial:
    """One comparison.

    Attributes:
        title: What the table says.
        sharpness: Factor on the queries of the cross-attention.
        scheduler: Name of a diffusers scheduler.
        options: Options of our method.
    """

    title: str
    sharpness: float
    scheduler: str
    options: dict[str, Any]


TRIALS = (
    Trial("nearly uniform maps, DDIM, parity", 1.0, "DDIMScheduler", {"parity": "daam-0.2"}),
    Trial("peaked maps, DDIM, parity", PEAKED, "DDIMScheduler", {"parity": "daam-0.2"}),
    Trial("peaked maps, PNDM (one call more than steps), parity", PEAKED, "PNDMScheduler", {"parity": "daam-0.2"}),
    Trial("peaked maps, DDIM, default: heads and layers summed first", PEAKED, "DDIMScheduler", {}),
)


@dataclass(frozen=True)
class Agreement:
    """How far two sets of maps are apart, as shares of the largest value of the reference.

    Attributes:
        title: Of the trial.
        tokens: Number of token maps.
        token_difference: Largest difference of a token map.
        word_difference: Largest difference of the map of a word (over all its occurrences, as the package has it).
        image_difference: Largest difference of the two images, in levels of 255; the package replaces processors.
    """

    title: str
    tokens: int
    token_difference: float
    word_difference: float
    image_difference: int


def compare(trial: Trial, job: Job) -> Agreement:
    """Run the package and Sfumato on one pipeline and compare the maps before any display scaling."""
    import daam  # type: ignore[import-not-found]
    import diffusers
    import numpy as np
    import torch

    import sfumato
    from benchmarks.contenders import arguments
    from tests import pipelines

    pipeline = pipelines.stable_diffusion(pipelines.SD15_NARROW, sharpness=trial.sharpness)
    kind = getattr(diffusers, trial.scheduler)
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, skip_prk_steps=True)
    with torch.no_grad(), daam.trace(pipeline) as trace:
        image = pipeline(job.prompt, **arguments(job)).images[0]
        reference = trace.compute_global_heat_map()
        words = {word: reference.compute_word_heat_map(word).value.numpy() for word in job.prompt.split()}
    request = sfumato.Request(job.prompt, seed=job.seed, steps=job.steps, guidance=job.guidance)
    found = sfumato.explain(sfumato.wrap(pipeline), request, **trial.options)
    # the package sums over the calls of the denoiser, as parity does; the default mode is their mean
    calls = 1 if trial.options else job.steps
    ours = calls * found.tree["tokens"].to_dataset()["map"].values  # (token, y, x)
    theirs = reference.heat_maps.numpy()
    if ours.shape != theirs.shape:
        raise SystemExit(f"{trial.title}: our token maps have shape {ours.shape}, those of daam {theirs.shape}")
    names = found.words["word"].values
    apart = []
    for word, theirs_of_word in words.items():
        of_word = calls * found.words["map"].values[names == word].mean(0)
        apart.append(np.abs(of_word - theirs_of_word).max() / theirs_of_word.max())
    images = np.asarray(image).astype(int) - np.asarray(found.image).astype(int)
    difference = np.abs(ours - theirs).max() / theirs.max()
    return Agreement(trial.title, len(ours), float(difference), float(max(apart)), int(np.abs(images).max()))


def main() -> int:
    """Compare, in the environment of the peers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if find_spec("daam") is None:
        environment = peers.prepare(Console(stderr=True).print)
        for wanted, error in environment.failures.items():
            print(f"{wanted} does not install: {error}", file=sys.stderr)
        return peers.run(environment, "benchmarks.parity", *sys.argv[1:])
    warnings.simplefilter("ignore")  # daam uses calls that torch has deprecated
    found = [compare(trial, Job(steps=given.steps, side=512)) for trial in TRIALS]
    if given.json:
        print(json.dumps([asdict(agreement) for agreement in found], indent=2))
        return 0
    table = Table(title="Largest difference from daam 0.2.0, as a share of the largest value")
    table.add_column("trial")
    for heading in ("token maps", "word maps", "images, of 255"):
        table.add_column(heading, justify="right")
    for agreement in found:
        differences = [f"{value:.1e}" for value in (agreement.token_difference, agreement.word_difference)]
        table.add_row(agreement.title, *differences, str(agreement.image_difference))
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
