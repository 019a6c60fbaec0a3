"""``sfumato app``: the web page."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.cli.console import say
from sfumato.cli.parameters import Debug, Device
from sfumato.cli.session import session_of

EMBEDDED = ("studio/scenes", "studio/faces", "studio/insert")


def app(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="An embedded model, a folder in diffusers layout, or a hub id 'owner/name'; may be repeated.",
            show_default="the embedded models",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the page is; 0 takes any free one.")] = 7860,
    host: Annotated[
        str, typer.Option(help="The address to listen on; any but this machine's own needs --auth.")
    ] = "127.0.0.1",
    auth: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Lines NAME:PASSWORD, readable by you alone.", show_default=False),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="A host name under which browsers may ask for the page; may be repeated.",
            show_default="the host",
        ),
    ] = None,
    library: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Saved explanations and runs that visitors may look at, such as out.",
            show_default=False,
        ),
    ] = None,
    longest: Annotated[float, typer.Option(min=1, help="Seconds that one piece of work may take.")] = 1800.0,
    device: Device = None,
    debug: Debug = False,
) -> None:
    """Open a web page that shows where, which, when and what if, without a line of code.

    The page is served on this machine alone unless a host and a file of passwords are given. Nothing is loaded from
    elsewhere, and nothing leaves the machine. Ctrl-C closes it.
    """
    from sfumato.app.serving import serve

    session_of(context).stopped = "closed"
    serve(
        model or list(EMBEDDED),
        host=host,
        port=port,
        auth=auth,
        names=name or (),
        library=library,
        device=device,
        longest=longest,
        ready=lambda address: say(f"the page is at {address}  (Ctrl-C closes it)"),
    )
