"""One metered request, from the first byte of its body to its outcome.

The order of things: body, size, queue, engine, reply. A job is accounted for in exactly one place at any time
(receiving, queued, in flight, settled), and `answer` lets go of it on every path.
"""

import asyncio

import msgspec
from aiohttp import web

from fairqueue_proxy.client_reply import Written, reply_to, written
from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.engines import Api, BadBody, Call, Route, error_event
from fairqueue_proxy.heads import client_headers, engine_head
from fairqueue_proxy.job import Job
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.outflow import Outflow
from fairqueue_proxy.passing import Forward
from fairqueue_proxy.receiving import receive_body
from fairqueue_proxy.refusals import names_of, own_headers, refusal
from fairqueue_proxy.relay import Relay, Verdict
from fairqueue_proxy.request_log import log_request
from fairqueue_proxy.runtime import InForce, Runtime
from fairqueue_proxy.scheduler import Request, State
from fairqueue_proxy.shadow import Shadow
from fairqueue_proxy.sizing import longest_output
from fairqueue_proxy.upstream import EngineUnreachable
from fairqueue_proxy.waiting import HEADERS, Waiting

EARLY_STATUS = 200


class MeteredRequest:
    """Answers one request; made for it, and used once."""

    def __init__(
        self,
        runtime: Runtime,
        in_force: InForce,
        request: web.BaseRequest,
        *,
        route: Route,
        forward: Forward,
        job: Job,
    ) -> None:
        self._runtime = runtime
        self._in_force = in_force
        self._request = request
        self._route = route
        self._forward = forward
        self._job = job
        self._waiting: Waiting | None = None

    async def answer(self) -> web.StreamResponse:
        """The reply, sent or to be sent; cancelled when the client hangs up."""
        job, recording = self._job, self._runtime.recording
        if recording is not None:
            recording.begin(job)
        try:
            return await self._serve()
        except Refused as refused:
            job.outcome = job.outcome or refused.outcome
            return await self._refuse(refused)
        except asyncio.CancelledError:
            job.outcome = job.outcome or Outcome.CLIENT_GONE
            raise
        except ConnectionError:
            # The client went while we wrote. aiohttp finds the connection closed, too, and writes nothing.
            job.outcome = job.outcome or Outcome.CLIENT_GONE
            return web.Response()
        finally:
            self._let_go()

    async def _serve(self) -> web.StreamResponse:
        runtime = self._runtime
        runtime.drain.take()
        if runtime.watch.unavailable:
            raise Refused(Outcome.ENGINE_UNAVAILABLE, "the engine refuses connections: try again later")
        return await self._relay(self._understand(await self._receive()))

    def _understand(self, body: bytes) -> Call:
        job = self._job
        call = self._parse(body)
        if self._runtime.tenants.by_name.get(job.tenant.name) is not job.tenant:
            raise Refused(Outcome.UNAUTHENTICATED, f"tenant {job.tenant.name} was removed while the body came")
        self._size(call)
        return call

    async def _relay(self, call: Call) -> web.StreamResponse:
        """Through the queue and the engine."""
        runtime, job = self._runtime, self._job
        if runtime.shadow.on:
            runtime.shadow.submit(job, len(call.body))
        else:
            self._submit(call)
        hold = self._in_force.document.queue.hold_headers_seconds if call.stream and not job.observed else None
        with Waiting(hold, self._begin_early) as self._waiting:
            relay: Relay | None = None
            while relay is None:
                if runtime.shadow.on:
                    # Also what the engine has given back since.
                    runtime.shadow.take_over(job)
                await self._admission()
                relay = await self._try_engine(call)
        # The engine has it: it can't have to be sent again.
        call.body = b""
        return await self._reply(relay)

    def _submit(self, call: Call) -> None:
        job, dispatcher = self._job, self._runtime.dispatcher
        job.observed = False
        if not job.body_bytes:
            # It began to come while nobody was to wait.
            dispatcher.receive(job, len(call.body))
        dispatcher.submit(job)

    async def _receive(self) -> bytes:
        job, dispatcher = self._job, self._runtime.dispatcher
        return await receive_body(
            self._request,
            self._in_force.document.queue.max_body_bytes,
            lambda size_bytes: dispatcher.receive(job, size_bytes),
            whose=job,
        )

    def _parse(self, body: bytes) -> Call:
        try:
            call = self._in_force.engine.parse(self._route, body)
        except BadBody as error:
            raise Refused(Outcome.BAD_REQUEST, str(error)) from None
        if call.api is not self._route.api:
            self._route = Route(self._route.access, call.api)
        return call

    def _size(self, call: Call) -> None:
        """What the scheduler needs to know of the request."""
        dispatcher, job = self._runtime.dispatcher, self._job
        job.call = call
        context, most = dispatcher.capacity.context_tokens, dispatcher.capacity.most_sequences
        # The engine refuses more: room for all of them need not be waited for.
        sequences = call.sequences if most is None or call.sequences <= most else 1
        prompt = call.prompt_tokens
        if prompt is not None and context is not None and prompt // sequences > context:
            raise Refused(
                Outcome.TOO_LARGE, f"the prompt has more tokens than the {context} the engine holds", status=422
            )
        if prompt is None:
            prompt = dispatcher.sizes.estimate(call.api, call.prompt_bytes, call.media_parts, model=call.model)
        job.request = Request(
            job.tenant.leaf(dispatcher.scheduler, job.identity or call.user),
            prompt_tokens=prompt,
            prompt_exact=call.prompt_tokens is not None,
            max_output_tokens=longest_output(context, prompt // sequences, call.max_tokens) * sequences,
            sequences=sequences,
            streamed=call.stream,
        )

    async def _admission(self) -> None:
        """Waits until the job is dispatched, or sent without that."""
        runtime, job = self._runtime, self._job
        request = job.scheduled
        if request.state is not State.QUEUED or job.observed:
            return
        timeout = self._in_force.document.queue.timeout_seconds
        waited = runtime.clock() - (job.queued_at or 0.0)
        job.admitted = admitted = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(max(timeout - waited, 0)):
                await admitted
        except TimeoutError:
            # At the same moment it may have been refused, or let in.
            if job.refused is not None:
                raise job.refused from None
            if request.state is State.QUEUED:
                raise Refused(Outcome.QUEUE_TIMEOUT, f"waited longer than {timeout:g} s for the engine") from None
        finally:
            admitted.cancel()
            job.admitted = None

    async def _try_engine(self, call: Call) -> Relay | None:
        """Sends the job to the engine. None: the engine did not take it, it is queued again."""
        runtime, job = self._runtime, self._job
        relay = Relay(job, call, self._in_force.engine, self._desk, runtime.stream_pace, runtime.clock)
        head = engine_head(
            self._request.method,
            self._forward.target,
            runtime.upstream.authority,
            self._request.raw_headers,
            withheld=self._forward.withheld,
            request_id=self._engines_request_id(),
            body_bytes=len(call.body),
            # The engine's present one, whichever was in force when the request came.
            api_key=None if self._forward.as_it_came else runtime.engine_key,
        )
        try:
            relay.exchange = await runtime.upstream.send(
                head + call.body, relay, method=self._request.method, alone=job.observed
            )
        except EngineUnreachable:
            runtime.watch.unreachable()
            if job.observed:
                raise Refused(Outcome.ENGINE_UNAVAILABLE, "the engine refuses connections") from None
            runtime.dispatcher.put_back(job)
            return None
        job.engine_side = relay
        if job.observed:
            # It is not sent again.
            call.body = b""
        verdict = await relay.decided
        if verdict in (Verdict.OVERLOADED, Verdict.UNREACHABLE):
            job.engine_side = None
            job.refusals_by_engine += verdict is Verdict.OVERLOADED
            if verdict is Verdict.OVERLOADED:
                runtime.watch.overloaded()
                relay.put_back()
                runtime.dispatcher.engine_refused()
            else:
                runtime.watch.unreachable()
                relay.put_back()
            return None
        if verdict is Verdict.LOST:
            raise Refused(Outcome.ENGINE_ERROR, "the engine broke the connection before it answered")
        if verdict is Verdict.CUT_OFF:
            raise Refused(Outcome.DRAINING, "this replica is going away: try again")
        return relay

    @property
    def _desk(self) -> Dispatcher | Shadow:
        """Who is told of what becomes of the job."""
        return self._runtime.shadow if self._job.observed else self._runtime.dispatcher

    def _engines_request_id(self) -> str:
        job = self._job
        if self._forward.as_it_came or not self._in_force.engine.shares_request_ids:
            return job.request_id
        return f"{job.request_id}-{self._runtime.random.getrandbits(48):012x}"

    async def _reply(self, relay: Relay) -> Written:
        """The engine's reply, on its way to the client until its last byte."""
        job, request, outflow = self._job, self._request, self._begun
        if outflow is not None:
            told = b"".join([b": %b: %b\n" % field for field in own_headers(job)])
            relay.attach_late(outflow, told + b"\n", self._as_event)
        else:
            job.status = relay.status
            headers = [*client_headers(relay.headers), *own_headers(job)]
            outflow = reply_to(self._runtime, request, relay.status, headers, body_bytes=relay.whole_bytes)
            relay.attach(outflow)
        await relay.end()
        return await written(request, outflow, relay.status)

    def _as_event(self, status: int, body: bytes) -> bytes:
        """A plain reply (an error's, mostly) for a client that has been promised a stream."""
        # In JSON, line breaks are between values only; an event's data is one line.
        line = b"data: " + b" ".join(body.splitlines()) + b"\n\n"
        if status < 400:
            return line
        api = self._route.api
        try:
            # What the engine says is what the route's clients parse.
            msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except (ValueError, RecursionError):
            message = body.decode("utf-8", "replace")[:1000] or f"the engine answered {status}"
            return error_event(api, status=status, code="engine_error", message=message)
        return b"event: error\n" + line if api is Api.MESSAGES else line

    async def _refuse(self, refused: Refused) -> web.StreamResponse:
        job, outflow = self._job, self._begun
        if outflow is None:
            job.status = refused.status
            return refusal(self._runtime, refused, api=self._route.api, request_id=job.request_id, tenant=job.tenant)
        event = error_event(self._route.api, status=refused.status, code=refused.outcome.value, message=refused.message)
        outflow.write(event)
        return await written(self._request, outflow, EARLY_STATUS)

    @property
    def _begun(self) -> Outflow | None:
        """The reply, where it has begun before the engine answered."""
        return self._waiting.outflow if self._waiting is not None else None

    def _begin_early(self) -> Outflow:
        self._job.status = EARLY_STATUS
        return reply_to(self._runtime, self._request, EARLY_STATUS, [*HEADERS, *names_of(self._job)])

    def _let_go(self) -> None:
        """Whatever happened: the job is nowhere any more, or the engine finishes it for nobody."""
        job = self._job
        side = job.engine_side
        if side is None:
            if job.request is not None and job.request.state is State.IN_FLIGHT:
                self._desk.drop(job)
            else:
                self._desk.leave(job)
        elif not side.settled:
            side.client_gone()
            if not side.settled:
                side.on_settled = self._record
                return
        self._record()

    def _record(self) -> None:
        # What points back would keep all of the request until garbage is collected.
        self._job.engine_side = self._waiting = None
        record(self._job, self._runtime.clock())
        recording = self._runtime.recording
        if recording is not None:
            recording.end(self._job)
        usage_log = self._runtime.usage_log
        if usage_log is not None:
            usage_log.end(self._job, self._in_force.document)


def record(job: Job, now: float) -> None:
    """Counts and logs the request; once, when all is known."""
    tenant = job.tenant
    outcome = job.outcome = job.outcome or Outcome.ENGINE_ERROR
    tenant.outcomes[outcome] += 1
    tenant.request_seconds.observe(now - job.received_at)
    waited = job.dispatched_at is not None and outcome is not Outcome.ENGINE_UNAVAILABLE
    if waited and job.would_be in (None, Outcome.QUEUE_TIMEOUT):
        tenant.queue_seconds.observe(job.queue_seconds)
    if job.first_token_at is not None:
        tenant.first_token_seconds.observe(job.first_token_at - job.received_at)
    log_request(job, now)
