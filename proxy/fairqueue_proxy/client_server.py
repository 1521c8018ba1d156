"""aiohttp's HTTP server as the data port needs it: capped connections, and answers of our own to what is no HTTP.

aiohttp would log the offending bytes, in which a key may be; and it would answer a body whose framing breaks only after
the handler, which waits for the rest of that body.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError, RawRequestMessage


class ClientConnection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_refuse_malformed",)

    def __init__(self, server: "ClientServer", *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(server, loop=loop, **options)
        self._refuse_malformed = server.refuse_malformed

    def data_received(self, data: bytes) -> None:
        """Also ends the wait for a body whose framing has just turned out to be broken."""
        super().data_received(data)
        if self.transport is not None and self._sends_too_far_ahead():
            # While we don't read, its leaving would go unseen, and its request would hold its place for nobody.
            self.transport.abort()
            return
        if not self._messages or isinstance(self._messages[-1][0], RawRequestMessage):
            return
        payloads = [payload for _, payload in self._messages]
        if self._current_request is not None:
            payloads.append(self._current_request.content)
        for payload in payloads:
            if not payload.is_eof() and payload.exception() is None:
                payload.set_exception(web.RequestPayloadError("its chunks are malformed"))

    def _sends_too_far_ahead(self) -> bool:
        """It sends further requests, so many that reading had to stop, while one is still being answered. (Also when
        all of it is there before that one begins: as its body is read, this is asked again.)"""
        current, paused = self._current_request, self._reading_paused or self._buffer_paused
        return paused and current is not None and current.content.is_eof()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request, or to a failure of the handler."""
        if isinstance(exc, HttpProcessingError):
            return self._refuse_malformed(exc)
        return super().handle_error(request, status, exc, message)


class ClientServer(web.Server):
    """Closes connections beyond `connection_cap` at once, instead of running out of descriptors for the engine's side.

    `refuse_malformed` answers what can't be read as a request.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Any],
        *,
        connection_cap: int,
        refuse_malformed: Callable[[HttpProcessingError], web.StreamResponse],
        **options: Any,
    ) -> None:
        super().__init__(handler, **options)
        self.refuse_malformed = refuse_malformed
        self._connection_cap = connection_cap

    def __call__(self) -> ClientConnection:
        return ClientConnection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > self._connection_cap:
            transport.abort()
