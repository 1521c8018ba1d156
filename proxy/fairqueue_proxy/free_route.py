"""Free routes: health, metrics, models and the like, relayed without identity, queue or charge.

They are relayed before there is a policy and during a drain, too: the engine's own probes come this way. When the
engine refuses connections they answer 503 at once.
"""

import asyncio

from aiohttp import web

from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.engine_reports import REPORTS
from fairqueue_proxy.heads import client_headers, engine_head
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.outflow import Outflow, Outflows
from fairqueue_proxy.upstream import EngineUnreachable, Upstream

ANSWER_SECONDS = 60.0
LIMIT_BYTES = 16 * 1024 * 1024


class _Whole:
    """A reply sink that gathers a whole reply."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.complete: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def reply_head(self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]

    def reply_data(self, data: bytes) -> None:
        self.body += data
        if len(self.body) > LIMIT_BYTES:
            self._resolve(complete=False)

    def reply_end(self) -> None:
        self._resolve(complete=True)

    def reply_lost(self, reason: str) -> None:
        self._resolve(complete=False)

    def _resolve(self, *, complete: bool) -> None:
        if not self.complete.done():
            self.complete.set_result(complete)


async def relay_free(
    request: web.BaseRequest,
    target: str,
    upstream: Upstream,
    withheld: frozenset[bytes],
    engine_kind: str,
    dispatcher: Dispatcher,
    outflows: Outflows,
) -> web.StreamResponse:
    """The engine's answer; its /metrics with our queue added to what waits in it.

    Raises:
        Refused: the engine can't be reached, is too slow, or breaks off.
    """
    head = engine_head(request.method, target, upstream.authority, request.raw_headers, withheld=withheld)
    sink = _Whole()
    exchange = None
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            exchange = await upstream.send(head, sink, method=request.method)
            complete = await sink.complete
    except EngineUnreachable:
        raise Refused(Outcome.ENGINE_UNAVAILABLE, "the engine refuses connections") from None
    except TimeoutError:
        raise Refused(Outcome.ENGINE_ERROR, "the engine did not answer in time", status=504) from None
    finally:
        if exchange is not None:
            exchange.abort()
    if not complete:
        raise Refused(Outcome.ENGINE_ERROR, "the engine broke off its answer")
    body = bytes(sink.body)
    if target.partition("?")[0] == "/metrics" and sink.status == 200:
        body = REPORTS[engine_kind].with_our_queue(body, dispatcher.backlog.queued)
    response = web.StreamResponse(status=sink.status)
    for name, value in client_headers(sink.headers):
        response.headers.add(name, value)
    if request.method != "HEAD":
        # There the length would be that of a GET, which is not known.
        response.content_length = len(body)
    writer, transport = await response.prepare(request), request.transport
    if writer is not None and transport is not None:
        Outflow(outflows, writer, transport).write(body)
        await response.write_eof()
    return response
