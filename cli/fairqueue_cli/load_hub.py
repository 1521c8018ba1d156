"""Sends to TGI with huggingface_hub's `AsyncInferenceClient`, as its users do: streamed text generation with details.

Each request has a client of its own, which is closed after it: one for all would hold every reply until its own end.
Below them all are the same connections.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from huggingface_hub import AsyncInferenceClient, set_async_client_factory
from huggingface_hub.errors import HfHubHTTPError, TextGenerationError
from huggingface_hub.utils._http import default_async_client_factory

from fairqueue_cli.load_reply import Reply
from fairqueue_cli.load_sender import CONNECT_LIMIT_SECONDS, NONSENSE, Ask, Contact, OnToken, cause_of
from fairqueue_cli.load_spec import LoadPlan

_UNLIMITED = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
# Without a key the package would send the one that the user keeps for the hub.
_NO_KEY = {"authorization": None}
_KIND = {
    "GenerationError": "generation",
    "IncompleteGenerationError": "incomplete_generation",
    "OverloadedError": "overloaded",
    "ValidationError": "validation",
}


class HubSender:
    """The package's clients are made by a factory of its own, which is set while a run lasts."""

    def __init__(self, plan: LoadPlan, clock: Callable[[], float]) -> None:
        self.contact = Contact()
        self._target = plan.target.rstrip("/")
        self._clock = clock

    async def send(self, ask: Ask, reply: Reply, on_token: OnToken) -> None:
        headers: Any = {} if ask.key else _NO_KEY
        try:
            async with AsyncInferenceClient(self._target, token=ask.key, headers=headers) as client:
                stream = await client.text_generation(
                    ask.prompt, max_new_tokens=ask.max_tokens, stream=True, details=True
                )
                self.contact.answered = True
                await self._read(stream, reply, on_token)
        except HfHubHTTPError as error:
            self._refuse(reply, error)
        except TextGenerationError as error:
            if isinstance(error.__cause__, HfHubHTTPError):
                self._refuse(reply, error.__cause__)
            else:
                reply.end_stream(whole=False, error=_KIND.get(type(error).__name__, "error"))
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            self.contact.no_connection(reply, cause_of(error))
        except httpx2.HTTPError:
            reply.break_off()
        except NONSENSE:
            reply.end_stream(whole=False, error="unreadable event")

    async def _read(self, stream: Any, reply: Reply, on_token: OnToken) -> None:
        whole = False
        async for event in stream:
            if event.token is not None:
                reply.count_token(self._clock())
            whole = whole or event.generated_text is not None
            if (details := event.details) is not None:
                reply.settle(details.generated_tokens, details.input_length)
            on_token(reply)
        reply.end_stream(whole=whole)

    def _refuse(self, reply: Reply, error: HfHubHTTPError) -> None:
        self.contact.answered = True
        response = error.response
        try:
            body = response.json()
        except ValueError:
            body = None
        reply.refuse(response.status_code, response.headers.get("Retry-After"), body)


class _Shared(httpx2.AsyncBaseTransport):
    """Connections that outlive each client that uses them. The package knows one time-out for all that a request does,
    and none is what a reply needs."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.extensions["timeout"] = {"connect": CONNECT_LIMIT_SECONDS}
        return await self._transport.handle_async_request(request)


@asynccontextmanager
async def open_hub(plan: LoadPlan, clock: Callable[[], float]) -> AsyncIterator[HubSender]:
    """Neither connections nor the time of a reply are limited, as the former are by the package's default."""
    try:
        _send_through(httpx2.MockTransport(_rehearsed))
        await HubSender(plan, clock).send(Ask("Hello", 1), Reply(0.0, 0.0), lambda _: None)
        async with httpx2.AsyncHTTPTransport(limits=_UNLIMITED, trust_env=False) as transport:
            _send_through(transport)
            yield HubSender(plan, clock)
    finally:
        set_async_client_factory(default_async_client_factory)


def _send_through(transport: httpx2.AsyncBaseTransport) -> None:
    def make() -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=_Shared(transport),
            timeout=None,
            trust_env=False,
            follow_redirects=True,
            event_hooks={"response": [_read_errors]},
        )

    set_async_client_factory(make)


def _rehearsed(_request: httpx2.Request) -> httpx2.Response:
    """Answers a first request that goes to nobody: the package puts off work until then that takes its time, in which
    others would be late."""
    token = b'"index": 1, "token": {"id": 1, "text": "Hello", "logprob": 0, "special": false}'
    details = b'"details": {"finish_reason": "length", "generated_tokens": 1, "input_length": 1}'
    return httpx2.Response(200, content=b'data: {%b, "generated_text": "Hello", %b}\n\n' % (token, details))


async def _read_errors(response: httpx2.Response) -> None:
    """As the package's own clients do, so that it finds what an error says."""
    if response.status_code >= 400:
        await response.aread()
