"""Sends chats with the package `openai`, as its users do: streamed, with the usage at the end, without retries."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai

from fairqueue_cli.load_reply import Reply, name_of, reason_in
from fairqueue_cli.load_sender import CONNECT_LIMIT_SECONDS, NONSENSE, Ask, Contact, OnToken, cause_of
from fairqueue_cli.load_spec import LoadPlan

_UNLIMITED = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
_TIMEOUT = httpx2.Timeout(None, connect=CONNECT_LIMIT_SECONDS)
# The package insists on a key, even where each request says whose it is, if anybody's.
_NO_KEY = "none"


class OpenAISender:
    """On one client of the package; each request has the key of its own tenant."""

    def __init__(self, client: openai.AsyncOpenAI, plan: LoadPlan, clock: Callable[[], float]) -> None:
        self.contact = Contact()
        self._client = client
        self._plan = plan
        self._clock = clock

    async def send(self, ask: Ask, reply: Reply, on_token: OnToken) -> None:
        try:
            stream = await self._client.chat.completions.create(**self._request(ask))
            self.contact.answered = True
            async with stream:
                await self._read(stream, reply, on_token)
        except openai.APIStatusError as error:
            self.contact.answered = True
            reply.refuse(error.status_code, error.response.headers.get("Retry-After"), error.body)
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout):
                self.contact.no_connection(reply, cause_of(error))
            else:
                reply.break_off()
        except openai.APIError as error:
            reply.end_stream(whole=False, error=name_of(error.body))
            reply.reason = reason_in(error.body)
        except httpx2.TransportError:
            reply.break_off()
        except NONSENSE:
            reply.end_stream(whole=False, error="unreadable event")

    async def _read(self, stream: Any, reply: Reply, on_token: OnToken) -> None:
        whole = False
        async for chunk in stream:
            for choice in chunk.choices or ():
                delta = choice.delta
                if delta and (delta.content or getattr(delta, "reasoning_content", None) or delta.tool_calls):
                    reply.count_token(self._clock())
                    on_token(reply)
                whole = whole or choice.finish_reason is not None
            if chunk.usage is not None:
                reply.settle(chunk.usage.completion_tokens, chunk.usage.prompt_tokens)
                on_token(reply)
        reply.end_stream(whole=whole)

    def _request(self, ask: Ask) -> dict[str, Any]:
        return {
            "model": self._plan.model or openai.omit,
            "messages": [{"role": "user", "content": ask.prompt}],
            "max_tokens": ask.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "user": ask.user or openai.omit,
            "extra_headers": {"Authorization": f"Bearer {ask.key}" if ask.key else openai.omit},
            "extra_body": {"ignore_eos": True} if self._plan.ignore_eos else None,
        }


@asynccontextmanager
async def open_openai(plan: LoadPlan, clock: Callable[[], float]) -> AsyncIterator[OpenAISender]:
    """Neither connections nor the time of a reply are limited, as they are by the package's defaults."""
    async with _client(plan, httpx2.MockTransport(_rehearsed)) as client:
        await OpenAISender(client, plan, clock).send(Ask("Hello", 1), Reply(0.0, 0.0), lambda _: None)
    async with _client(plan, httpx2.AsyncHTTPTransport(limits=_UNLIMITED, trust_env=False)) as client:
        yield OpenAISender(client, plan, clock)


def _client(plan: LoadPlan, transport: httpx2.AsyncBaseTransport) -> openai.AsyncOpenAI:
    http = openai.DefaultAsyncHttpxClient(transport=transport, timeout=_TIMEOUT, trust_env=False)
    base = plan.url.removesuffix("/chat/completions")
    return openai.AsyncOpenAI(base_url=base, api_key=_NO_KEY, max_retries=0, timeout=_TIMEOUT, http_client=http)


def _rehearsed(_request: httpx2.Request) -> httpx2.Response:
    """Answers a first request that goes to nobody: the package puts off work until then that takes a tenth of a second,
    in which others would be late."""
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "length"}]}\n\n'
    return httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=event)
