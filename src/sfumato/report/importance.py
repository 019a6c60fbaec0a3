"""The sections of methods over words as players: what each word is worth, the images behind it, pairs of words."""

from __future__ import annotations

import numpy as np
import xarray as xr
from PIL import Image

from sfumato.report.markup import escaped, isolated, number, picture_uri, table
from sfumato.report.sections import Section, cells, section
from sfumato.report.worths import worth_table
from sfumato.results.explanation import Explanation
from sfumato.results.importance import importances

MOST_COALITIONS = 64
_QUALITY = 84
GAMES = {"shapley": "What each word adds", "lime": "What a linear model rests on"}
TITLES = GAMES | {"word_gradients": "What a score leans on", "information": "What each word tells the model"}


@section(*(f"{method}/word_importance" for method in TITLES))
def word_importance(explanation: Explanation, path: str) -> Section:
    """A bar for every word, with its interval and share."""
    method = path.split("/", maxsplit=1)[0]
    node = explanation.tree[path].to_dataset()
    note = f"Worths are in units of the value: {node.attrs['value']}. By {node.attrs['estimator']}"
    if "empty" in node:
        empty, full = number(float(node["empty"])), number(float(node["full"]))
        note += f" from {node.attrs['coalitions']} coalitions. Without any word the value is {empty}, with all {full}"
    note += "."
    facts = [
        f"{label} {number(float(node[name]), 2)}"
        for name, label in (
            ("r2", "R²"),
            ("efficiency_gap", "efficiency gap"),
            ("symmetry_gap", "symmetry gap"),
            ("null_player_gap", "null player gap"),
            ("linearity_gap", "linearity gap"),
        )
        if name in node and np.isfinite(float(node[name]))
    ]
    body = f'{worth_table(importances(explanation.tree)[method])}<p class="quiet">{escaped(" · ".join(facts))}</p>'
    return Section(f"{TITLES[method]} ({method})", body, note)


def _valued(node: xr.Dataset) -> set[tuple[str, float]]:
    return {
        (text, round(value, 6)) for text, value in zip(node["text"].values.tolist(), node["value"].values, strict=True)
    }


@section(*(f"{method}/coalitions" for method in GAMES))
def coalitions(explanation: Explanation, path: str) -> Section | None:
    """The image of every coalition, most alike first; methods that agree on coalitions and values show them once."""
    method = path.split("/", maxsplit=1)[0]
    before = [name for name in GAMES if name in explanation.tree.children][:1]
    node = explanation.tree[path].to_dataset()
    if before != [method]:
        first = explanation.tree[f"{before[0]}/coalitions"].to_dataset()
        if _valued(first) == _valued(node):
            return None
    order = np.argsort(-node["value"].values, kind="stable")
    tiles = []
    for place in order[:MOST_COALITIONS].tolist():
        text, value = str(node["text"].values[place]), float(node["value"].values[place])
        uri = picture_uri(Image.fromarray(np.ascontiguousarray(node["thumbnail"].values[place])), _QUALITY)
        alt = escaped(f"Image of: {text or 'no words'}")
        label = isolated(text) if text else '<span class="quiet">no words</span>'
        picture = f'<img alt="{alt}" src="{uri}">'
        tiles.append(f'<div class="tile">{picture}<b>{label}</b><span>{number(value, 3)}</span></div>')
    more = f'<p class="quiet">and {len(order) - len(tiles)} more</p>' if len(order) > len(tiles) else ""
    note = "What was generated from parts of the prompt, same seed and starting noise, most alike to the whole first."
    return Section(
        "Images of parts of the prompt", f'<div class="grid small smooth">{"".join(tiles)}</div>{more}', note
    )


@section(*(f"{method}/interactions" for method in GAMES))
def interactions(explanation: Explanation, path: str) -> Section:
    """Pairs of words."""
    note = (
        "What two words are worth together beyond what each adds alone (Shapley interaction index). "
        "Below zero, one can stand in for the other."
    )
    return Section("Pairs of words", cells(explanation.tree[path].to_dataset()["index"]), note, folded=True)


@section(*(f"{method}/over_seeds" for method in GAMES))
def over_seeds(explanation: Explanation, path: str) -> Section:
    """Means over seeds, with intervals."""
    node = explanation.tree[path].to_dataset()
    lines = [
        f'<tr><th scope="row">{isolated(player)}</th><td class="n">{number(mean, 3)}</td>'
        f"<td>{number(low, 3)} to {number(high, 3)}</td></tr>"
        for player, mean, low, high in zip(
            node["player"].values.tolist(),
            node["mean"].values.tolist(),
            node["low"].values.tolist(),
            node["high"].values.tolist(),
            strict=True,
        )
    ]
    head = ("word", '<span class="right">mean worth</span>', "95% interval over seeds")
    return Section(f"Over {node.attrs['seeds']} seeds", table(head, lines), "The interval is a bootstrap over seeds.")
