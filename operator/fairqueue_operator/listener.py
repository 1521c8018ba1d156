"""A listening socket for an aiohttp application, with limits on what comes before a request: TLS, and the first line.

aiohttp itself waits an hour for the first request of a connection.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

HANDSHAKE_SECONDS: Final = 5.0
FIRST_REQUEST_SECONDS: Final = 10.0
# Longer than API servers keep an idle connection (90 s): whoever closes it must not be the one who is about to be
# asked.
_KEEP_ALIVE_SECONDS: Final = 150.0
# What is left of a body that was refused is read for so long, so that the refusal is seen.
_LINGERING_SECONDS: Final = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _WithoutTraces(logging.Filter):
    """Bytes that are no HTTP are somebody else's defect: a line, and no traceback of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | ConnectionError):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.msg, record.args, record.exc_info = "what came is not HTTP", (), None
        return True


_logger = logging.getLogger("fairqueue.http")
_logger.addFilter(_WithoutTraces())


class Listener:
    """Serves one application on one address, from `start` to `stop`."""

    def __init__(
        self,
        application: web.Application,
        host: str,
        port: int,
        *,
        context: ssl.SSLContext | None = None,
        first_request_seconds: float = FIRST_REQUEST_SECONDS,
        finish_seconds: float = 10.0,
    ) -> None:
        application.middlewares.append(self._heard)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=_logger,
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
            shutdown_timeout=finish_seconds,
            lingering_time=_LINGERING_SECONDS,
            # What is compressed is no request of an API server, and could unfold into anything.
            auto_decompress=False,
        )
        self._host = host
        self._port = port
        self._context = context
        self._first_request_seconds = first_request_seconds
        self._silent: dict[RequestHandler, asyncio.TimerHandle] = {}
        self._server: asyncio.Server | None = None
        self.is_ending = False

    @property
    def port(self) -> int:
        """The one that is listened on, where 0 was asked for."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listens. Raises `OSError` where it cannot."""
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_server(
            self._connection,
            self._host,
            self._port,
            ssl=self._context,
            backlog=512,
            ssl_handshake_timeout=None if self._context is None else HANDSHAKE_SECONDS,
        )

    async def stop(self) -> None:
        """Takes no new connections, finishes what runs, and closes all."""
        if self._server is not None:
            self._server.close()
        for timer in self._silent.values():
            timer.cancel()
        await self._runner.cleanup()

    def _connection(self) -> asyncio.Protocol:
        assert self._runner.server is not None
        handler = self._runner.server()
        loop = asyncio.get_running_loop()
        self._silent[handler] = loop.call_later(self._first_request_seconds, self._give_up_on, handler)
        return handler

    def _give_up_on(self, handler: RequestHandler) -> None:
        del self._silent[handler]
        if handler.transport is not None:
            handler.transport.abort()

    @web.middleware
    async def _heard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        timer = self._silent.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()
        response = await handler(request)
        if self.is_ending:
            # The next request on this connection would meet a closed door.
            response.force_close()
        return response
