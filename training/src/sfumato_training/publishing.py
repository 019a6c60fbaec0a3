"""A trained model as a folder inside the package: written beside its place, small enough, put there by renaming."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato.errors import StoreError
from sfumato.models.loading import STUDIO
from sfumato.reading import read_json
from sfumato.writing.folders import write_folder
from sfumato_training.samples import networks

WEIGHTS = STUDIO
"""Where the shipped models lie, and an export goes unless told otherwise."""

LIMIT_MB = 25.0
"""No shipped model may be larger."""


def millions(module: Any) -> float:
    """Parameters of a network, in millions."""
    return float(sum(parameter.numel() for parameter in module.parameters()) / 1e6)


def replace_model(folder: Path, write: Callable[[Path], None]) -> Path:
    """Fill a folder next to `folder`, and put it in its place if it is small enough and what is there may go."""
    with write_folder(folder) as stage:
        write(stage)
        megabytes = sum(path.stat().st_size for path in stage.rglob("*") if path.is_file()) / 1e6
        if megabytes >= LIMIT_MB:
            raise StoreError(f"{folder.name} would take {megabytes:.1f} MB; it must stay under {LIMIT_MB:.0f} MB")
    return folder


def load_in_full(path: Path) -> None:
    """Let transformers load weights stored in half precision as float32, as diffusers does, unless asked otherwise."""
    config = read_json(path)
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        if "dtype" in part:
            part["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Told:
    """What a card tells of a training beside its settings.

    Attributes:
        name: Of the training.
        shipped: Whether its settings are those of the shipped model.
        machine: What it ran on.
        took: How long, such as "2.5 hours"; empty where nobody knows.
        quality: Measured numbers by name; shares from 0 to 1.
        remarks: What else a reader should know.
    """

    name: str
    shipped: bool
    machine: str
    took: str
    quality: Mapping[str, Any]
    remarks: str

    @property
    def how(self) -> str:
        """Command, settings, machine and time."""
        settings = f"`sfumato_training/configs/{self.name}.toml`" if self.shipped else "settings of its own"
        took = f" It took {self.took} in all." if self.took else ""
        return f"`sfumato train {self.name}` with {settings}, on {self.machine}.{took}"

    def table(self, quality: Mapping[str, Any] | None = None) -> str:
        """The measured numbers, or some, as a table of Markdown; shares as percentages."""
        quality = self.quality if quality is None else quality
        if not quality:
            return f"Not measured yet: run `sfumato studio score {self.name}`."
        shown = {what: f"{value:.1%}" if isinstance(value, float) else str(value) for what, value in quality.items()}
        rows = [f"| {what.replace('_', ' ')} | {value} |" for what, value in shown.items()]
        return "\n".join(["| what | measured |", "| --- | --- |", *rows])


def write_card(folder: Path, text: str, *, library: str = "diffusers", tag: str = "") -> None:
    """Write README.md with the head that a hub reads.

    Args:
        folder: Of the model.
        text: What follows the head.
        library: What loads the model.
        tag: What its pipeline is for.
    """
    head = ["license: apache-2.0", f"library_name: {library}", *([f"pipeline_tag: {tag}"] if tag else [])]
    (folder / "README.md").write_text("\n".join(("---", *head, "---", text)), encoding="utf-8")


def write_pipeline(folder: Path, pipeline: Any, notes: Mapping[str, Any], *transformers: str) -> None:
    """Write a pipeline in half precision, with what Sfumato recommends for it.

    Args:
        folder: That is being made.
        pipeline: Of diffusers.
        notes: What goes into sfumato.json.
        transformers: Parts that are models of transformers.
    """
    for part in networks(pipeline).values():
        part.to(torch.float16)
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    for name in transformers:
        load_in_full(folder / name / "config.json")
    (folder / "sfumato.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")


def sizes(pipeline: Any) -> str:
    """The parameters of each network of a pipeline, in words."""
    return ", ".join(f"{name} {millions(part):.2f} M" for name, part in networks(pipeline).items())
