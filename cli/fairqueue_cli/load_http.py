"""Sends requests by plain HTTP and reads only what is counted: a tenth of the CPU that the clients' libraries take.

A request that meets a kept-alive connection which the server had just closed is sent again on another one, as ordinary
HTTP clients do; nothing else is repeated.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec

from fairqueue_cli.load_reply import Reply
from fairqueue_cli.load_sender import CONNECT_LIMIT_SECONDS, Ask, Contact, OnToken, cause_of
from fairqueue_cli.load_spec import LoadPlan
from fairqueue_cli.load_stream import StreamMeter


class HttpSender:
    """On one aiohttp session."""

    def __init__(self, session: aiohttp.ClientSession, plan: LoadPlan, clock: Callable[[], float]) -> None:
        self.contact = Contact()
        self._session = session
        self._plan = plan
        self._clock = clock

    async def send(self, ask: Ask, reply: Reply, on_token: OnToken) -> None:
        headers = {"Authorization": f"Bearer {ask.key}"} if ask.key else {}
        body = self._body(ask)
        trace = SimpleNamespace(reused=True)
        try:
            while not await self._try(headers, body, reply, on_token, trace):
                trace = SimpleNamespace(reused=True)
        except aiohttp.ClientConnectorError as error:
            self.contact.no_connection(reply, cause_of(error.os_error))
        except (aiohttp.ClientError, OSError):
            reply.break_off()

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
            self.contact.answered = True
            if response.status >= 400:
                reply.refuse(response.status, response.headers.get("Retry-After"), _decoded(await response.read()))
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
        if ask.user is not None:
            body["user"] = ask.user
        if self._plan.ignore_eos:
            body["ignore_eos"] = True
        return body


@asynccontextmanager
async def open_http(plan: LoadPlan, clock: Callable[[], float]) -> AsyncIterator[HttpSender]:
    """Neither connections nor the time of a reply are limited."""
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(_note_new_connection)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_SECONDS),
        trace_configs=[trace],
    ) as session:
        yield HttpSender(session, plan, clock)


async def _note_new_connection(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceConnectionCreateEndParams
) -> None:
    context.trace_request_ctx.reused = False


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
