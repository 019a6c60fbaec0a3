"""``sfumato open``: what a stored result says, for all of it or for some steps, layers and heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.console import note, print_json, say
from sfumato.cli.parameters import Debug, Json
from sfumato.cli.session import session_of
from sfumato.errors import OptionError

if TYPE_CHECKING:
    from sfumato.results.explanation import Explanation

SELECTION = "Select after the run (needs a result made with --option keep=...)"


def open_result(
    context: typer.Context,
    path: Annotated[
        str, typer.Argument(help="A folder that sfumato explain wrote, or an explanation.zarr.", show_default=False)
    ],
    report: Annotated[str | None, typer.Option(metavar="FILE", help="Write the page again, to this file.")] = None,
    steps: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="Such as 0:10 or 0,5.", rich_help_panel=SELECTION)
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Part of their names, such as up_blocks.", rich_help_panel=SELECTION),
    ] = None,
    heads: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="Such as 0,1 or 0:4.", rich_help_panel=SELECTION)
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the numbers of a stored result."""
    from sfumato.cli.tables import say_results
    from sfumato.results.opening import open as open_explanation

    explanation = open_explanation(path, verify=True)
    if not (steps is None and layers is None and heads is None):
        explanation = _selected(explanation, steps, layers, heads)
    summary = explanation.summary()
    if report is not None:
        from sfumato.report import write_report

        write_report(explanation, report)
        session_of(context).stopped = f"stopped; {report} is written"
    if as_json:
        print_json(summary)
        return
    for one in explanation.notes:
        note(f"note: {one}")
    request = explanation.request
    subject = f'"{request.prompt}"' if request.prompt else request.subject
    say(f"{subject} by {explanation.provenance.get('method', 'an unknown method')}")
    say_results(summary)
    if report is not None:
        say()
        say(f"the page is in {report}")


def _selected(explanation: Explanation, steps: str | None, layers: str | None, heads: str | None) -> Explanation:
    from sfumato.methods.daam import select
    from sfumato.methods.word_maps import check_layers

    check_layers(layers, "--layers")
    return select(explanation, steps=_numbers("--steps", steps), layers=layers, heads=_numbers("--heads", heads))


def _numbers(name: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    from sfumato.options import whole_numbers

    numbers = whole_numbers(text)
    if not numbers:
        raise OptionError(f"{name} is {text!r}; expected whole numbers such as 0,1,2 or a range such as 0:10")
    return numbers
