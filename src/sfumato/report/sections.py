"""One section of the page per node of the tree. A node without a renderer of its own gets a general one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.plots.overlays import overlay
from sfumato.plots.roles import sheet_of
from sfumato.report.markup import (
    escaped,
    heat_picture,
    isolated,
    meter,
    number,
    percent,
    picture_uri,
    table,
)
from sfumato.report.worths import worth_table
from sfumato.results.explanation import Explanation
from sfumato.results.meaning import BESIDE, Declared, role_of

MOST_TILES = 16
MOST_ROWS = 64
MOST_VALUES = 100_000  # arrays above this are described, not read
_TILE_SIDE = 256
_UNSEEN_SHOWN = 12  # of words that the tokenizer cut off; a prompt can have thousands
_HEAT_SIDE = 160
OUT_OF_VOCABULARY = "out of vocabulary"
CAVEAT = "Out of vocabulary: the model was never trained on this word, so its map does not show where the model put it."
CHECKED = ("trust", "removal", "randomisation", "shares_by_seed")
"""What the checks of an explanation add to it, in the order in which it is read."""
_QUALITY = 84


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        title: Its heading, plain text.
        body: HTML; everything that a user wrote must be escaped in it.
        note: One sentence below the heading, plain text.
        folded: Shown closed at first.
    """

    title: str
    body: str
    note: str = ""
    folded: bool = False

    @property
    def html(self) -> str:
        """Heading, note and body."""
        note = f'<p class="note">{escaped(self.note)}</p>' if self.note else ""
        heading = f"<h2>{escaped(self.title)}</h2>"
        if self.folded:
            return f"<details><summary>{heading}</summary>{note}{self.body}</details>"
        return f"{heading}{note}{self.body}"


Renderer = Callable[[Explanation, str], Section | None]
_renderers: dict[str, Renderer] = {}


def section(*names: str) -> Callable[[Renderer], Renderer]:
    """Register a renderer of nodes by their path: "words", "segments/inner", or "layers/*" for all below.

    It is given the explanation of one image and the node's path, and returns a ``Section``, or None for no section.

    Raises:
        SfumatoError: A node has a renderer already.

    Example:
        >>> from sfumato.report import Section, section
        >>> @section("example_scores")
        ... def scores(explanation, path):
        ...     return Section("Scores", f"<p>{explanation.tree[path].sizes['word']} words</p>")
    """

    def register(renderer: Renderer) -> Renderer:
        for name in names:
            if name in _renderers:
                raise SfumatoError(f"the node {name!r} has a section already: {_renderers[name].__qualname__}")
            _renderers[name] = renderer
        return renderer

    return register


def sections(explanation: Explanation) -> list[tuple[str, Section]]:
    """The sections of one image's explanation, by path of the node.

    Words come first, then what else was found, then how far it can be trusted, and folded sections last.
    """
    found: list[tuple[str, Section]] = []
    for node in explanation.tree.subtree:
        path = node.path.strip("/")
        if path in {"", "image"} or not node.to_dataset(inherit=False).variables:
            continue
        above = path.partition("/")[0] + "/*"
        made = (_renderers.get(path) or _renderers.get(above, general))(explanation, path)
        if made is not None:
            found.append((path, made))
    order = {"words": -1} | {path: place for place, path in enumerate(CHECKED, start=1)}
    return sorted(found, key=lambda item: (item[1].folded, order.get(item[0], 0)))


@section("words")
def words(explanation: Explanation, path: str) -> Section:
    """A grid of overlays, then the numbers."""
    rows = explanation.word_rows()
    maps = maps_by_place(explanation)
    picture = explanation.image
    tiles, lines = [], []
    count = times(rows)
    unseen = [place for place, row in enumerate(rows) if not row["seen"]]
    left_out = set(unseen[_UNSEEN_SHOWN:])
    for place, (row, heat) in enumerate(zip(rows, maps, strict=True)):
        if place in left_out:
            continue
        uri = picture_uri(overlay(picture, heat, smallest_side=_TILE_SIDE), _QUALITY)
        label = isolated(row["word"]) + ordinal(row, count)
        tiles.append(_word_tile(place, row, label, uri))
        lines.append(_word_line(place, row, label))
    if left_out:
        lines.append(
            f'<tr class="unseen"><td colspan="5">and {len(left_out)} more words, not seen by the model</td></tr>'
        )
    head = (
        "word",
        "part of speech",
        '<span class="right">coverage</span>',
        '<span class="right">peak x, y</span>',
        '<span class="right">share of all words</span>',
    )
    note = (
        f"The unit of the maps: {unit_of(explanation)}. "
        "Coverage is the share of the image where a word's map reaches 0.4 of its own peak. "
        "A word's share is its part of the sum of all words' maps."
    )
    grid = f'<div class="grid">{"".join(tiles)}</div>'
    return Section("Every word", f"{grid}<h3>In numbers</h3>{table(head, lines, 'words')}", note)


def maps_by_place(explanation: Explanation) -> list[Any]:
    """The word maps of one image in prompt order, as ``Explanation.summary`` lists the words."""
    found = explanation.words
    order = np.argsort(found["index"].values)
    return list(found["map"].transpose("word", "y", "x").values[order])


def unit_of(explanation: Explanation) -> str:
    """The unit of the word maps; empty where there are none."""
    return str(explanation.words.attrs["unit"]) if "words" in explanation.tree.children else ""


def times(rows: list[dict[str, Any]]) -> Mapping[str, int]:
    """How often each word stands in the prompt."""
    return Counter(row["word"] for row in rows)


def ordinal(row: Mapping[str, Any], count: Mapping[str, int]) -> str:
    """Which occurrence of a word it is, where the prompt repeats it; HTML."""
    return f"<sup>{row['occurrence']}</sup>" if count[row["word"]] > 1 else ""


def caveat(row: Mapping[str, Any]) -> str:
    """What must be said wherever a word's map is described; nothing of most words."""
    return CAVEAT if row["out_of_vocabulary"] else ""


def chip_note(row: Mapping[str, Any]) -> str:
    """What stands next to a word itself; nothing next to most words."""
    return "not seen" if not row["seen"] else OUT_OF_VOCABULARY if row["out_of_vocabulary"] else ""


def _word_tile(place: int, row: Mapping[str, Any], label: str, uri: str) -> str:
    if not row["seen"]:
        alt = escaped(f"The image without a map, for the model did not see {row['word']}")
        return f'<div class="tile unseen"><img alt="{alt}" src="{uri}"><b>{label}</b><span>not seen</span></div>'
    alt = escaped(f"Where {row['word']} acted: {percent(row['coverage'])} of the image")
    facts = [escaped(row["pos"]), percent(row["coverage"]), *filter(None, [chip_note(row)])]
    return (
        f'<button type="button" class="tile" data-place="{place}"><img alt="{alt}" src="{uri}">'
        f"<b>{label}</b><span>{' · '.join(facts)}</span></button>"
    )


def _word_line(place: int, row: Mapping[str, Any], label: str) -> str:
    said = f"<small>{note}</small>" if (note := chip_note(row)) and row["seen"] else ""
    cells = f'<th scope="row">{label}{said}</th><td>{escaped(row["pos"])}</td>'
    if not row["seen"]:
        return f'<tr class="unseen">{cells}<td colspan="3">not seen by the model: cut off by the tokenizer</td></tr>'
    peak = "–" if row["peak"] is None else f"{row['peak']['x']}, {row['peak']['y']}"
    cells += f'{meter(row["coverage"])}<td class="n">{peak}</td>{meter(row["share"])}'
    return f'<tr data-place="{place}">{cells}</tr>'


@section("tokens")
def tokens(explanation: Explanation, path: str) -> Section:
    """One small map per token."""
    node = explanation.tree[path].to_dataset()
    maps = node["map"].transpose("token", "y", "x").values
    texts, owners = node["token"].values.tolist(), node["word_index"].values.tolist()
    names = {row["index"]: row["word"] for row in explanation.word_rows()}
    tiles = []
    for text, owner, heat in zip(texts, owners, maps, strict=True):
        alt = escaped(f"Map of the token {text}")
        of = f"of {isolated(names[owner])}" if owner in names else "no word"
        tiles.append(_heat_tile(heat_picture(heat), alt, isolated(text), of))
    note = (
        "What the model reads instead of words, with the start and end tokens; each map is stretched to its own range."
    )
    return Section("Tokens", f'<div class="grid small">{"".join(tiles)}</div>', note, folded=True)


def general(explanation: Explanation, path: str) -> Section:
    """Any node: its arrays by their roles, or else with their dimensions, small ones in full, long ones as pictures."""
    node = explanation.tree[path].to_dataset()
    roles = {name: role for name, array in node.data_vars.items() if (role := role_of(array))}
    parts = []
    for name, array in node.data_vars.items():
        if "importance" in roles.values() and roles.get(name) in BESIDE:
            continue
        sizes = ", ".join(f"{dim} {size}" for dim, size in array.sizes.items()) or "one value"
        unit = f" · {array.attrs['unit']}" if "unit" in array.attrs else ""
        heading = f'{escaped(name)} <span class="quiet mono">({escaped(sizes)}) {_kind(array)}{escaped(unit)}</span>'
        body = _with_role(explanation, Declared(path, str(name), node)) if name in roles else _array(array)
        parts.append(f"<h3>{heading}</h3>{body}")
    facts = ", ".join(
        f"{name}: {number(value)}" for name, value in node.attrs.items() if not isinstance(value, dict | list)
    )
    note = f'<p class="note">{facts}</p>' if facts else ""
    return Section(_title(path), note + "".join(parts), folded="/" in path)


def _with_role(explanation: Explanation, one: Declared) -> str:
    """What an array says as its role has it."""
    match role_of(one.array):
        case "importance":
            return worth_table(one)
        case "map" | "curve":
            alt = escaped(f"{one.name} over {' and '.join(map(str, one.array.dims))}")
            return f'<img class="sheet" alt="{alt}" src="{picture_uri(sheet_of(explanation, one))}">'
        case _:
            return _array(one.array)


def _title(path: str) -> str:
    text = path.replace("_", " ").replace("/", ", ")
    return text[:1].upper() + text[1:]


def _kind(array: xr.DataArray) -> str:
    return "text" if array.dtype.kind in "TUO" else escaped(array.dtype)


def _array(array: xr.DataArray) -> str:
    dims = array.dims
    if array.size == 0:
        return '<p class="quiet">empty</p>'
    if dims[-3:] == ("y", "x", "channel") and array.sizes["channel"] == 3 and array.dtype == np.uint8:
        return _tiles(array, 3)
    if array.dtype.kind not in "fiub":
        return _listed(array)
    if dims[-2:] == ("y", "x"):
        return _tiles(array, 2)
    if array.ndim == 0:
        return f"<p>{number(array.item())}</p>"
    if array.ndim == 1 and array.size <= MOST_ROWS:
        return _bars(array)
    if array.ndim == 2 and array.shape[0] <= MOST_ROWS and array.shape[1] <= 12:
        return cells(array)
    if array.size > MOST_VALUES:
        return f'<p class="quiet">{array.size:,} values, not shown here</p>'
    values = array.values.astype(np.float64)
    picture = heat_picture(values.reshape(values.shape[0], -1) if array.ndim > 1 else values[None], _signed(values))
    low, high = number(np.nanmin(values)), number(np.nanmax(values))
    alt = escaped(f"{array.name} over {' and '.join(map(str, dims))}, from {low} to {high}")
    ends = f'<div class="ends"><span>lowest {low}</span><span>highest {high}</span></div>'
    return f'<img class="strip pixelated" alt="{alt}" src="{picture_uri(picture)}">{ends}'


def _tiles(array: xr.DataArray, inner: int) -> str:
    """The first maps (or pictures) of an array, each with its place in the other dimensions; only these are read."""
    outer = array.dims[:-inner]
    count = int(np.prod([array.sizes[dim] for dim in outer], dtype=np.int64))
    labels = {dim: _labels(array, str(dim)) for dim in outer}
    tiles = []
    for flat in range(min(count, MOST_TILES)):
        where = np.unravel_index(flat, [array.sizes[dim] for dim in outer]) if outer else ()
        at = {dim: int(i) for dim, i in zip(outer, where, strict=True)}
        values = array.isel(at).values
        picture = heat_picture(values, _signed(values)) if inner == 2 else Image.fromarray(np.ascontiguousarray(values))
        title = " · ".join(isolated(labels[dim][i]) for dim, i in at.items()) or escaped(array.name)
        known = values[np.isfinite(values)] if inner == 2 else values
        span = f"{number(known.min(), 3)} to {number(known.max(), 3)}" if inner == 2 and known.size else ""
        if values.dtype == bool:
            span = percent(float(values.mean()))
        tiles.append(_heat_tile(picture, escaped(f"{array.name} {flat + 1}"), title, span))
    more = f'<p class="quiet">the first {len(tiles)} of {count:,}</p>' if count > len(tiles) else ""
    return f'<div class="grid small">{"".join(tiles)}</div>{more}'


def _heat_tile(picture: Image.Image, alt: str, label: str, detail: str) -> str:
    if max(picture.size) > _HEAT_SIDE:
        picture = picture.convert("RGB")
        picture.thumbnail((_HEAT_SIDE, _HEAT_SIDE))
    image = f'<img alt="{alt}" src="{picture_uri(picture)}">'
    return f'<div class="tile">{image}<b>{label}</b><span>{detail}</span></div>'


def _bars(array: xr.DataArray) -> str:
    values = array.values
    most = float(np.nanmax(np.abs(values.astype(np.float64)), initial=0)) or 1.0
    rows = []
    for label, value in zip(_labels(array, str(array.dims[0])), values.tolist(), strict=True):
        size = 0.0 if isinstance(value, bool) or not np.isfinite(value) else abs(value) / most
        bar = f'<span class="meter" style="--share:{100 * size:.1f}%"></span>'
        rows.append(f'<tr><th scope="row">{isolated(label)}</th><td class="n">{bar}{number(value)}</td></tr>')
    return table((escaped(array.dims[0]), '<span class="right">value</span>'), rows)


def cells(array: xr.DataArray) -> str:
    """A small table of numbers over two dimensions, each cell coloured by its value."""
    values = array.values.astype(np.float64)
    picture = np.asarray(heat_picture(values, _signed(values)).convert("RGB"))
    rows = []
    for i, label in enumerate(_labels(array, str(array.dims[0]))):
        line = f'<th scope="row">{isolated(label)}</th>'
        for value, colour in zip(array.values[i].tolist(), picture[i].tolist(), strict=True):
            ink = "#111" if sum(colour) > 380 else "#fff"
            line += f'<td style="background:rgb({",".join(map(str, colour))});color:{ink}">{number(value, 3)}</td>'
        rows.append(f"<tr>{line}</tr>")
    head = [
        escaped(f"{array.dims[0]} / {array.dims[1]}"),
        *(isolated(name) for name in _labels(array, str(array.dims[1]))),
    ]
    return table(head, rows, "cells")


def _listed(array: xr.DataArray) -> str:
    if array.size > MOST_VALUES:
        return f'<p class="quiet">{array.size:,} values, not shown here</p>'
    values = array.values.ravel()[:MOST_ROWS].tolist()
    more = f" and {array.size - len(values):,} more" if array.size > len(values) else ""
    return f"<p>{', '.join(isolated(value) for value in values)}{more}</p>"


def _labels(array: xr.DataArray, dim: str) -> list[str]:
    """What stands along a dimension: its coordinate, or numbers from 0."""
    if dim in array.coords and array.coords[dim].dims == (dim,):
        return [
            number(value) if isinstance(value, int | float) else str(value)
            for value in array.coords[dim].values.tolist()
        ]
    return [str(i) for i in range(array.sizes[dim])]


def _signed(values: Any) -> bool:
    return bool(np.asarray(values).dtype.kind in "fi" and (np.asarray(values) < 0).any())
