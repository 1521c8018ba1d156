"""Sends one streamed request at a time and reads its reply: the HTTP side of the load generator.

One `LoadClient` serves all workers of a run. A request that meets a kept-alive connection which the server had just
closed is sent again on another one, as ordinary HTTP clients do; nothing else is repeated.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import aiohttp

from fairqueue_cli.load_spec import LoadPlan
from fairqueue_cli.load_stream import Outcome, Reply, StreamMeter

# Statuses by which an engine or a gateway says that it is broken, not that it refuses.
_FAILURE_STATUSES = frozenset({500, 502})
CONNECTION_REFUSED = "connection refused"
_CONNECT_LIMIT_SECONDS = 10.0

OnToken = Callable[[Reply], None]


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request asks for, and with whose key."""

    prompt: str
    max_tokens: int
    key: str | None = field(default=None, repr=False)


class LoadClient:
    """`answered` is true once anything at all came back from the target."""

    def __init__(self, session: aiohttp.ClientSession, plan: LoadPlan, clock: Callable[[], float]) -> None:
        self._session = session
        self._plan = plan
        self._clock = clock
        self.answered = False
        self.unreachable = ""

    async def send(self, ask: Ask, reply: Reply, on_token: OnToken) -> None:
        """Fills `reply`. A cancelled call leaves it `UNFINISHED` with what had come until then."""
        headers = {"Authorization": f"Bearer {ask.key}"} if ask.key else {}
        body = self._body(ask)
        trace = SimpleNamespace(reused=True)
        try:
            while not await self._try(headers, body, reply, on_token, trace):
                trace = SimpleNamespace(reused=True)
        except aiohttp.ClientConnectorError as error:
            cause = _cause(error)
            reply.end(Outcome.FAILED, cause)
            if not self.answered:
                self.unreachable = cause
        except (aiohttp.ClientError, OSError):
            reply.end(Outcome.FAILED, "connection lost" if reply.first_token_at is None else "stream broke off")

    async def _try(
        self, headers: dict[str, str], body: object, reply: Reply, on_token: OnToken, trace: SimpleNamespace
    ) -> bool:
        """False if the connection was a stale one, so that the request has to be sent again."""
        request = self._session.post(self._plan.url, json=body, headers=headers, trace_request_ctx=trace)
        try:
            response = await request
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if trace.reused:
                return False
            raise
        async with response:
            self.answered = True
            if response.status >= 400:
                failed = response.status in _FAILURE_STATUSES
                reply.end(Outcome.FAILED if failed else Outcome.REFUSED, str(response.status))
                reply.retry_after_seconds = _seconds(response.headers.get("Retry-After"))
                await response.read()
            else:
                await self._read(response, reply, on_token)
        return True

    async def _read(self, response: aiohttp.ClientResponse, reply: Reply, on_token: OnToken) -> None:
        meter = StreamMeter(self._plan.api, reply)
        async for data in response.content.iter_any():
            before = reply.output_tokens
            meter.feed(data, self._clock())
            if reply.output_tokens != before:
                on_token(reply)
        meter.close()

    def _body(self, ask: Ask) -> dict[str, object]:
        if self._plan.api == "tgi":
            return {"inputs": ask.prompt, "parameters": {"max_new_tokens": ask.max_tokens, "details": True}}
        body: dict[str, object] = {
            "messages": [{"role": "user", "content": ask.prompt}],
            "max_tokens": ask.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self._plan.model is not None:
            body["model"] = self._plan.model
        return body


@asynccontextmanager
async def open_client(plan: LoadPlan, clock: Callable[[], float]) -> AsyncIterator[LoadClient]:
    """No limit on connections and none on a reply's length: a closed loop must never wait in its own client."""
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(_note_new_connection)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_LIMIT_SECONDS),
        trace_configs=[trace],
    ) as session:
        yield LoadClient(session, plan, clock)


async def _note_new_connection(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceConnectionCreateEndParams
) -> None:
    context.trace_request_ctx.reused = False


def _cause(error: aiohttp.ClientConnectorError) -> str:
    inner = error.os_error
    if isinstance(inner, ConnectionRefusedError):
        return CONNECTION_REFUSED
    return (inner.strerror or str(inner) or type(inner).__name__).lower()


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is taken as absent."""
    return float(header) if header is not None and header.isascii() and header.isdigit() else None
