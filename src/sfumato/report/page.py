"""One explanation as one HTML file that works offline: pictures, maps, style and script are inside it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from os import PathLike
from typing import Any

from sfumato.plots.overlays import DIM, colours, display_size
from sfumato.report.markup import escaped, isolated, number, packed, pairs, picture_uri, visible
from sfumato.report.sections import caveat, chip_note, maps_by_place, ordinal, sections, times, unit_of
from sfumato.results.explanation import Explanation
from sfumato.writing.files import write_text

_MANY, _CROWD = 14, 45  # words from which chips get smaller
_LARGEST_CANVAS = 1024
_TILE = 320
SHOWN_ABOVE = ("notes", "out_of_vocabulary")
"""Provenance that the page says elsewhere."""


def write_report(explanation: Explanation, path: str | PathLike[str]) -> None:
    """Write the page of an explanation to a file, whole or not at all.

    Args:
        explanation: Of any method.
        path: The file, by custom ending in ``.html``; an existing one is replaced, and missing parents are made.

    Raises:
        StoreError: The file cannot be written.
    """
    write_text(path, page(explanation))


def page(explanation: Explanation) -> str:
    """The page as text; see ``write_report``."""
    singles = [explanation.select(i) for i in range(explanation.request.images)]
    rows = [single.word_rows() for single in singles]
    has_words = bool(rows[0])
    script = template("heat.js") + template("viewer.js")
    height, width = singles[0].image.height, singles[0].image.width
    parts = {
        "title": f"{escaped(explanation.request.subject[:80])} · Sfumato",
        "style": template("tokens.css") + template("style.css"),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "method": _method(explanation),
        "aspect": f"{width}/{height}",
        "tabs": _tabs(singles),
        "pictures": "\n".join(_picture(i, single) for i, single in enumerate(singles)),
        "controls": _CONTROLS if has_words else "",
        "question": "Which pixels did each word drive?" if has_words else "What was generated",
        "chips": _chips(explanation.request.subject, rows[0]),
        "facts": _facts(explanation, width, height),
        "original": "\n".join(_original(i, single) for i, single in enumerate(singles)) if has_words else "",
        "notes": _notes(explanation),
        "sections": _sections(singles) + _origin(explanation),
        "version": escaped(_own_version()),
        "data": _data(singles, rows, (height, width)),
    }
    # One pass over the template: what is filled in is never searched again, whatever a prompt contains.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template("page.html"))


def template(name: str) -> str:
    """A file that pages are made of: style, script or frame."""
    return (files("sfumato.report") / "templates" / name).read_text(encoding="utf-8")


_CONTROLS = """<div class="controls">
<div><label for="strength">Overlay <output id="strength-value" for="strength">100%</output></label>
<input id="strength" type="range" min="0" max="100" step="5" value="100"></div>
<div><label for="threshold">Threshold <output id="threshold-value" for="threshold">off</output></label>
<input id="threshold" type="range" min="0" max="95" step="5" value="0"></div>
</div>"""


def _method(explanation: Explanation) -> str:
    name = explanation.provenance.get("method")
    return f"an explanation by {escaped(name)}" if name else "an explanation"


def _tabs(singles: list[Explanation]) -> str:
    if len(singles) == 1:
        return ""
    buttons = "".join(
        f'<button type="button" role="tab" id="tab-{i}" aria-selected="{"true" if i == 0 else "false"}" '
        f'aria-controls="numbers"><img alt="" src="{_thumbnail(single)}">seed {single.request.seed}</button>'
        for i, single in enumerate(singles)
    )
    return f'<div class="tabs" role="tablist" aria-label="Images">{buttons}</div>'


def _thumbnail(single: Explanation) -> str:
    small = single.image
    small.thumbnail((68, 68))
    return picture_uri(small, 80)


def _picture(i: int, single: Explanation) -> str:
    said = f"Image generated for: {single.request.subject}" if single.request.invert is None else "The given image"
    alt = escaped(said)
    return f'<img id="image-{i}" data-image="{i}" alt="{alt}" src="{picture_uri(single.image)}">'


def _original(i: int, single: Explanation) -> str:
    """The image once more, small and without a map on it."""
    small = single.image
    small.thumbnail((_TILE, _TILE))
    image = f'<img alt="The image without a map" src="{picture_uri(small, 88)}">'
    was = "as generated" if single.request.invert is None else "as given"
    return f'<figure class="original" data-image="{i}">{image}<figcaption>{was}</figcaption></figure>'


def _chips(subject: str, rows: list[dict[str, Any]]) -> str:
    if not rows:
        return f'<p class="chips">{isolated(subject)}</p>'
    size = "crowd" if len(rows) > _CROWD else "many" if len(rows) > _MANY else ""
    chips = []
    count = times(rows)
    for place, row in enumerate(rows):
        label = isolated(row["word"]) + ordinal(row, count)
        said = f"<small>{note}</small>" if (note := chip_note(row)) else ""
        if row["seen"]:
            title = f' title="{escaped(caveat(row))}"' if caveat(row) else ""
            chips.append(
                f'<button type="button" class="chip" data-place="{place}" aria-pressed="false"{title}>'
                f"{label}{said}</button>"
            )
        else:
            chips.append(f'<span class="chip unseen" title="not seen by the model">{label}{said}</span>')
    return f'<div class="chips {size}" role="group" aria-label="Words of the prompt" dir="auto">{"".join(chips)}</div>'


def _facts(explanation: Explanation, width: int, height: int) -> str:
    request, provenance = explanation.request, explanation.provenance
    seeds = [str(seed) for seed in request.seeds]
    model = provenance.get("model")
    facts = {
        "Model": model.get("name") if isinstance(model, Mapping) else model,
        "Seed" if len(seeds) == 1 else "Seeds": seeds[0] if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}",
        "Steps": request.steps,
        "Guidance": request.guidance,
        "Size": f"{width} × {height}",
        "Time": f"{provenance['seconds']:.3g} s" if isinstance(provenance.get("seconds"), int | float) else None,
    }
    shown = {name: value for name, value in facts.items() if value is not None}
    return "".join(
        f"<div><dt>{name}</dt><dd>{isolated(value) if isinstance(value, str) else number(value)}</dd></div>"
        for name, value in shown.items()
    )


def _sections(singles: list[Explanation]) -> str:
    found = []
    several = len(singles) > 1
    for i, single in enumerate(singles):
        for path, part in sections(single):
            mark = f' data-image="{i}"' if several else ""
            found.append(f'<section class="part" data-node="{escaped(path)}"{mark}>{part.html}</section>')
    return f'<div id="numbers" tabindex="-1">{"".join(found)}</div>'


def _notes(explanation: Explanation) -> str:
    """What a reader must know first, such as words that the model never saw."""
    if not explanation.notes:
        return ""
    return f'<div class="banner" role="note">{"".join(f"<p>{isolated(note)}</p>" for note in explanation.notes)}</div>'


def _origin(explanation: Explanation) -> str:
    """How the result was made, so that it can be made again."""
    provenance = {name: value for name, value in explanation.provenance.items() if name not in SHOWN_ABOVE}
    request = explanation.request.to_dict()
    if request["image"] is not None:
        request["image"] = {name: value for name, value in request["image"].items() if name != "png"}
    return (
        '<section class="part"><h2>How this was made</h2>'
        f"<h3>Request</h3>{pairs(request)}<h3>Provenance</h3>{pairs(provenance)}</section>"
    )


def _data(singles: list[Explanation], rows: list[list[dict[str, Any]]], size: tuple[int, int]) -> str:
    """What the script draws from, as JSON that no text in it can break out of."""
    tall, wide = display_size(size)
    if max(tall, wide) > _LARGEST_CANVAS:
        scale = _LARGEST_CANVAS / max(tall, wide)
        tall, wide = max(1, round(tall * scale)), max(1, round(wide * scale))
    images = []
    for single, listed in zip(singles, rows, strict=True):
        maps = maps_by_place(single) if listed else []
        count = times(listed)
        images.append(
            {
                "words": [packed(heat) if row["peak"] else None for heat, row in zip(maps, listed, strict=True)],
                "rows": [_row(row, count) if row["peak"] else None for row in listed],
            }
        )
    data = {
        "tall": tall,
        "wide": wide,
        "dim": DIM,
        "colours": base64.b64encode(colours().tobytes()).decode(),
        "images": images,
        "unit": unit_of(singles[0]),
        "first": _first(rows[0]),
        "hint": "Point at a word to see where it acted; click to keep it." if rows[0] else "",
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _row(row: dict[str, Any], count: Mapping[str, int]) -> dict[str, Any]:
    label = visible(row["word"]) + (f" #{row['occurrence']}" if count[row["word"]] > 1 else "")
    peak = {axis: row["peak"][axis] for axis in ("x", "y")}
    return {"label": label, "pos": row["pos"], "share": row["share"], "peak": peak, "caveat": caveat(row)}


def _first(rows: list[dict[str, Any]]) -> int | None:
    """The word shown at first: the first noun, or the first word of any kind, that the model saw."""
    seen = [place for place, row in enumerate(rows) if row["peak"]]
    return next((place for place in seen if rows[place]["pos"] == "noun"), seen[0] if seen else None)


def _own_version() -> str:
    try:
        return version("sfumato")
    except PackageNotFoundError:
        return ""
