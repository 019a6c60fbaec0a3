"""Opening the page: who may reach it, and the server that gives it out."""

from __future__ import annotations

import hmac
import os
import signal
import socket
import stat
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sfumato.bounds import shown
from sfumato.errors import SfumatoError, SfumatoWarning, Unreadable
from sfumato.reading import path_of, read_text

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST = 1800.0
CLOSING = 1.0
"""Seconds that work under way has for its end, when the server is closed."""
THREADS = 256
"""Events that may be under way: each that waits for a model is one, so more than all queues together have places."""
SESSIONS = 300
"""Tabs of browsers whose state is kept; beyond, the oldest are forgotten."""


class CannotServe(SfumatoError):
    """The page cannot be opened as asked for."""


def serve(
    models: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    auth: str | None = None,
    names: Sequence[str] = (),
    library: str | None = None,
    device: str | None = None,
    longest: float = LONGEST,
    ready: Callable[[str], None] = print,
) -> None:
    """Open the page and stay until the process is ended.

    Args:
        models: Embedded models, folders or hub ids.
        host: The address to listen on.
        port: Likewise; 0 takes any that is free.
        auth: A file of lines NAME:PASSWORD, readable by its owner alone; needed on any host but this machine's own.
        names: Host names under which browsers may ask for the page, beside `host`.
        library: A folder of saved explanations and runs that visitors may look at.
        device: Where models run.
        longest: Seconds that one piece of work may take.
        ready: Told the address once the page can be opened.

    Raises:
        CannotServe: The host needs a password, the file of passwords is no good, the port is taken, or the extra
            ``app`` is not installed.
    """
    if host not in LOOPBACK and auth is None:
        raise CannotServe(
            f"--host {host} would open the page to other machines; give --auth FILE with lines NAME:PASSWORD, "
            "or leave --host at 127.0.0.1"
        )
    people = None if auth is None else read_passwords(path_of(auth))
    folder = None if library is None else path_of(library)
    if folder is not None and not os.path.isdir(folder):
        raise CannotServe(f"--library {library} is no folder; name one that holds results of sfumato explain")
    with _listening(host, port) as listening:
        actual = listening.getsockname()[1]
        settings: dict[str, Any] = {"device": device, "longest": longest, "library": folder, "names": names}
        app, workshop = application(models, host=host, port=actual, people=people, **settings)
        from sfumato.app.server.connections import Server

        server = Server(app, workshop.close)
        ready(f"http://{'localhost' if host in LOOPBACK else host}:{actual}")
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            if not workshop.ended(within=CLOSING):
                _cut_off()
            raise
        finally:
            workshop.close()


def _cut_off() -> None:
    """End the process although a thread still computes, which cannot be stopped and would not survive Python's end."""
    print("closed; what was under way is cut off", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(128 + signal.SIGINT)


def application(
    models: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    people: dict[str, str] | None = None,
    names: Sequence[str] = (),
    library: Path | None = None,
    device: str | None = None,
    longest: float = LONGEST,
) -> tuple[Any, Any]:
    """The page as an ASGI application, and its workshop.

    Raises:
        CannotServe: The extra ``app`` is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio as gr
        from fastapi import FastAPI
    except ImportError as error:
        raise CannotServe("the page needs Gradio and Plotly: pip install 'sfumato[app]'") from error
    from sfumato.app.page import look, page
    from sfumato.app.server.events import Queue
    from sfumato.app.server.guard import LOCAL, Guard
    from sfumato.app.server.results import results_route
    from sfumato.app.server.workshop import Workshop

    warnings.simplefilter("ignore", SfumatoWarning)  # what they say is in the result, and shown there
    workshop = Workshop.of(list(models), device=device, library=library, longest=longest)
    blocks = page(workshop)
    blocks.max_threads = THREADS
    blocks.state_session_capacity = SESSIONS
    blocks.queue(max_size=256, default_concurrency_limit=64, api_open=False)
    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    outer.add_route("/results/{id}/{name}", results_route(workshop.visitors))
    served = gr.mount_gradio_app(
        outer,
        blocks,
        path="/",
        server_name=host,
        server_port=port,
        auth=None if people is None else allows(people),
        auth_message="This page is for those who have a password.",
        ssr_mode=False,
        run_history=False,
        show_error=False,
        allowed_paths=[],
        pwa=False,
        mcp_server=False,
        **look(),
    )
    blocks.has_launched = True  # only then does Gradio refuse paths that nobody uploaded
    listeners = {number: len(one.inputs) for number, one in blocks.fns.items() if one.fn is not None}
    queue = Queue(listeners, lambda session: session in blocks._queue.pending_messages_per_session)
    return Guard(served, {*LOCAL, host, *names} if host in LOOPBACK else {host, *names}, queue), workshop


def read_passwords(file: Path) -> dict[str, str]:
    """Names and passwords of a file of lines NAME:PASSWORD.

    Raises:
        CannotServe: It cannot be read, others can read it, or it holds no such line.
    """
    try:
        lines = read_text(file).splitlines()
        mode = file.stat().st_mode
    except Unreadable as error:
        raise CannotServe(f"--auth {shown(str(file))} cannot be read: {error.reason}") from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CannotServe(f"--auth {file} can be read by others; keep it to yourself: chmod 600 {file}")
    people = {}
    for number, text in enumerate(lines, start=1):
        if not text.strip() or text.startswith("#"):
            continue
        name, colon, password = text.partition(":")
        if not colon or not name.strip() or len(password) < 8:
            raise CannotServe(f"--auth {file}, line {number}: expected NAME:PASSWORD, with 8 letters or more to guess")
        people[name.strip()] = password
    if not people:
        raise CannotServe(f"--auth {file} names nobody; write lines NAME:PASSWORD")
    return people


def allows(people: dict[str, str]) -> Callable[[str, str], bool]:
    """Whether a name and a password go together; as slow for a wrong name as for a wrong password."""

    def check(name: str, password: str) -> bool:
        known = people.get(name, "")
        return hmac.compare_digest(known.encode(), password.encode()) and name in people

    return check


def _listening(host: str, port: int) -> socket.socket:
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(kind, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(128)  # whoever is told the address at once may have to wait, but is not turned away
    except (OSError, OverflowError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotServe(f"cannot listen on {host}:{port}: {reason}; take another --port, or 0 for any") from error
    return found
