"""Replies that nothing is counted in, passed on as they come: those of free routes, and of routes that only need an
identity.

Free routes are relayed without identity, queue or charge, before there is a policy and during a drain, too: the
engine's own probes come this way. When the engine refuses connections they answer 503 at once.
"""

import asyncio

from aiohttp import web

from fairqueue_proxy.engine_reports import REPORTS
from fairqueue_proxy.heads import client_headers, engine_head
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.outflow import Outflow
from fairqueue_proxy.refusals import dress
from fairqueue_proxy.runtime import Runtime
from fairqueue_proxy.upstream import EngineUnreachable, Exchange, UpstreamError

ANSWER_SECONDS = 60.0


class _Passage:
    """A reply sink that writes to the client at once, as soon as the client's head is out."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.head: asyncio.Future[bool] = loop.create_future()
        self.end: asyncio.Future[bool] = loop.create_future()
        self._outflow: Outflow | None = None
        self._pending = bytearray()

    def reply_head(self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        self.head.set_result(True)

    def reply_data(self, data: bytes) -> None:
        if self._outflow is None:
            self._pending += data
        else:
            self._outflow.write(data)

    def reply_end(self) -> None:
        self._resolve(whole=True)

    def reply_lost(self, reason: str) -> None:
        self._resolve(whole=False)

    def flow_into(self, outflow: Outflow) -> None:
        """The client's head is out."""
        self._outflow = outflow
        pending, self._pending = bytes(self._pending), bytearray()
        outflow.write(pending)

    def _resolve(self, *, whole: bool) -> None:
        for future in (self.head, self.end):
            if not future.done():
                future.set_result(whole)


async def pass_on(
    runtime: Runtime,
    request: web.BaseRequest,
    target: str,
    withheld: frozenset[bytes],
    body: bytes | None = None,
    *,
    patient: bool = False,
) -> web.StreamResponse:
    """The engine's answer as it comes; its /metrics with our queue added to what waits in it, if anybody waits here.
    `patient`: it may generate for as long as it likes.

    Raises:
        Refused: the engine can't be reached, is too slow, or breaks off before it has answered.
    """
    if request.method == "GET" and target.partition("?")[0] == "/metrics" and not runtime.shadow.on:
        return await _metrics(runtime, target)
    head = engine_head(
        request.method,
        target,
        runtime.upstream.authority,
        request.raw_headers,
        withheld=withheld,
        body_bytes=None if body is None else len(body),
        api_key=runtime.engine_key,
    )
    passage = _Passage()
    exchange: Exchange | None = None
    try:
        async with asyncio.timeout(None if patient else ANSWER_SECONDS):
            exchange = await runtime.upstream.send(head + (body or b""), passage, method=request.method)
            if not await passage.head:
                raise Refused(Outcome.ENGINE_ERROR, "the engine broke off before it answered")
        try:
            return await _reply(runtime, request, passage, exchange)
        except ConnectionError:
            # The client went while we wrote. aiohttp finds the connection closed, too, and writes nothing.
            return web.Response()
    except EngineUnreachable:
        raise Refused(Outcome.ENGINE_UNAVAILABLE, "the engine refuses connections") from None
    except TimeoutError:
        raise Refused(Outcome.ENGINE_ERROR, "the engine did not answer in time", status=504) from None
    finally:
        if exchange is not None:
            exchange.abort()


async def _reply(
    runtime: Runtime, request: web.BaseRequest, passage: _Passage, exchange: Exchange
) -> web.StreamResponse:
    response = web.StreamResponse(status=passage.status)
    dress(runtime, response, client_headers(passage.headers))
    lengths = [value for name, value in passage.headers if name.lower() == "content-length"]
    if lengths and lengths[0].isdecimal():
        response.content_length = int(lengths[0])
    elif request.version >= (1, 1) and request.method != "HEAD":
        response.enable_chunked_encoding()
    writer, transport = await response.prepare(request), request.transport
    if writer is None or transport is None:
        return response
    outflow = Outflow(runtime.outflows, writer, transport, pause=exchange.pause, resume=exchange.resume)
    passage.flow_into(outflow)
    if not await passage.end:
        # Only a broken connection can tell the client that it is not whole.
        outflow.cut()
        return response
    await response.write_eof()
    return response


async def _metrics(runtime: Runtime, target: str) -> web.StreamResponse:
    key = runtime.engine_key
    headers = [("Authorization", f"Bearer {key}")] if key is not None else []
    try:
        status, body = await runtime.upstream.get(target, timeout_seconds=ANSWER_SECONDS, headers=headers)
    except EngineUnreachable:
        raise Refused(Outcome.ENGINE_UNAVAILABLE, "the engine refuses connections") from None
    except UpstreamError:
        raise Refused(Outcome.ENGINE_ERROR, "the engine broke off its answer") from None
    if status == 200:
        body = REPORTS[runtime.engine.kind].with_our_queue(body, runtime.dispatcher.backlog.queued)
    response = web.Response(status=status, body=body, headers={"Content-Type": "text/plain; version=0.0.4"})
    dress(runtime, response, [])
    return response
