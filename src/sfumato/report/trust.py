"""Sections of how far the explanation can be trusted."""

from __future__ import annotations

from sfumato.report.markup import escaped, number, table
from sfumato.report.process import sheet
from sfumato.report.sections import Section, section
from sfumato.results.explanation import Explanation


@section("trust")
def trust(explanation: Explanation, path: str) -> Section:
    """Every number with its control and what follows."""
    data = explanation.tree["trust"].to_dataset()
    lines = []
    for place in range(data.sizes["number"]):
        one = data.isel(number=place)
        cells = "".join(f'<td class="n">{_interval(one[name].values.tolist())}</td>' for name in ("value", "control"))
        lines.append(
            f'<tr><th scope="row">{escaped(str(one["what"].values))}</th>{cells}'
            f"<td>{escaped(str(one['against'].values))}</td><td>{escaped(str(one['verdict'].values))}</td></tr>"
        )
    head = ("number", '<span class="right">here</span>', '<span class="right">control</span>', "the control", "verdict")
    return sheet(explanation, "trust", table(head, lines))


@section("removal")
def removal(explanation: Explanation, path: str) -> Section:
    """What changes without each word."""
    return sheet(explanation, "removal")


@section("randomisation")
def randomisation(explanation: Explanation, path: str) -> Section:
    """Maps of ever more random weights."""
    return sheet(explanation, "randomisation")


@section("shares_by_seed")
def shares_by_seed(explanation: Explanation, path: str) -> Section:
    """The share of every word from every seed."""
    data = explanation.tree["shares_by_seed"].to_dataset()
    head = ("word", *(f'<span class="right">seed {seed}</span>' for seed in data["seed"].values.tolist()))
    lines = [
        f'<tr><th scope="row">{escaped(word)}</th>'
        + "".join(f'<td class="n">{number(value, 3)}</td>' for value in shares)
        + "</tr>"
        for word, shares in zip(data["word"].values.tolist(), data["share"].values.T.tolist(), strict=True)
    ]
    note = "Each word's part of the sum of all words' maps, from the explanation's own seed and from others."
    return Section("Shares from other seeds", table(head, lines), note, folded=True)


def _interval(ends: list[float]) -> str:
    mean, low, high = (number(value, 3) for value in ends)
    return f"{mean} [{low}, {high}]"
