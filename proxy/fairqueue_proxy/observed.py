"""A request under a policy that only observes: it goes to the engine as it came, and nothing is refused but what can't
be held or relayed.

All that is altered is that the engine is asked for token counts, which the reply is relieved of again. What can't be
metered is passed on unread.
"""

from typing import Final

import msgspec
from aiohttp import web
from msgspec import Raw

from fairqueue_proxy.metered import MeteredRequest
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.passing import pass_on
from fairqueue_proxy.paths import as_sent
from fairqueue_proxy.receiving import receive_body
from fairqueue_proxy.runtime import InForce, Runtime

ASKING_FIELDS: Final = ("parameters", "response_fields", "stream_options", "timings_per_token")
"""By which engines are asked for token counts."""

_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_fields = msgspec.json.Decoder(dict[str, Raw])


class ObservedRequest(MeteredRequest):
    """Answers one metered request of a known tenant."""

    async def _serve(self) -> web.StreamResponse:
        job = self._job
        body = await self._receive()
        try:
            call = self._understand(body)
        except Refused as refused:
            job.would_refuse(refused.outcome)
            response = await pass_on(self._runtime, self._request, self._target, self._withheld, body, patient=True)
            job.status = response.status
            job.outcome = Outcome.COMPLETED if response.status < 400 else Outcome.ENGINE_ERROR
            return response
        call.body = asking(body, call.body)
        return await self._relay(call)

    async def _receive(self) -> bytes:
        return await receive_unread(self._runtime, self._in_force, self._request)


async def pass_unread(runtime: Runtime, in_force: InForce, request: web.BaseRequest) -> web.StreamResponse:
    """A request as it came, and its reply.

    Raises:
        Refused: it can't be held, or not be relayed.
    """
    body = None
    if request.body_exists or request.method not in _WITHOUT_BODY:
        body = await receive_unread(runtime, in_force, request)
    return await pass_on(runtime, request, as_sent(request.raw_path), frozenset(), body, patient=True)


async def receive_unread(runtime: Runtime, in_force: InForce, request: web.BaseRequest) -> bytes:
    """A body that is not bounded by the queue.

    Raises:
        Refused: it can't be held.
    """
    with runtime.room.take() as count:
        return await receive_body(request, in_force.document.queue.max_body_bytes, count, read=False)


def asking(body: bytes, adapted: bytes) -> bytes:
    """The client's body, with what asks for token counts as it is in the one that the engine's adapter has made."""
    if adapted == body:
        # It may be no JSON.
        return body
    fields, wanted = _fields.decode(body), _fields.decode(adapted)
    asked = {name: wanted[name] for name in ASKING_FIELDS if name in wanted}
    if all(name in fields and _plain(fields[name]) == _plain(raw) for name, raw in asked.items()):
        return body
    return msgspec.json.encode(fields | asked)


def _plain(raw: Raw) -> bytes:
    """The same value, however it was written."""
    try:
        return msgspec.json.encode(msgspec.json.decode(raw))
    except (ValueError, RecursionError):
        return bytes(raw)
