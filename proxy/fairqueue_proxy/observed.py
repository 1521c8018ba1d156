"""A request under a policy that only observes: it goes to the engine as it came, and nothing is refused but what can't
be held or relayed.

All that is altered is that the engine is asked for token counts, which the reply is relieved of again. What can't be
metered is passed on unread.
"""

from typing import Final

import msgspec
from aiohttp import web
from msgspec import Raw

from fairqueue_proxy.engines.fields import decode_object
from fairqueue_proxy.metered import MeteredRequest
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.passing import Sent, forward_as_it_came, pass_body_on, reply_on, send_on
from fairqueue_proxy.receiving import Body, receive_body
from fairqueue_proxy.runtime import InForce, Runtime

ASKING_FIELDS: Final = ("parameters", "response_fields", "stream_options", "timings_per_token")
"""By which engines are asked for token counts."""

_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_fields = msgspec.json.Decoder(dict[str, Raw])


class ObservedRequest(MeteredRequest):
    """Answers one metered request of a known tenant."""

    async def _serve(self) -> web.StreamResponse:
        runtime, job = self._runtime, self._job
        sent: Sent | None = None
        runtime.drain.note()
        with runtime.drain.passing():
            with runtime.room.take(job.tenant.name) as held:
                body = await receive_unread(self._in_force, self._request, held)
                try:
                    call = self._understand(body)
                except Refused as refused:
                    if not runtime.observes:
                        raise
                    job.would_refuse(refused.outcome)
                    sent = await send_on(runtime, self._request, self._forward, body)
                else:
                    call.body = asking(body, call.body)
                # A long reply must not keep it.
                del body
            if sent is None:
                return await self._relay(call)
            response, whole = await reply_on(runtime, self._request, self._forward, sent)
            job.status = response.status
            job.outcome = Outcome.COMPLETED if whole and response.status < 400 else Outcome.ENGINE_ERROR
            return response


async def pass_unread(
    runtime: Runtime, in_force: InForce, request: web.BaseRequest, identifier: str, refused: Refused | None = None
) -> web.StreamResponse:
    """A request as it came, and its reply. `refused` is what becomes of it if the policy does not only observe any more
    when it is all there.

    Raises:
        Refused: that; or it can't be held, or not be relayed.
    """

    async def receive(held: Body) -> bytes | None:
        body = None
        if request.body_exists or request.method not in _WITHOUT_BODY:
            body = await receive_unread(in_force, request, held)
        if refused is not None and not runtime.observes:
            raise refused
        return body

    runtime.drain.note()
    return await pass_body_on(runtime, request, forward_as_it_came(request, identifier), "", receive)


async def receive_unread(in_force: InForce, request: web.BaseRequest, held: Body) -> bytes:
    """A body that is not bounded by the queue.

    Raises:
        Refused: it can't be held.
    """
    return await receive_body(request, in_force.document.queue.max_body_bytes, held.count, whose=held, read=False)


def asking(body: bytes, adapted: bytes) -> bytes:
    """The client's body, with what asks for token counts as it is in the one that the engine's adapter has made."""
    if adapted == body:
        # It may be no JSON.
        return body
    fields, wanted = _fields.decode(body), _fields.decode(adapted)
    asked = {name: wanted[name] for name in ASKING_FIELDS if name in wanted}
    if all(name in fields and _same(fields[name], raw) for name, raw in asked.items()):
        return body
    return msgspec.json.encode(fields | asked)


def _same(one: Raw, other: Raw) -> bool:
    """Of objects each value is looked at by its bytes, whatever is in it."""
    ones, others = decode_object(one), decode_object(other)
    if ones is None or others is None:
        return bytes(one) == bytes(other)
    return {name: bytes(raw) for name, raw in ones.items()} == {name: bytes(raw) for name, raw in others.items()}
