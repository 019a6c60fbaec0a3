"""How long a connection may keep the server waiting: halves of requests, answers that are not taken, the end."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from sfumato.app.server.connections import BODY, HEAD, Connection, Server
from sfumato.app.serving import _listening

HASTY = 0.3
"""Seconds that a part of a request may take here."""
LARGE = 40_000_000
REQUEST = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"


class Hasty(Connection):
    """As the server's own, with less patience."""

    head = body = HASTY
    answer = 2 * HASTY


@dataclass
class Page:
    """Answers at once, never, or with more than fits into any buffer; keeps what became of it."""

    closing: bool = False
    ended: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        while message.get("more_body"):
            message = await receive()
        if message["type"] == "http.disconnect":
            self.ended.append("cut off")
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        if scope["path"] == "/events":
            await receive()
            self.ended.append("events")
            return
        times = LARGE // 4 if scope["path"] == "/large" else 1
        await send({"type": "http.response.body", "body": b"fine" * times})


@dataclass
class Running:
    """A server of this process."""

    port: int
    page: Page
    server: Server
    thread: threading.Thread

    def stop(self) -> float:
        """End it; the seconds that it took."""
        began = time.monotonic()
        self.server.should_exit = True
        self.thread.join(30)
        return time.monotonic() - began


@pytest.fixture
def running() -> Iterator[Running]:
    page = Page()

    def end() -> None:
        page.closing = True

    with _listening("127.0.0.1", 0) as listening:
        server = Server(page, end)
        server.config = uvicorn.Config(page, http=Hasty, ws="none", log_level="warning", lifespan="off")
        server.config.timeout_graceful_shutdown = 1
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        found = Running(listening.getsockname()[1], page, server, thread)
        yield found
        found.stop()


def connected(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=20)


def cut_off_after(one: socket.socket) -> float:
    """Seconds until the other side ends the connection."""
    began = time.monotonic()
    with suppress(ConnectionResetError):
        while one.recv(65536):
            pass
    return time.monotonic() - began


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nhost: here\r\n",
        b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 9\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        REQUEST + b"GET / HT",
    ],
    ids=["nothing", "a word", "headers", "body", "chunk", "the second of two"],
)
def test_half_a_request_is_cut_off(running: Running, half: bytes) -> None:
    with closing(connected(running)) as one:
        one.sendall(half)
        assert HASTY / 2 < cut_off_after(one) < 10


def test_a_request_that_comes_in_drops_is_cut_off_as_well(running: Running) -> None:
    with closing(connected(running)) as one:
        began = time.monotonic()
        with suppress(OSError):  # reset, or a broken pipe
            while time.monotonic() - began < 10:
                one.sendall(b"G")
                time.sleep(HASTY / 10)
        assert time.monotonic() - began < 10


def test_whole_requests_are_answered_one_after_the_other_on_one_connection(running: Running) -> None:
    with closing(connected(running)) as one:
        for _ in range(3):
            one.sendall(REQUEST)
            answer = b""
            while b"fine" not in answer:
                answer += one.recv(65536)
            time.sleep(HASTY / 3)


def test_an_answer_that_is_not_taken_is_given_up_and_one_that_is_taken_slowly_is_not(running: Running) -> None:
    with closing(connected(running)) as idle, closing(connected(running)) as slow:
        for one in (idle, slow):
            one.sendall(b"GET /large HTTP/1.1\r\nhost: here\r\n\r\n")
        pauses = iter([HASTY / 2] * 8)
        assert taken_of(slow, pauses) > LARGE
        assert taken_of(idle, pauses) < LARGE


def taken_of(one: socket.socket, pauses: Iterator[float]) -> int:
    """Bytes that come before the end, with some pauses between them."""
    taken = 0
    with suppress(ConnectionResetError):
        while taken <= LARGE and (more := one.recv(4_000_000, socket.MSG_WAITALL)):
            taken += len(more)
            time.sleep(next(pauses, 0))
    return taken


def test_events_without_an_end_do_not_hold_the_server(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    with closing(connected(running)) as one:
        one.sendall(b"GET /events HTTP/1.1\r\nhost: here\r\n\r\n")
        assert one.recv(1000).startswith(b"HTTP/1.1 200")
        time.sleep(HASTY * 2)
        assert running.page.ended == []
        assert running.stop() < 5
    assert running.page.closing
    assert running.page.ended == ["events"]
    assert not [record for record in caplog.records if record.exc_info]


def test_the_servers_own_patience_is_of_people() -> None:
    assert (Connection.head, Connection.body) == (HEAD, BODY)
    assert 5 <= HEAD <= 30 <= BODY <= 300
