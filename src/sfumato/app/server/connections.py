"""The server: how long a connection may keep it waiting, and how it ends.

Whoever sends half a request, or takes no answer, is cut off. When the server ends, so does all that was begun.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD = 10.0
"""Seconds from the first byte of a request, or from the opening of the connection, to the end of its head."""
BODY = 120.0
"""Seconds for its body: the largest that the page takes needs 1.6 Mbit/s."""
ANSWER = 60.0
"""Seconds in which something must be taken of what waits to be sent."""


class Connection(H11Protocol):
    """Uvicorn's connection with limits of time; it has one for idle connections already."""

    head, body, answer = HEAD, BODY, ANSWER

    def __init__(self, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self._awaited: Any = None
        self._arriving: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Wait until the other side takes what was sent."""
        super().pause_writing()
        self._must_shrink(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Go on sending."""
        super().resume_writing()
        if self._leaving is not None:
            self._leaving.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        for timer in (self._arriving, self._leaving):
            if timer is not None:
                timer.cancel()

    def shutdown(self) -> None:
        """End with the server, also where an answer has no end of its own, as that of events."""
        super().shutdown()
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: the page has no sockets, and whoever wants one gets the page."""

    def _must_shrink(self, size: int) -> None:
        """Look again after a while whether fewer bytes wait to be sent."""

        def look() -> None:
            left = self.transport.get_write_buffer_size()
            if left < size:
                self._must_shrink(left)
            else:
                self.transport.abort()

        self._leaving = self.loop.call_later(self.answer, look)

    def _watch(self) -> None:
        """Give each part of a request its time, from when it is awaited, however often a byte of it arrives."""
        awaited = self.conn.their_state
        if awaited is self._awaited:
            return
        self._awaited = awaited
        if self._arriving is not None:
            self._arriving.cancel()
        limits = {h11.IDLE: self.head, h11.SEND_BODY: self.body}
        if awaited in limits:
            self._must_arrive(limits[awaited])

    def _must_arrive(self, within: float) -> None:
        def look() -> None:
            if self.transport.get_write_buffer_size():  # the last answer is still being taken
                self._must_arrive(within)
            else:
                self.transport.abort()

        self._arriving = self.loop.call_later(within, look)


class Server(uvicorn.Server):
    """Uvicorn's server over these connections.

    Args:
        app: What it serves.
        closing: Called first when the server is to end.
    """

    def __init__(self, app: Any, closing: Callable[[], object]) -> None:
        settings: dict[str, Any] = {"log_level": "warning", "access_log": False, "timeout_graceful_shutdown": 1}
        super().__init__(uvicorn.Config(app, http=Connection, ws="none", **settings))
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all connections."""
        self._closing()
        await super().shutdown(sockets)
