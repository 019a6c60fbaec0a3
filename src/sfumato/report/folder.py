"""The folder of a result: pictures, numbers, arrays and the page of an explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xarray import DataTree

from sfumato.progress import Progress, silent
from sfumato.report.page import write_report
from sfumato.results.explanation import Explanation
from sfumato.results.numbers import number_rows
from sfumato.results.rows import as_csv
from sfumato.writing.folders import write_folder
from sfumato.writing.json_text import json_text
from sfumato.writing.slugs import word_file

if TYPE_CHECKING:
    from PIL.Image import Image

QUICK = 3  # three times as fast as the usual compression of PNG, for an eighth more bytes
ON_A_SHEET = 95  # more than any text encoder of 77 tokens can see


def write_result(explanation: Explanation, target: str | PathLike[str], progress: Progress = silent) -> None:
    """Write the folder of a result, as ``sfumato explain`` does: whole or not at all.

    One image gives image.png, words.png (all words at a glance) and words/ (one overlay for each word); of several,
    each has its seed in its names: image-seed-7.png, words-seed-7.png and words/seed-7/. Every method that says how
    much a word is worth adds a picture of its name. report.html is the page, summary.json and numbers.csv have the
    numbers, and explanation.zarr is what ``sfumato.open`` reads.

    Args:
        explanation: What was found.
        target: The folder; an earlier result of Sfumato is replaced, anything else refused.
        progress: Told about every picture.

    Raises:
        StoreError: The folder cannot be written.
    """
    with write_folder(target) as folder:
        fill_folder(explanation, folder, progress)


def fill_folder(explanation: Explanation, folder: Path, progress: Progress = silent) -> dict[str, Any]:
    """Write the files of a result into a folder that is there; the summary that was written."""
    from sfumato.plots import importance_sheet, process_sheets, word_sheet

    summary, count = explanation.summary(), explanation.request.images
    for number, (image, seed) in enumerate(zip(explanation.images, explanation.request.seeds, strict=True)):
        mark = "" if count == 1 else f"-seed-{seed}"
        image.save(folder / f"image{mark}.png")
        if any(row["seen"] for row in summary["words"]):
            word_sheet(_first_words(explanation), number).save(folder / f"words{mark}.png", compress_level=QUICK)
            rows = [row for row in summary["words"] if row["image"] == number]
            place = folder / "words" / mark.removeprefix("-")
            _write_overlays(explanation, image, rows, place, progress)
        for method in explanation.importance_methods:
            name = f"{method.replace('/', '-')}{mark}.png"
            importance_sheet(explanation, method, number).save(folder / name, compress_level=QUICK)
        single = explanation.select(number)
        for name, draw in process_sheets(single).items():
            draw(single).save(folder / f"{name}{mark}.png", compress_level=QUICK)
    (folder / "summary.json").write_text(json_text(summary) + "\n", encoding="utf-8")
    (folder / "numbers.csv").write_text(as_csv(number_rows(summary["numbers"])), encoding="utf-8")
    explanation.save(folder / "explanation.zarr")
    progress("writing the page", 0, 1)
    write_report(explanation, folder / "report.html")
    progress("writing the page", 1, 1)
    return summary


def _first_words(explanation: Explanation) -> Explanation:
    """The explanation without the words that no sheet has room for (of which the model has seen none)."""
    words = explanation.words
    if words.sizes["word"] <= ON_A_SHEET:
        return explanation
    nodes = {node.path: node.to_dataset(inherit=False) for node in explanation.tree.subtree}
    nodes["/words"] = words.isel(word=slice(ON_A_SHEET))
    return Explanation(DataTree.from_dict(nodes), explanation.request, explanation.provenance)


def _write_overlays(
    explanation: Explanation, image: Image, rows: Sequence[Mapping[str, Any]], folder: Path, progress: Progress
) -> None:
    """One picture for every word that the model saw, named after its place in the prompt (from 1) and its text."""
    from sfumato.plots import overlay

    folder.mkdir(parents=True)
    for row in rows:
        if row["seen"]:
            name = word_file(row["index"] + 1, len(rows), row["word"])
            overlay(image, explanation.word_map(row["index"], row["image"])).save(folder / name, compress_level=QUICK)
        progress("drawing", row["index"] + 1, len(rows))
