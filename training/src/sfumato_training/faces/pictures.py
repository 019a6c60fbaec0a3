"""Pictures of a training of faces: its labels (the source's figure 5.2) and its curves (figures B.1 and B.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.studio.faces import ATTRIBUTES, LABELS
from sfumato.writing.files import replacing_file
from sfumato_training.faces.config import DataConfig
from sfumato_training.faces.data import load_data, make_data
from sfumato_training.progress import Progress

LABELS_PICTURE, CURVES_PICTURE = "labels.png", "curves.png"


def make_pictured_data(config: DataConfig, folder: Path, progress: Progress) -> None:
    """Fill a folder with the faces, as `make_data` does, and draw their labels beside it."""
    make_data(config, folder, progress)
    draw_data(folder.parent)


def draw_data(out: Path) -> Path:
    """Draw how often each label is in the data, and how the attributes go together, into `out`/labels.png."""
    _, numbers = load_data(out / "data")
    counts = np.bincount(numbers, minlength=len(LABELS))
    bits = np.array([[int(bit) for bit in LABELS[number]] for number in numbers])
    with np.errstate(invalid="ignore", divide="ignore"):
        together = np.nan_to_num(np.corrcoef(bits.T))
    figure, (left, right) = _figure(2)
    left.bar(LABELS, counts, color="#6b7ea8")
    left.tick_params(axis="x", rotation=90)
    left.set(title="Faces of each label", xlabel=f"label ({', '.join(ATTRIBUTES)})", ylabel="faces")
    shown = right.imshow(together, vmin=-1, vmax=1, cmap="RdBu_r")
    right.set(xticks=range(len(ATTRIBUTES)), yticks=range(len(ATTRIBUTES)), title="Correlation of attributes")
    right.set_xticklabels(ATTRIBUTES)
    right.set_yticklabels(ATTRIBUTES)
    for (row, column), value in np.ndenumerate(together):
        right.text(
            column, row, f"{value:.2f}", ha="center", va="center", color="white" if abs(value) > 0.6 else "black"
        )
    figure.colorbar(shown, ax=right, shrink=0.8)
    return _saved(figure, out / LABELS_PICTURE)


def draw_curves(out: Path) -> Path | None:
    """Draw loss, SSIM, PSNR and the share of bits that are right from `out`/log.jsonl into `out`/curves.png.

    Returns:
        The picture, or None where there is nothing to draw yet.
    """
    entries = _log(out / "log.jsonl")
    losses = {entry["step"]: entry["loss"] for entry in entries if "loss" in entry}
    looks = {entry["step"]: entry for entry in entries if "ssim" in entry}
    if not losses or not looks:
        return None
    figure, axes = _figure(4)
    steps = sorted(losses)
    smooth = np.convolve([losses[step] for step in steps], np.ones(min(9, len(steps))) / min(9, len(steps)), "valid")
    axes[0].plot(steps, [losses[step] for step in steps], color="#c9d1e3", linewidth=0.8)
    axes[0].plot(steps[-len(smooth) :], smooth, color="#35477d")
    axes[0].set(title="L1 loss of the velocity", ylim=(0, float(np.percentile(list(losses.values()), 98))))
    for axis, name, title in (
        (axes[1], "ssim", "SSIM of restored faces"),
        (axes[2], "psnr", "PSNR of restored faces, dB"),
    ):
        axis.plot(sorted(looks), [looks[step][name] for step in sorted(looks)], "o-", markersize=3, color="#35477d")
        axis.set(title=title)
    for name in ATTRIBUTES:
        axes[3].plot(
            sorted(looks), [looks[step][f"{name} right"] for step in sorted(looks)], "o-", markersize=3, label=name
        )
    axes[3].set(title="Share of samples with the right bit", ylim=(0.4, 1.02))
    axes[3].legend(fontsize=8)
    for axis in axes:
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    return _saved(figure, out / CURVES_PICTURE)


def _log(path: Path) -> list[Mapping[str, Any]]:
    """Entries of the denoiser; of a step that was run twice, the later one counts."""
    if not path.is_file():
        return []
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [entry for entry in entries if entry["stage"] == "denoiser"]


def _figure(panels: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * panels, 3.6), layout="constrained")
    return figure, figure.subplots(1, panels)


def _saved(figure: Any, path: Path) -> Path:
    with replacing_file(path) as opened:
        figure.savefig(opened, dpi=110, format="png")
    return path
