"""What stands before the page: only known hosts, origins and paths, bodies that fit, and sessions of one's own.

A page on 127.0.0.1 is open to every web site that its user visits: by another name that leads there (DNS rebinding), or
by forms and scripts of another origin. So the name that the browser used and the origin it came from must be ours.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from sfumato.app.server.events import CANCEL, DATA, HEARTBEAT, JOIN, NoEvent, Queue, cancelled, in_session, joined
from sfumato.app.server.visitors import COOKIE

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 24_000_000
"""Of a request's body: a picture of 8 MB in base64, twice, and what goes with it."""
LOCAL = ("127.0.0.1", "localhost", "[::1]")
OPEN = {
    "/",
    "/theme.css",
    "/config",
    "/favicon.ico",
    "/manifest.json",
    "/login",
    "/login/",
    "/logout",
    JOIN,
    DATA,
    CANCEL,
    "/gradio_api/reset",
    "/gradio_api/startup-events",
}
BELOW = ("/assets/", "/static/", "/results/", HEARTBEAT)
"""The paths that the page asks for, and the beginnings of such. Uploads, files and the rest of Gradio's API are not
among them: pictures come inside an event, and results go out by their secret id."""
LONGEST_PATH = 1000
"""Bytes of a path, and of each name in it 255: no file system has longer ones."""
QUIET = 60.0
"""Seconds in which the log says only once that sessions were refused."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Nothing is loaded from elsewhere, whatever a library's front end would like to."""
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Guard:
    """An ASGI application around another one.

    Args:
        app: The page.
        hosts: Names under which it may be asked for, without port.
        queue: What its events are for.
        most: Bytes that a request's body may have.
    """

    def __init__(self, app: App, hosts: Iterable[str], queue: Queue, most: int = MOST_BYTES) -> None:
        self._app, self._queue, self._most = app, queue, most
        self._said = -QUIET
        self._hosts = frozenset(f"[{host}]" if ":" in host.strip("[]") else host.lower() for host in map(_bare, hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is allowed; refuse the rest in one line."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if refusal := self._refusal(scope, headers):
            await _answer(send, *refusal)
            return
        key, fresh = _visitor(headers)
        if fresh:
            scope["headers"] = [*scope["headers"], (b"cookie", f"{COOKIE}={key}".encode())]
        receive = _bounded(receive, self._most)
        try:
            session = in_session(scope, key)
            if scope["path"] in (JOIN, CANCEL) and scope["method"] == "POST":
                body = await _whole(receive)
                body = joined(body, key, self._queue) if scope["path"] == JOIN else cancelled(body, key)
                scope["headers"] = _describing(body, scope["headers"])
                receive = _again(body, receive)
        except NoEvent as error:
            await _answer(send, 400, str(error))
            return
        if scope["path"] == DATA and session is not None and not self._queue.waits_for(session):
            self._note("refused the stream of a session that has no events")
            await _answer(send, 404, "this session has no events; reload the page")
            return
        await self._app(scope, receive, _marked(send, key if fresh else None))

    def _note(self, what: str) -> None:
        """Say it in the log, once in a while."""
        if time.monotonic() - self._said >= QUIET:
            self._said = time.monotonic()
            logging.getLogger("uvicorn.error").warning("%s (said at most once in %.0f seconds)", what, QUIET)

    def _refusal(self, scope: Scope, headers: MutableMapping[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if _name(host) not in self._hosts:
            return 421, f"this page is not served as {host[:80]!r}; open it as {sorted(self._hosts)[0]}"
        origin = headers.get("origin")
        if origin is not None and _origin(origin) != host:
            return 403, "a page of another origin may not use this one"
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return 403, "a page of another site may not use this one"
        path = str(scope["path"])
        known = path in OPEN or path.startswith(BELOW)
        if not known or len(path) > LONGEST_PATH or any(len(name.encode()) > 255 for name in path.split("/")):
            return 404, "there is nothing here; the page is at /"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "GET and POST only"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._most:
            return 413, f"a request may have {self._most / 1e6:.0f} MB; send a smaller picture"
        return None


def _bare(host: str) -> str:
    return host.strip("[]")


def _origin(origin: str) -> str | None:
    """Host and port of an origin; None where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


async def _whole(receive: Receive) -> bytes:
    """The whole body.

    Raises:
        NoEvent: It was cut off.
    """
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise NoEvent("the event was cut off")
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _describing(body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of a request with another body."""
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    gone = {b"transfer-encoding", *dict(own)}
    return [*(one for one in headers if one[0].lower() not in gone), *own]


def _again(body: bytes, receive: Receive) -> Receive:
    """Receive a body that was read before, then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def take() -> Message:
        return waiting.pop() if waiting else await receive()

    return take


def _name(host: str) -> str:
    """A host without its port, in small letters."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def _visitor(headers: MutableMapping[str, str]) -> tuple[str, bool]:
    """The visitor's key from the cookie, or a new one."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        found = None
    if found is not None and len(found.value) == 43 and found.value.replace("-", "").replace("_", "").isalnum():
        return found.value, False
    return secrets.token_urlsafe(32), True


def _bounded(receive: Receive, most: int) -> Receive:
    """Receive a body that does not say its length, up to the limit; beyond, the request counts as given up."""
    total = 0

    async def take() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        return message if total <= most else {"type": "http.disconnect"}

    return take


def _marked(send: Send, key: str | None) -> Send:
    """Send with our headers, and the cookie of a new visitor."""

    async def give(message: Message) -> None:
        if message["type"] == "http.response.start":
            extra = list(HEADERS)
            if key is not None:
                cookie = f"{COOKIE}={key}; Path=/; HttpOnly; SameSite=Lax"
                extra.append((b"set-cookie", cookie.encode()))
            message["headers"] = [*message.get("headers", []), *extra]
        await send(message)

    return give


async def _answer(send: Send, status: int, line: str) -> None:
    body = f"{line}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
