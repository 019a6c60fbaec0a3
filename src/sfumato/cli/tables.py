"""Results as tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sfumato.cli.console import print_table, say, shown
from sfumato.results.interval import Interval, decimal
from sfumato.results.numbers import STATISTICS, number_rows

if TYPE_CHECKING:
    from sfumato.runs.finding import Finding

MOST_IMAGES, MOST_WORDS, WORD = 4, 80, 32
MOST_ROWS, MOST_TABLES = 24, 12
IMPORTANCE = ("word", "worth", "95% interval", "share")
COLUMNS = ("word", "pos", "coverage", "peak (x, y)", "share")


def say_results(summary: Mapping[str, Any]) -> None:
    """Print the numbers of a summary, then its notes: words, one table for each image; every other node, its own."""
    _say_tables(summary)
    for node, text in summary["notes"].items():
        say()
        say(f"note on {node}: {text}")


def _say_tables(summary: Mapping[str, Any]) -> None:
    for method, rows in summary["importance"].items():
        _say_importance(method, rows, summary["images"])
    if summary["words"]:
        _say_words(summary)
    elif not summary["importance"]:
        say()
        print_table(("node", "sizes"), [[name, _sizes(sizes)] for name, sizes in summary["nodes"].items()])
    _say_numbers(summary)


def _say_words(summary: Mapping[str, Any]) -> None:
    images = summary["images"]
    for image in images[:MOST_IMAGES]:
        rows = [row for row in summary["words"] if row["image"] == image["image"]]
        seen = [row for row in rows if row["seen"]]
        title = f"seed {image['seed']}" if len(images) > 1 else ""
        say()
        print_table(COLUMNS, [_cells(row) for row in seen[:MOST_WORDS]], title=title, right=COLUMNS[2:])
        if len(seen) > MOST_WORDS:
            say(f"and {len(seen) - MOST_WORDS} words more; summary.json has all of them")
        if len(rows) > len(seen):
            say(f"not seen by the model: {_named(rows)}")
    if len(images) > MOST_IMAGES:
        say(f"and {len(images) - MOST_IMAGES} images more; summary.json has all of them")


def _say_numbers(summary: Mapping[str, Any]) -> None:
    """Print the numbers of all nodes, without the statistics of maps; of words and importances curves alone."""
    roles = {name: meaning["role"] for name, meaning in summary["meanings"].items()}
    shown_before = {"words", *(name.rpartition("/")[0] for name, role in roles.items() if role == "importance")}
    tables: dict[tuple[str, tuple[str, ...]], dict[tuple[Any, ...], dict[str, Any]]] = {}
    for row in number_rows(summary["numbers"]):
        node, _, name = row["name"].rpartition("/")
        if node in shown_before and roles.get(row["name"]) != "curve":
            continue
        if "." not in name or name.rpartition(".")[2] not in STATISTICS:
            own = tables.setdefault((node, tuple(row["at"])), {})
            if row["at"]:
                own.setdefault(tuple(row["at"].values()), dict(row["at"]))[name] = row["value"]
            else:
                own[(name,)] = {"number": name, "value": row["value"]}
    for (node, _), found in list(tables.items())[:MOST_TABLES]:
        say()
        say_rows(node, list(found.values())[:MOST_ROWS])
        if len(found) > MOST_ROWS:
            say(f"and {len(found) - MOST_ROWS} rows more; --json has all of them")
    if len(tables) > MOST_TABLES:
        say(f"and {len(tables) - MOST_TABLES} tables more; --json has all of them")


def _say_importance(method: str, rows: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]]) -> None:
    """Print how much each word is worth, one table for each image."""
    for image in images[:MOST_IMAGES]:
        own = [row for row in rows if row["image"] == image["image"]]
        title = method + (f", seed {image['seed']}" if len(images) > 1 else "")
        say()
        print_table(IMPORTANCE, [_worth(row) for row in own[:MOST_WORDS]], title=title, right=IMPORTANCE[1:])


def _worth(row: Mapping[str, Any]) -> list[str]:
    interval = "-" if row["low"] is None else f"{decimal(row['low'])} to {decimal(row['high'])}"
    return [shown(row["player"], WORD), decimal(row["phi"]), interval, _percent(row["share"])]


def say_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows, numbers to the right; a column that only some rows have is empty in the others.

    A column that is called as a metric has its unit, and an arrow towards better values.

    The number of items behind an interval stands below the table where all intervals have the same.
    """
    from sfumato.metrics.registry import with_headings

    heads, rows = with_headings(rows)
    numbers = [
        head
        for column, head in heads.items()
        if all(isinstance(row.get(column), int | float | Interval | None) for row in rows)
    ]
    counts = {cell.n for row in rows for cell in row.values() if isinstance(cell, Interval)}
    if len(counts) == 1:
        rows = [{c: cell.brief if isinstance(cell, Interval) else cell for c, cell in row.items()} for row in rows]
    print_table(list(heads.values()), [[_cell(row.get(c)) for c in heads] for row in rows], title=title, right=numbers)
    if len(counts) == 1:
        say(f"n = {counts.pop()} for every interval")


def say_finding(finding: Finding, title: str) -> None:
    """Print the table of a finding, what was found before, and the verdict."""
    from sfumato.metrics.verdicts import LEAST

    say_rows(title, [dict(row) for row in finding.rows])
    say()
    if finding.verdict is None:
        say(finding.sentence)
        return
    say(f"found before: {finding.source}")
    say(f"here: {finding.sentence}")
    why = f": an interval leaves it open, or rests on fewer than {LEAST} seeds or prompts"
    say(f"{finding.verdict} on this model{why if finding.verdict == 'inconclusive' else ''}")


def _cells(row: Mapping[str, Any]) -> list[str]:
    name = row["word"] if row["occurrence"] == 1 else f"{row['word']}#{row['occurrence']}"
    peak = row["peak"]
    return [
        shown(name, WORD),
        row["pos"],
        _percent(row["coverage"]),
        f"{peak['x']}, {peak['y']}" if peak else "-",
        _percent(row["share"]),
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _named(rows: Sequence[Mapping[str, Any]]) -> str:
    words = [row["word"] for row in rows if not row["seen"]]
    more = f" and {len(words) - 8} more" if len(words) > 8 else ""
    return shown(", ".join(shown(word, WORD) for word in words[:8])) + more


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Interval):
        return str(value) if value.n else "-"
    return decimal(value) if isinstance(value, float) else str(value)
