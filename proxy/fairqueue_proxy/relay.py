"""One request's passage through the engine: from the bytes of its reply to the client's socket and the tenant's bill.

Everything here runs synchronously in the engine connection's `data_received`: no task wakes for an event. The
handler only waits for two things: `decided` (what to promise the client) and `end`.

The first event is looked at before a status is promised, because engines refuse streams with `200` and an error
event. The slot is settled exactly once, in `_settle`, when the engine is done with the request: at its last byte,
when its connection breaks, or when we close it because the client has gone. An engine that goes on with a plain
reply for a client that left is read to its end for nobody, so that slot and charge are what really happened.
"""

import asyncio
import enum
from collections.abc import Callable

from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.engines import Call, Engine
from fairqueue_proxy.engines.shapes import error_event
from fairqueue_proxy.job import Job
from fairqueue_proxy.metering import ErrorKind, EventSplitter, OpaquePiece
from fairqueue_proxy.metering.sse import data_span
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.outflow import Outflow
from fairqueue_proxy.shadow import Shadow
from fairqueue_proxy.stream_pace import StreamPace
from fairqueue_proxy.upstream import Exchange

PLAIN_LIMIT_BYTES = 4 * 1024 * 1024
"""A plain reply is read whole, to be metered, up to this; a longer one is passed on as it comes."""

TAIL_BYTES = 64 * 1024
"""Of a reply that is passed on as it comes, so much of its end is looked at: there engines put their counts."""

_MEDIA = ("audio/", "video/", "image/", "application/octet-stream", "application/x-ndjson")

MOST_REFUSALS = 10
MOST_REFUSALS_ALONE = 3
"""So often an engine may refuse a request for want of room before its refusal is believed; fewer times when nothing
else of ours is in the engine."""


class Verdict(enum.Enum):
    """What the beginning of the engine's reply means for the client."""

    RELAY = "relay"
    OVERLOADED = "overloaded"
    UNREACHABLE = "unreachable"
    LOST = "lost"
    CUT_OFF = "cut off"


def _drop(_data: bytes) -> None:
    """Nobody reads it."""


class Relay:
    """The sink of one engine exchange (see `upstream.ReplySink`)."""

    def __init__(
        self,
        job: Job,
        call: Call,
        engine: Engine,
        desk: Dispatcher | Shadow,
        stream_pace: StreamPace,
        clock: Callable[[], float],
    ) -> None:
        self._job = job
        self._call = call
        self._engine = engine
        self._desk = desk
        self._stream_pace = stream_pace
        self._clock = clock
        self._meter = call.meter()
        self._splitter = EventSplitter()
        self._body = bytearray()
        self._pending = bytearray()
        # Where what comes goes: it is kept, or written to the client, or nobody wants it.
        self._send: Callable[[bytes], object] = self._pending.extend
        self._outflow: Outflow | None = None
        self._client_left = False
        self.exchange: Exchange | None = None
        self.settled = False
        # The engine did not take the request: it goes back to the head of its queue.
        self.overloaded = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.streamed = False
        self.passing_plain = False
        self.on_settled: Callable[[], None] = lambda: None
        loop = asyncio.get_running_loop()
        self.decided: asyncio.Future[Verdict] = loop.create_future()
        self._finished: asyncio.Future[None] | None = None

    @property
    def whole_bytes(self) -> int | None:
        """Size of a plain reply that is there as a whole; None of one that is still coming."""
        return None if self.streamed or self.passing_plain else len(self._pending)

    def reply_head(self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """The engine's status line and headers."""
        self.status = status
        self.headers = headers
        lower = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
        self.streamed = lower.get("content-type", "").lower().startswith("text/event-stream")
        self._desk.replying(self._job)
        self._meter.head(status, lower)
        if status < 400 and lower.get("content-type", "").lower().startswith(_MEDIA):
            # Sound and the like may be made as it is heard.
            self.passing_plain = True
            self._decide(Verdict.RELAY)

    def reply_data(self, data: bytes) -> None:
        """Bytes of the reply's body."""
        if self.overloaded:
            return
        if self.streamed:
            splitter = self._splitter
            whole = splitter.is_whole(data)
            self._send(self._event(data) if whole else b"".join(map(self._event, splitter.feed(data))))
        elif self.passing_plain:
            self._body = (self._body + data)[-TAIL_BYTES:]
            self._send(data)
        else:
            self._body += data
            if len(self._body) > PLAIN_LIMIT_BYTES:
                self.passing_plain = True
                self._send(bytes(self._body))
                del self._body[:-TAIL_BYTES]
                self._decide(Verdict.RELAY)

    def reply_end(self) -> None:
        """The engine's last byte."""
        if self.overloaded:
            return
        if self.streamed:
            if rest := self._splitter.flush():
                self._send(self._event(rest))
            self._send(self._meter.rest())
        elif self.passing_plain:
            self._meter.tail(bytes(self._body))
            if not self._meter.usage.final:
                self._charge_by_time()
        else:
            self._send(self._meter.body(bytes(self._body)))
        self._body.clear()
        error = self._meter.usage.error
        if self._engine_is_full():
            return
        if self.status < 400 and error is None:
            self._first_token(whole=True)
        self._settle(Outcome.COMPLETED if error is None else Outcome.ENGINE_ERROR)
        self._decide(Verdict.RELAY)

    def reply_lost(self, reason: str) -> None:
        """The engine's connection broke before its reply was complete."""
        if self.overloaded:
            return
        if self.exchange is not None and self.exchange.unsent and self._decide(Verdict.UNREACHABLE):
            self.overloaded = True
            return
        self._charge_cut_reply()
        self._settle(Outcome.ENGINE_ERROR, complete=False)
        if self._decide(Verdict.LOST):
            return
        self._break_off(status=502, code="generation", message=f"engine failed: {reason}")

    def cut_off(self, refused: Refused) -> None:
        """The proxy goes away: the engine is left, and the client told as well as can be."""
        if self.settled:
            return
        if self.exchange is not None:
            self.exchange.abort()
        self._charge_cut_reply()
        self._job.outcome = self._job.outcome or refused.outcome
        self._settle(refused.outcome, complete=False)
        if not self._decide(Verdict.CUT_OFF):
            self._break_off(status=refused.status, code=refused.outcome.value, message=refused.message)

    def _break_off(self, *, status: int, code: str, message: str) -> None:
        """Ends a reply that the client has already seen the beginning of."""
        if self.streamed:
            # What has come of the event that was cut would garble ours; of a very long one a part is out already.
            cut = b"\n\n" if isinstance(self._splitter.flush(), OpaquePiece) else b""
            self._send(
                self._meter.rest() + cut + error_event(self._call.api, status=status, code=code, message=message)
            )
        elif self._outflow is not None:
            # Bytes of a plain reply are out: only a broken connection can tell the client that it is not whole.
            self._outflow.cut()

    def attach(self, outflow: Outflow) -> None:
        """What has come so far goes to the client, with the head, and from now on all that comes."""
        outflow.open(self._flow_into(outflow))

    def attach_late(self, outflow: Outflow, prelude: bytes, as_event: Callable[[int, bytes], bytes]) -> None:
        """The same into a stream that has begun already. `as_event` makes an event of a plain reply, for a client that
        has been promised a stream."""
        pending = self._flow_into(outflow)
        outflow.write(prelude + (pending if self.streamed else as_event(self.status, pending)))

    def _flow_into(self, outflow: Outflow) -> bytes:
        """From now on all goes there; returns what has come so far."""
        self._outflow, self._send = outflow, outflow.write
        # A reply that has ended has no source any more.
        outflow.source = self.exchange
        pending, self._pending = bytes(self._pending), bytearray()
        return pending

    async def end(self) -> None:
        """Returns when the engine is done with the request."""
        if not self.settled:
            self._finished = asyncio.get_running_loop().create_future()
            await self._finished

    def put_back(self) -> None:
        """The engine did not take the job: it goes back to the head of its queue, and this exchange is over."""
        if self.exchange is not None:
            self.exchange.abort()
            self.exchange = None
        self.settled = True
        self._desk.put_back(self._job)

    def client_gone(self) -> None:
        """Nobody reads the reply any more."""
        self._client_left, self._send = True, _drop
        if self.settled:
            return
        if self.streamed or self._call.stream or self._engine.cancels_plain or self.overloaded:
            if self.exchange is not None:
                self.exchange.abort()
            self._settle(Outcome.CLIENT_GONE, complete=False)
        elif self._outflow is not None:
            self._outflow.release()

    def _event(self, event: bytes) -> bytes:
        meter, job = self._meter, self._job
        out, usage = meter.event(event), meter.usage
        if usage.error is not None and self._engine_is_full():
            return b""
        if usage.output_tokens or usage.prompt_tokens is not None:
            self._desk.charge(job, usage)
        if job.first_token_at is None and usage.error is None and meter.is_first_token():
            self._desk.confirm(job)
            self._first_token()
        if not self.decided.done() and data_span(event) is not None:
            self._decide(Verdict.RELAY)
        return out

    def _engine_is_full(self) -> bool:
        """The engine has refused the request for want of room, and the client has been promised nothing yet."""
        usage = self._meter.usage
        job = self._job
        if (
            usage.error is None
            or usage.error.kind is not ErrorKind.OVERLOADED
            or job.observed
            or job.scheduled.confirmed
        ):
            return False
        alone = self._desk.in_flight <= job.scheduled.sequences
        if job.refusals_by_engine >= (MOST_REFUSALS_ALONE if alone else MOST_REFUSALS):
            # It is the request that the engine has no room for, not the hour.
            return False
        self.overloaded = self._decide(Verdict.OVERLOADED) or self.overloaded
        return self.overloaded

    def _first_token(self, *, whole: bool = False) -> None:
        if self._job.first_token_at is None:
            self._job.first_token_at = self._clock()
            self._desk.first_token(self._job, whole=whole)

    def _decide(self, verdict: Verdict) -> bool:
        """Settles what the client is promised; False if that was done before, or nobody wants to know."""
        if self.decided.done() or self._client_left:
            return False
        self.decided.set_result(verdict)
        return True

    def _charge_cut_reply(self) -> None:
        """What a plain reply that was cut short has cost; of a stream all is known that came."""
        if not self.streamed and not self._call.stream and not self._meter.usage.final:
            self._charge_by_time()

    def _charge_by_time(self) -> None:
        """What can't be counted: as long as a stream would have become in that time."""
        usage, request = self._meter.usage, self._job.scheduled
        if self._job.sent_at is None:
            return
        elapsed = self._clock() - self._job.sent_at
        tokens = int(elapsed * self._stream_pace.tokens_per_second) * request.sequences
        usage.output_tokens = max(usage.output_tokens, min(tokens, request.max_output_tokens))

    def _worked_on(self) -> bool:
        """Whether the engine has done something for it: so the scheduler knows of what it has in flight."""
        usage = self._meter.usage
        return self._job.scheduled.confirmed or usage.prompt_tokens is not None or usage.output_tokens > 0

    def _settle(self, outcome: Outcome, *, complete: bool = True) -> None:
        if self.settled:
            return
        self.settled = True
        job, usage = self._job, self._meter.usage
        if self._client_left:
            outcome, complete = Outcome.CLIENT_GONE, False
        error = usage.error
        if error is not None and error.kind is ErrorKind.FAILED:
            self._charge_cut_reply()
        if error is not None and error.kind is not ErrorKind.FAILED and not self._worked_on():
            # Nothing was done for it.
            self._desk.drop(job)
        else:
            if error is None and outcome is Outcome.COMPLETED and job.first_token_at is not None:
                self._stream_pace.learn(
                    usage.output_tokens // job.scheduled.sequences, self._clock() - (job.sent_at or 0.0)
                )
            self._desk.settle(job, usage, complete=complete and error is None)
        if job.outcome is None:
            job.outcome = outcome
        # They point at each other, and at the request: kept apart, nothing is left for the garbage collector.
        self.exchange = None
        if self._outflow is not None:
            self._outflow.source = None
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(None)
        self.on_settled()
