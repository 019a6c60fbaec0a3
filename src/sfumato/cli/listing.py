"""``sfumato methods``, ``sfumato models`` and ``sfumato run --list``: what there is to choose from."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.console import note, print_json, print_table, say
from sfumato.cli.parameters import Debug, Json

if TYPE_CHECKING:
    from sfumato.registry import Method
    from sfumato.runs.task import Task


def methods(
    name: Annotated[str | None, typer.Argument(help="One method, to see its options.", show_default=False)] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the methods, or the options of one."""
    from sfumato.registry import find
    from sfumato.registry import methods as registered

    if name is None:
        found = registered()
        if as_json:
            print_json([_described(method) for method in found])
        else:
            print_table(("method", "what it answers"), [[m.name, m.summary] for m in found])
            say()
            say("sfumato methods NAME shows the options of one")
        return
    method = find(name)
    described = _described(method)
    if as_json:
        print_json(described)
        return
    from sfumato.options import written

    say(f"{method.name}: {method.summary}")
    say(f"paper: {method.paper}")
    say(f"needs a model with: {', '.join(described['needs']) or 'nothing in particular'}")
    say()
    rows = [[row["name"], written(row["default"]), row["expected"], row["help"]] for row in described["options"]]
    print_table(("option", "default", "value", "meaning"), rows)


def models(as_json: Json = False, debug: Debug = False) -> None:
    """List the models that ship inside the package."""
    from sfumato.models.loading import studio_models

    cards = [_card(name, folder) for name, folder in studio_models().items()]
    if as_json:
        print_json(cards)
        return
    if not cards:
        note("no model ships with this installation; make one with: sfumato train scenes")
        return
    for card in cards:
        say(f"{card['name']}: {card['about']}" if card["about"] else card["name"])
        say(f"{card['megabytes']:.1f} MB on disk, {card['steps']} steps by default")
        if card["measured"]:
            say("measured: " + ", ".join(f"{what} {_short(value)}" for what, value in card["measured"].items()))
        say()
    say("--model also takes a folder in diffusers layout, or a hub id such as owner/name")


def say_tasks(as_json: bool) -> None:
    """List the tasks, as a table or as JSON."""
    from sfumato.runs.task import tasks

    found = tasks()
    if as_json:
        print_json([_task(one) for one in found])
        return
    columns = ("task", "question", "paper", "cost", "needs")
    cells = [
        (one.name, one.question, one.claim.paper if one.claim else "", one.cost.text, ", ".join(sorted(one.needs)))
        for one in found
    ]
    print_table(columns, cells)


def _task(task: Task) -> dict[str, Any]:
    return {
        "task": task.name,
        "question": task.question,
        "paper": task.claim.paper if task.claim else None,
        "claim": task.claim.text if task.claim else None,
        "cost": task.cost.text,
        "needs": sorted(task.needs),
        "version": task.version,
        "options": [option.name for option in fields(task.options)],
    }


def _described(method: Method) -> dict[str, Any]:
    from sfumato.options import option_rows

    return {
        "name": method.name,
        "summary": method.summary,
        "needs": sorted(method.needs),
        "paper": method.paper,
        "options": option_rows(method),
    }


def _card(name: str, folder: Path) -> dict[str, Any]:
    """What the model's own card and notes say about it, and its size on disk."""
    from sfumato.models.notes import read_notes
    from sfumato.models.schedulers import DEFAULT_STEPS

    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {
        "name": name,
        "about": _first_sentence(text),
        "measured": _measured(text),
        "steps": read_notes(folder).steps or DEFAULT_STEPS,
        "megabytes": round(size / 1e6, 1),
    }


def _first_sentence(card: str) -> str:
    """The first sentence below the title of a model card."""
    paragraph = re.search(r"^# .*\n+(?!#)((?:.+\n?)+)", card, re.MULTILINE)
    return re.split(r"(?<=[.!?])\s", " ".join(paragraph[1].split()))[0] if paragraph else ""


def _measured(card: str) -> dict[str, str]:
    """The rows of the table "what | measured" of a model card."""
    table = card.partition("\n## Measured")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|\s*([^|]+?)\s*\|\s*([^|]+?)\s*\|", table, re.MULTILINE)
    return {what: value for what, value in rows if set(what) != {"-"} and (what, value) != ("what", "measured")}


def _short(value: str) -> str:
    """A measured value without its interval and what else follows in brackets."""
    return re.split(r"\s*[\[(]", value)[0]
