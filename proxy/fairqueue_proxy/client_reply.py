"""A reply to a client that is written past aiohttp: its head, its bytes as they come, and what aiohttp hears then.

aiohttp still reads requests, and decides what becomes of the connection when a reply is over.
"""

import time

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from fairqueue_proxy.client_head import client_head
from fairqueue_proxy.heads import RawHeaders
from fairqueue_proxy.outflow import Outflow
from fairqueue_proxy.runtime import Runtime


class Written(web.StreamResponse):
    """What a handler gives back when its reply is out."""

    def __init__(self, status: int, *, keeps_alive: bool) -> None:
        super().__init__(status=status)
        self._keeps_alive = keeps_alive

    @property
    def keep_alive(self) -> bool:
        """Whether another request may follow on the connection."""
        return self._keeps_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing is left to be done."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to be said."""


def reply_to(
    runtime: Runtime, request: web.BaseRequest, status: int, headers: RawHeaders, *, body_bytes: int | None = None
) -> Outflow:
    """Where the reply is to be written. `body_bytes` None: nobody knows yet.

    Raises:
        ConnectionResetError: the client has gone.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    keep_alive = request.keep_alive and not runtime.drain.begun.is_set()
    head = client_head(
        request.method,
        request.version,
        status,
        headers,
        body_bytes=body_bytes,
        keep_alive=keep_alive,
        now=time.time(),
    )
    # By that aiohttp knows, should the handler fail, that it can't answer any more.
    request.writer.output_size += len(head.raw)
    return Outflow(runtime.outflows, transport, head)


async def written(request: web.BaseRequest, outflow: Outflow, status: int) -> Written:
    """Ends the reply, when the client has taken enough of it for the next."""
    outflow.end()
    if outflow.size:
        await request.writer.drain()
    return Written(status, keeps_alive=outflow.head.keeps_alive)
