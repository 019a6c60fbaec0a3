"""A task of a package of its own, as a third party would install it: it needs no image, so it is quick."""

from __future__ import annotations

from pathlib import Path

MODULE = """
import time
from dataclasses import dataclass

import numpy as np

from sfumato.runs.finding import Finding
from sfumato.runs.task import Captions, Cost, Item, Record, task
from sfumato.studio.scenes import held_out_captions


@dataclass(frozen=True)
class EchoOptions:
    seconds: float = 0.0


@task("echo", question="What was said?", options=EchoOptions, cost=Cost("nothing"), prompts=Captions(held_out_captions))
class Echo:
    def plan(self, facts, rows, options):
        return (Item(row.request, {}, row) for row in rows)

    def measure(self, model, items, options, progress):
        time.sleep(options.seconds * len(items))
        return [
            Record(
                {"prompt": one.request.prompt, "image": one.request.image and one.request.image.sha256},
                {"noise": np.random.default_rng(len(one.request.prompt)).random(1000)},
            )
            for one in items
        ]

    def conclude(self, records, options, about):
        return Finding("echo", "", None, f"{len(records)} were said.", [dict(about)], None, about)
"""


def install(folder: Path) -> Path:
    """Lay the package into a folder, which must stand on the path of Python."""
    about = folder / "sfumato_echo-1.dist-info"
    about.mkdir(parents=True)
    (folder / "sfumato_echo.py").write_text(MODULE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sfumato-echo\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[sfumato.tasks]\necho = sfumato_echo\n")
    return folder
