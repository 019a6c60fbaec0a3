"""What the page may send to Gradio's queue: events of plain values, each in a session that is its visitor's own.

Gradio keeps what it has to say of an event under the session that a page names, and gives it to anyone who names the
same one. So a session is replaced by a digest of it and its visitor's cookie: named by another visitor, it is another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode

JOIN = "/gradio_api/queue/join"
DATA = "/gradio_api/queue/data"
CANCEL = "/gradio_api/cancel"
HEARTBEAT = "/gradio_api/heartbeat/"
LONGEST_SESSION = 64


class NoEvent(ValueError):
    """What was sent is no event of this page; the message says why, in one line."""


@dataclass(frozen=True)
class Queue:
    """What is behind the page.

    Attributes:
        listeners: How many values each listener takes, by its number.
        waits_for: Whether a session has events.
    """

    listeners: Mapping[int, int]
    waits_for: Callable[[str], bool]


def session_of(visitor: str, named: Any) -> str:
    """The session by which Gradio knows what a visitor's page calls by this name.

    Raises:
        NoEvent: It is no name, or a long one.
    """
    if not isinstance(named, str) or not 0 < len(named) <= LONGEST_SESSION:
        raise NoEvent(f"a session is a name of at most {LONGEST_SESSION} letters")
    return hashlib.sha256(f"{visitor}/{named}".encode(errors="surrogatepass")).hexdigest()[:32]


def joined(body: bytes, visitor: str, queue: Queue) -> bytes:
    """An event as Gradio is given it: what a page sends, and nothing else.

    Raises:
        NoEvent: It is no event, names a file or a listener that is not there, or has values that JSON has not.
    """
    event = _read(body)
    listener, data, trigger = (event.get(name) for name in ("fn_index", "data", "trigger_id"))
    if type(listener) is not int or listener not in queue.listeners:
        raise NoEvent("the page has no such listener; reload it")
    if not isinstance(data, list) or len(data) != queue.listeners[listener]:
        raise NoEvent(f"the data of this event is a list of {queue.listeners[listener]} values")
    if trigger is not None and type(trigger) is not int:
        raise NoEvent("trigger_id is the number of a component")
    if _names_a_file(event):
        raise NoEvent("an event carries plain values; files cannot be named in it")
    kept = {name: event.get(name) for name in ("data", "event_data", "fn_index", "trigger_id")}
    return _written(kept | {"session_hash": session_of(visitor, event.get("session_hash"))})


def cancelled(body: bytes, visitor: str) -> bytes:
    """The cancelling of an event, in the session of its visitor.

    Raises:
        NoEvent: It is none.
    """
    event = _read(body)
    return _written(event | {"session_hash": session_of(visitor, event.get("session_hash"))})


def in_session(scope: MutableMapping[str, Any], visitor: str) -> str | None:
    """Put the visitor's own session where a request names one in its address; it, or None where none is named.

    Raises:
        NoEvent: It is no name, or a long one.
    """
    path = str(scope["path"])
    if path == DATA:
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1"), errors="surrogateescape")
        session = session_of(visitor, asked.get("session_hash", [""])[0])
        scope["query_string"] = urlencode({"session_hash": session}).encode()
        return session
    if path.startswith(HEARTBEAT):
        session = session_of(visitor, path.removeprefix(HEARTBEAT))
        scope["path"] = HEARTBEAT + session
        scope["raw_path"] = scope["path"].encode()
        return session
    return None


def _read(body: bytes) -> dict[str, Any]:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NoEvent("an event is a JSON object") from error
    if not isinstance(event, dict):
        raise NoEvent("an event is a JSON object")
    return event


def _written(event: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(event, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # not finite, or half of a letter
        raise NoEvent("the values of an event are finite numbers and whole letters") from error


def _names_a_file(event: Mapping[str, Any]) -> bool:
    """Whether an event names a file.

    Gradio walks all values of an event and takes an object with a path and a meta for a file: it copies the path, or
    fetches it where it is an address, for any component. No component of this page takes files.
    """
    waiting: list[Any] = [event]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "path" in value and "meta" in value:
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False
