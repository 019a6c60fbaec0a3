"""The stages of a training, one after the other."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sfumato.errors import TrainingError
from sfumato.studio.training.config import STAGES, Config, Stage
from sfumato.studio.training.progress import Progress, logging_to

Probe = Callable[[Any], dict[str, float]]
"""Measures a pipeline; what it returns goes into the log under the given names."""


def train(
    config: Config,
    out: Path,
    *,
    stages: Sequence[Stage] = STAGES,
    resume: bool = True,
    progress: Progress | None = None,
    probe: Probe | None = None,
) -> None:
    """Train the embedded model, or go on where an earlier call stopped.

    Args:
        config: What to train.
        out: The work folder: data, checkpoints, samples and the log (log.jsonl). "vae" and "clip" need "data",
            "unet" needs all three. Two calls with different stages may share the folder at the same time.
        stages: Which stages to run, in this order.
        resume: Go on from the last checkpoint of each stage; false starts the stages over.
        progress: Told every step; by default a bar on a terminal, else a line now and then.
        probe: Measures the pipeline with averaged weights whenever the U-Net draws its samples.

    Raises:
        TrainingError: A stage cannot start, resume or go on.
    """
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise TrainingError(f"{unknown[0]!r} is no stage; the stages are: {', '.join(STAGES)}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        partial = out / f"config.json.{os.getpid()}"
        partial.write_text(json.dumps(config.to_dict(), indent=1) + "\n", encoding="utf-8")
        partial.replace(out / "config.json")
    except OSError as error:
        raise TrainingError(f"cannot write to {out}: {error}; choose another folder with --out") from error
    if progress is not None:
        _run(config, out, stages, resume, progress, probe)
        return
    with logging_to(out / "log.jsonl") as log:
        _run(config, out, stages, resume, log, probe)


def _run(
    config: Config, out: Path, stages: Sequence[Stage], resume: bool, progress: Progress, probe: Probe | None
) -> None:
    for stage in stages:
        if not resume:
            shutil.rmtree(out / stage, ignore_errors=True)
        if stage == "data":
            from sfumato.studio.training.data import make_data

            make_data(config.data, out / "data", progress)
        elif stage == "vae":
            from sfumato.studio.training.vae import train_vae

            train_vae(config, out, progress, resume=resume)
        elif stage == "clip":
            from sfumato.studio.training.clip import train_clip

            train_clip(config, out, progress, resume=resume)
        else:
            from sfumato.studio.training.unet import train_unet

            train_unet(config, out, progress, resume=resume, probe=probe)
