"""Replies that nothing is counted in, passed on as they come: those of free routes, and of routes that only need an
identity.

Free routes are relayed without identity, queue or charge, before there is a policy and during a drain, too: the
engine's own probes come this way. When the engine refuses connections they answer 503 at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from fairqueue_proxy.client_reply import reply_to, written
from fairqueue_proxy.engine_reports import REPORTS
from fairqueue_proxy.heads import client_headers, engine_head, values
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.outflow import Outflow
from fairqueue_proxy.paths import as_sent
from fairqueue_proxy.receiving import Body
from fairqueue_proxy.refusals import dress
from fairqueue_proxy.runtime import Runtime
from fairqueue_proxy.upstream import EngineUnreachable, Exchange, UpstreamError

ANSWER_SECONDS = 60.0


class _Passage:
    """A reply sink that writes to the client at once, as soon as the client's head is out."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.head: asyncio.Future[bool] = loop.create_future()
        self.end: asyncio.Future[bool] = loop.create_future()
        self._outflow: Outflow | None = None
        self._pending = bytearray()

    def reply_head(self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = headers
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
        """From now on the client gets what comes."""
        self._outflow = outflow
        pending, self._pending = bytes(self._pending), bytearray()
        outflow.open(pending)

    def _resolve(self, *, whole: bool) -> None:
        for future in (self.head, self.end):
            if not future.done():
                future.set_result(whole)


class Forward(NamedTuple):
    """How a request goes to the engine.

    `withheld`: lower-case names of headers that it must not see. `as_it_came`: under a policy that only observes; it
    may generate for as long as it likes, on a connection of its own, because nobody here knows what it is.
    """

    target: str
    withheld: frozenset[bytes]
    api_key: str | None
    request_id: str
    as_it_came: bool = False


def forward_as_it_came(request: web.BaseRequest, request_id: str) -> Forward:
    """With path, headers and credentials as the client sent them."""
    return Forward(as_sent(request.raw_path), frozenset(), None, request_id, as_it_came=True)


class Passed(NamedTuple):
    """The reply that the client has got, and whether the engine has given all of it."""

    response: web.StreamResponse
    whole: bool


class Sent(NamedTuple):
    """A request that the engine has, and where its reply goes."""

    passage: _Passage
    exchange: Exchange


async def pass_on(runtime: Runtime, request: web.BaseRequest, forward: Forward) -> Passed:
    """The engine's answer to a request without a body, as it comes; its /metrics with our queue added to what waits in
    it, if anybody waits here.

    Raises:
        Refused: the engine can't be reached, is too slow, or breaks off before it has answered.
    """
    is_metrics = request.method == "GET" and forward.target.partition("?")[0] == "/metrics"
    if is_metrics and not forward.as_it_came:
        return Passed(await _metrics(runtime, forward.target), whole=True)
    return await reply_on(runtime, request, forward, await send_on(runtime, request, forward, None))


async def pass_body_on(
    runtime: Runtime,
    request: web.BaseRequest,
    forward: Forward,
    owner: str,
    receive: Callable[[Body], Awaitable[bytes | None]],
) -> web.StreamResponse:
    """The engine's answer to a request with a body, which is held only until the engine has it.

    Raises:
        Refused: what `receive` raises; or the engine can't be reached, is too slow, or breaks off.
    """
    with runtime.drain.passing():
        with runtime.room.take(owner) as held:
            sent = await send_on(runtime, request, forward, await receive(held))
        return (await reply_on(runtime, request, forward, sent)).response


async def send_on(runtime: Runtime, request: web.BaseRequest, forward: Forward, body: bytes | None) -> Sent:
    """Sends a request; nothing of its body is held any longer than that takes.

    Raises:
        Refused: the engine can't be reached.
    """
    head = engine_head(
        request.method,
        forward.target,
        runtime.upstream.authority,
        request.raw_headers,
        withheld=forward.withheld,
        request_id=forward.request_id,
        body_bytes=None if body is None else len(body),
        api_key=forward.api_key,
    )
    passage = _Passage()
    try:
        exchange = await runtime.upstream.send(
            head + (body or b""), passage, method=request.method, alone=forward.as_it_came
        )
    except EngineUnreachable:
        raise Refused(Outcome.ENGINE_UNAVAILABLE, "the engine refuses connections") from None
    return Sent(passage, exchange)


async def reply_on(runtime: Runtime, request: web.BaseRequest, forward: Forward, sent: Sent) -> Passed:
    """The engine's answer as it comes.

    Raises:
        Refused: the engine is too slow, or breaks off before it has answered.
    """
    passage, exchange = sent
    try:
        async with asyncio.timeout(None if forward.as_it_came else ANSWER_SECONDS):
            if not await passage.head:
                raise Refused(Outcome.ENGINE_ERROR, "the engine broke off before it answered")
        return await _reply(runtime, request, forward, sent)
    except ConnectionError:
        # The client went while we wrote. aiohttp finds the connection closed, too, and writes nothing.
        return Passed(web.Response(), whole=False)
    except TimeoutError:
        raise Refused(Outcome.ENGINE_ERROR, "the engine did not answer in time", status=504) from None
    finally:
        exchange.abort()


async def _reply(runtime: Runtime, request: web.BaseRequest, forward: Forward, sent: Sent) -> Passed:
    passage, exchange = sent
    headers = [*client_headers(passage.headers), (b"x-request-id", forward.request_id.encode())]
    lengths = values(passage.headers, b"content-length")
    length = int(lengths[0]) if lengths and lengths[0].isdigit() else None
    outflow = reply_to(runtime, request, passage.status, headers, body_bytes=length)
    outflow.source = exchange
    passage.flow_into(outflow)
    whole = await passage.end
    outflow.source = None
    if not whole:
        # Only a broken connection can tell the client that it is not whole.
        outflow.cut()
    return Passed(await written(request, outflow, passage.status), whole)


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
    dress(runtime, response)
    return response
