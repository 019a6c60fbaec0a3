"""Write the table of docs/pipelines.md from the families that the tests run; with --check, fail if it differs."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path

import diffusers.utils.logging
import transformers.utils.logging

from sfumato.models.model import Model
from tests.families import FAMILIES, Family
from tests.families.expected import expected

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "pipelines.md"
BEGIN, END = "<!-- table: make pages -->\n", "<!-- end of the table -->\n"
HEADER = "| Pipeline | As | Maps of | Text is read by | Guidance | Also |\n| --- | --- | --- | --- | --- | --- |\n"
ATTENTION = {
    "cross": "cross-attention",
    "joint": "joint attention",
    "added": "keys added to self-attention",
}
ALSO = {
    "text-stream": "`concept_attention`",
    "replay": "single steps",
    "reference": "`i2am`",
}


def row(family: Family, model: Model) -> str:
    """One line of the table."""
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
    also = [name for feature, name in ALSO.items() if feature in model.features]
    if {"words", "cross-attention"} <= model.features:
        also.insert(0, "`ovam`")
    cells = (f"`{family.pipeline}`", family.name, kinds, text, guidance, ", ".join(also))
    return f"| {' | '.join(cells)} |\n"


def encoders(model: Model) -> str:
    """The kinds of the text encoders, in order."""
    names = ("text_encoder", "text_encoder_2", "text_encoder_3")
    kinds = [type(part).__name__ for name in names if (part := getattr(model.pipeline, name, None)) is not None]
    known = {"CLIP": "CLIP", "UMT5": "UMT5", "T5": "T5", "Bert": "BERT", "Gemma": "Gemma", "Qwen": "Qwen"}
    return " + ".join(next(short for name, short in known.items() if kind.startswith(name)) for kind in kinds)


def page() -> str:
    """The page with its table made anew."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    rows = "".join(row(family, family.wrapped()) for family in FAMILIES)
    return f"{before}{BEGIN}\n{HEADER}{rows}\n{END}{after}"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the page differs")
    warnings.simplefilter("ignore")
    for log in (diffusers.utils.logging, transformers.utils.logging):
        log.set_verbosity(logging.CRITICAL)
    made = page()
    if not parser.parse_args().check:
        PAGE.write_text(made, encoding="utf-8")
    elif made != PAGE.read_text(encoding="utf-8"):
        sys.exit(f"{PAGE.relative_to(ROOT)} is not what the families say; run: make pages")


if __name__ == "__main__":
    main()
