"""Write the tables of pipelines, methods and metrics in the docs and README.md; with --check, fail if they differ.

They are made from the families that the tests run and from the registries.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path

import diffusers.utils.logging
import transformers.utils.logging

import sfumato
from docs.tooling.capabilities import Fit, fit, methods_of, table
from sfumato.metrics import metrics
from sfumato.models.model import Model
from tests.families import FAMILIES, Family
from tests.families.expected import expected

ROOT = Path(__file__).resolve().parents[2]
PAGE, README = ROOT / "docs" / "pipelines.md", ROOT / "README.md"
NUMBERS = ROOT / "docs" / "numbers.md"
PIPELINES, METHODS, METRICS = "table of pipelines", "table of methods", "table of metrics"
HEADER = "| Pipeline | As | Maps of | Text is read by | Guidance | Methods |\n| --- | --- | --- | --- | --- | --- |\n"
OWN = {"LabelPipeline": "studio/faces", "ReferenceInpaintPipeline": "studio/insert"}
"""Pipelines of our own, which the families do not have, each with an embedded model."""
ATTENTION = {
    "cross": "cross-attention",
    "joint": "joint attention",
    "added": "keys added to self-attention",
}


def row(family: Family, model: Model, runs: Fit) -> str:
    """One line of the table of pipelines."""
    facts = expected(family)
    request = model.complete(family.request())
    branches = model.branches(request)
    guidance = "one branch" if len(branches.names) == 1 else f"{len(branches.names)} branches"
    guidance += ", one call each" if branches.sequential else ""
    mapped = "token-maps" in model.features
    kinds = " and ".join(ATTENTION[kind] for kind in sorted(facts.kinds)) if mapped else "nothing"
    if "words" in model.features:
        kinds, text = f"words, by {kinds}", encoders(model)
    elif mapped:
        kinds, text = f"tokens by place, by {kinds}", "an image's embedding"
    else:
        text = "a reference image" if "reference" in model.features else "nothing"
    cells = (f"`{family.pipeline}`", family.name, kinds, text, guidance, methods_of(runs))
    return f"| {' | '.join(cells)} |\n"


def encoders(model: Model) -> str:
    """The kinds of the text encoders, in order."""
    names = ("text_encoder", "text_encoder_2", "text_encoder_3")
    kinds = [type(part).__name__ for name in names if (part := getattr(model.pipeline, name, None)) is not None]
    known = {"CLIP": "CLIP", "UMT5": "UMT5", "T5": "T5", "Bert": "BERT", "Gemma": "Gemma", "Qwen": "Qwen"}
    return " + ".join(next(short for name, short in known.items() if kind.startswith(name)) for kind in kinds)


def pages() -> dict[Path, str]:
    """The pages with their tables made anew."""
    fits: list[Fit] = []
    rows = []
    for family in FAMILIES:
        model = family.wrapped()
        fits.append(fit(family.name, model))
        rows.append(row(family, model, fits[-1]))
    fits += [fit(name, sfumato.load(model)) for name, model in OWN.items()]
    page = replaced(PAGE.read_text(encoding="utf-8"), PIPELINES, HEADER + "".join(rows))
    page = replaced(page, METHODS, table(fits, "methods"))
    readme = replaced(README.read_text(encoding="utf-8"), METHODS, table(fits, "docs/methods"))
    return {PAGE: page, README: readme, NUMBERS: replaced(NUMBERS.read_text(encoding="utf-8"), METRICS, of_metrics())}


def of_metrics() -> str:
    """One row for each metric."""
    rows = ["| Metric | Compares | Bounds | Better | Source | Measures |\n| --- | --- | --- | --- | --- | --- |\n"]
    for one in metrics():
        low, high = (f"{bound:.3g}" for bound in one.bounds)
        unit = f" {one.unit}" if one.unit else ""
        rows.append(
            f"| `{one.name}` | {one.compares} | {low} to {high}{unit} | {one.better} | {one.source} | {one.summary} |\n"
        )
    return "".join(rows)


def replaced(text: str, name: str, rows: str) -> str:
    """A page with one of its tables made anew."""
    begin, end = f"<!-- {name}: make pages -->\n", f"<!-- end of the {name} -->\n"
    before, after = text.partition(begin)[0], text.partition(end)[2]
    return f"{before}{begin}\n{rows}\n{end}{after}"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a page differs")
    warnings.simplefilter("ignore")
    for log in (diffusers.utils.logging, transformers.utils.logging):
        log.set_verbosity(logging.CRITICAL)
    check = parser.parse_args().check
    for path, made in pages().items():
        if not check:
            path.write_text(made, encoding="utf-8")
        elif made != path.read_text(encoding="utf-8"):
            sys.exit(f"{path.relative_to(ROOT)} is not what the registry and the families say; run: make pages")


if __name__ == "__main__":
    main()
