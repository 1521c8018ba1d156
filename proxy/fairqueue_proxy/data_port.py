"""The port that clients talk to: each request from its first byte to its outcome.

One task a request, made by aiohttp and cancelled by it as soon as the client hangs up (half-close too). The order of
things: route, identity, body, size, queue, engine, reply. A job is accounted for in exactly one place at any time
(receiving, queued, in flight, settled), and `_metered` lets go of it on every path.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.http_exceptions import LineTooLong

from fairqueue_api import Document
from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.drain import Drain
from fairqueue_proxy.engine_watch import EngineWatch
from fairqueue_proxy.engines import Access, Api, BadBody, Call, Engine, Route
from fairqueue_proxy.engines.shapes import refusal_body
from fairqueue_proxy.free_route import relay_free
from fairqueue_proxy.heads import client_headers, engine_head, identify, request_id, values
from fairqueue_proxy.job import Job
from fairqueue_proxy.outcome import NO_RETRY, RETRY_LATER, Outcome, Refused
from fairqueue_proxy.outflow import Outflows
from fairqueue_proxy.paths import encode, normalise
from fairqueue_proxy.relay import Relay, Verdict
from fairqueue_proxy.request_log import log_refusal, log_request
from fairqueue_proxy.scheduler import Request, State
from fairqueue_proxy.stream_pace import StreamPace
from fairqueue_proxy.tenants import Tenant, Tenants
from fairqueue_proxy.upstream import EngineUnreachable, Upstream

BODY_SECONDS = 60.0
LONGEST_OUTPUT_TOKENS = 1_000_000
UNKNOWN_CONTEXT_TOKENS = 4096


class DataPort:
    """Handles requests of the proxied port; `handle` is an aiohttp low-level handler."""

    def __init__(
        self,
        document: Document,
        engine: Engine,
        tenants: Tenants,
        dispatcher: Dispatcher,
        upstream: Upstream,
        watch: EngineWatch,
        drain: Drain,
        outflows: Outflows,
        *,
        clock: Callable[[], float],
        random_source: random.Random,
    ) -> None:
        self._document = document
        self._engine = engine
        self._tenants = tenants
        self._dispatcher = dispatcher
        self._upstream = upstream
        self._watch = watch
        self._drain = drain
        self._outflows = outflows
        self._clock = clock
        self._random = random_source
        self._stream_pace = StreamPace()
        self._key_headers = tuple(source.header for source in document.identity.sources)
        self._withheld = frozenset(name.encode() for name in (*engine.stripped_headers, *self._key_headers))
        self.without_tenant: Counter[Outcome] = Counter()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request."""
        raw_path, _, query = request.raw_path.partition("?")
        path = normalise(raw_path)
        route = self._engine.route(request.method, path) if path is not None else Route(Access.REFUSED, None)
        identifier = request_id(request.raw_headers, self._random)
        try:
            if path is None or route.access is Access.REFUSED or values(request.raw_headers, b"upgrade"):
                raise Refused(Outcome.FORBIDDEN_ROUTE, f"{request.method} on this path is not allowed")
            target = encode(path) + (f"?{query}" if query else "")
            if route.access is Access.FREE:
                return await relay_free(
                    request, target, self._upstream, self._withheld, self._engine.kind, self._dispatcher, self._outflows
                )
            tenant = identify(request.raw_headers, self._key_headers, self._tenants)
        except Refused as refused:
            self.without_tenant[refused.outcome] += 1
            log_refusal(identifier, f"{request.method} {path}", refused.outcome.value, refused.status)
            return self._refusal(refused, route.api, identifier, None)
        job = Job(identifier, tenant, self._clock(), f"{request.method} {path}")
        return await self._metered(request, route, target, job)

    def refuse_malformed(self, error: HttpProcessingError) -> web.StreamResponse:
        """Answers what can't be read as a request. Nothing of it is logged: there may be a key in it."""
        too_long = isinstance(error, LineTooLong) or "Too many headers" in error.message
        refused = Refused(
            Outcome.BAD_REQUEST,
            "the headers are too long or too many" if too_long else "this is no request of HTTP/1.1",
            status=431 if too_long else 400,
        )
        identifier = request_id((), self._random)
        self.without_tenant[refused.outcome] += 1
        log_refusal(identifier, "", refused.outcome.value, refused.status)
        return self._refusal(refused, None, identifier, None)

    async def _metered(self, request: web.BaseRequest, route: Route, target: str, job: Job) -> web.StreamResponse:
        try:
            self._drain.take()
            if self._watch.unavailable:
                raise Refused(Outcome.ENGINE_UNAVAILABLE, "the engine refuses connections: try again later")
            body = await self._receive(request, job)
            call = self._parse(route, body)
            self._size(job, call)
            self._dispatcher.submit(job)
            relay: Relay | None = None
            while relay is None:
                await self._admission(job)
                relay = await self._try_engine(request, target, job, call)
            return await self._reply(request, job, relay)
        except Refused as refused:
            job.outcome, job.status = refused.outcome, refused.status
            return self._refusal(refused, route.api, job.request_id, job.tenant)
        except asyncio.CancelledError:
            job.outcome = job.outcome or Outcome.CLIENT_GONE
            raise
        except ConnectionError:
            # The client went while we wrote. aiohttp finds the connection closed, too, and writes nothing.
            job.outcome = job.outcome or Outcome.CLIENT_GONE
            return web.Response()
        finally:
            self._let_go(job)

    async def _receive(self, request: web.BaseRequest, job: Job) -> bytes:
        """The whole body, bounded in size and time."""
        most = self._document.queue.max_body_bytes
        too_large = Refused(Outcome.TOO_LARGE, f"the body is larger than {most} bytes")
        if request.content_length is not None and request.content_length > most:
            raise too_large
        if values(request.raw_headers, b"content-encoding") not in ([], [b"identity"]):
            raise Refused(Outcome.BAD_REQUEST, "compressed bodies are not read: send plain JSON")
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        self._dispatcher.receive(job, 0)
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS) as job.receiving:
                while chunk := await request.content.readany():
                    self._dispatcher.receive(job, len(chunk))
                    body += chunk
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            if job.refused is not None:
                raise job.refused from None
            raise Refused(Outcome.BAD_REQUEST, "the body came too slowly", status=408) from None
        except web.RequestPayloadError as error:
            raise Refused(Outcome.BAD_REQUEST, f"the body is broken: {error}") from None
        finally:
            job.receiving = None
        return bytes(body)

    def _parse(self, route: Route, body: bytes) -> Call:
        try:
            return self._engine.parse(route, body)
        except BadBody as error:
            raise Refused(Outcome.BAD_REQUEST, str(error)) from None

    def _size(self, job: Job, call: Call) -> None:
        """What the scheduler needs to know of the request."""
        sequences, context = call.sequences, self._dispatcher.capacity.context_tokens
        prompt = call.prompt_tokens
        if prompt is not None and context is not None and prompt // sequences > context:
            raise Refused(
                Outcome.TOO_LARGE, f"the prompt has more tokens than the {context} the engine holds", status=422
            )
        if prompt is None:
            prompt = self._dispatcher.sizes.estimate(call.api, call.prompt_bytes, call.media_parts)
        room = context - prompt // sequences if context is not None else UNKNOWN_CONTEXT_TOKENS
        longest = call.max_tokens if call.max_tokens is not None else room
        if context is not None:
            longest = min(longest, max(room, 1))
        job.call = call
        job.request = Request(
            job.tenant.node,
            prompt_tokens=prompt,
            prompt_exact=call.prompt_tokens is not None,
            max_output_tokens=max(1, min(longest, LONGEST_OUTPUT_TOKENS)) * sequences,
            sequences=sequences,
        )

    async def _admission(self, job: Job) -> None:
        """Waits until the job is dispatched."""
        request = job.scheduled
        if request.state is not State.QUEUED:
            return
        timeout = self._document.queue.timeout_seconds
        waited = self._clock() - (job.queued_at or 0.0)
        job.admitted = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(max(timeout - waited, 0)):
                await job.admitted
        except TimeoutError:
            # At the same moment it may have been refused, or let in.
            if job.refused is not None:
                raise job.refused from None
            if request.state is State.QUEUED:
                raise Refused(Outcome.QUEUE_TIMEOUT, f"waited longer than {timeout:g} s for the engine") from None
        finally:
            job.admitted.cancel()
            job.admitted = None

    async def _try_engine(self, request: web.BaseRequest, target: str, job: Job, call: Call) -> Relay | None:
        """Sends the job to the engine. None: the engine did not take it, it is queued again."""
        relay = Relay(job, call, self._engine, self._dispatcher, self._outflows, self._stream_pace, self._clock)
        head = engine_head(
            request.method,
            target,
            self._upstream.authority,
            request.raw_headers,
            withheld=self._withheld,
            request_id=job.request_id,
            body_bytes=len(call.body),
        )
        try:
            relay.exchange = await self._upstream.send(head + call.body, relay, method=request.method)
        except EngineUnreachable:
            self._watch.unreachable()
            self._dispatcher.put_back(job)
            return None
        job.engine_side = relay
        verdict = await relay.decided
        if verdict is Verdict.OVERLOADED:
            job.engine_side = None
            self._watch.overloaded()
            relay.put_back()
            return None
        if verdict is Verdict.LOST:
            raise Refused(Outcome.ENGINE_ERROR, "the engine broke the connection before it answered")
        return relay

    async def _reply(self, request: web.BaseRequest, job: Job, relay: Relay) -> web.StreamResponse:
        """The engine's reply, on its way to the client until its last byte."""
        job.status = relay.status
        headers = [*client_headers(relay.headers), *self._own_headers(job)]
        response = web.StreamResponse(status=relay.status)
        self._dress(response, headers)
        if relay.whole_bytes is not None:
            response.content_length = relay.whole_bytes
        elif request.version >= (1, 1):
            response.enable_chunked_encoding()
        writer = await response.prepare(request)
        transport = request.transport
        if writer is None or transport is None:
            raise ConnectionResetError("the client has gone")
        relay.attach(writer, transport)
        await relay.finished
        await response.write_eof()
        return response

    def _let_go(self, job: Job) -> None:
        """Whatever happened: the job is nowhere any more, or the engine finishes it for nobody."""
        side = job.engine_side
        if side is None:
            if job.request is not None and job.request.state is State.IN_FLIGHT:
                self._dispatcher.drop(job)
            else:
                self._dispatcher.leave(job)
        elif not side.settled:
            side.client_gone()
            if not side.settled:
                side.on_settled = lambda: self._record(job)
                return
        self._record(job)

    def _record(self, job: Job) -> None:
        """Counts and logs the request; once, when all is known."""
        now = self._clock()
        tenant = job.tenant
        outcome = job.outcome = job.outcome or Outcome.ENGINE_ERROR
        tenant.outcomes[outcome] += 1
        tenant.request_seconds.observe(now - job.received_at)
        if job.dispatched_at is not None:
            tenant.queue_seconds.observe(job.queue_seconds)
        if job.first_token_at is not None:
            tenant.first_token_seconds.observe(job.first_token_at - job.received_at)
        log_request(job, now)

    def _refusal(self, refused: Refused, api: Api | None, identifier: str, tenant: Tenant | None) -> web.StreamResponse:
        content_type, body = refusal_body(
            api, status=refused.status, code=refused.outcome.value, message=refused.message
        )
        response = web.Response(status=refused.status, body=body, headers={"Content-Type": content_type})
        headers = [("Server", "fairqueue"), ("x-request-id", identifier)]
        if tenant is not None:
            headers.append(("x-fairqueue-tenant", tenant.name))
        if refused.outcome in RETRY_LATER:
            ours = tenant if refused.outcome is Outcome.TENANT_QUEUE_FULL else None
            seconds = 1 if refused.outcome is Outcome.DRAINING else self._dispatcher.retry_after_seconds(ours)
            headers.append(("Retry-After", str(seconds)))
        if refused.outcome in NO_RETRY:
            headers.append(("x-should-retry", "false"))
        if refused.outcome is Outcome.UNAUTHENTICATED:
            headers.append(("WWW-Authenticate", "Bearer"))
        self._dress(response, headers)
        if refused.status in (400, 408, 413, 431):
            # The rest of the body may still be on its way.
            response.force_close()
        return response

    def _dress(self, response: web.StreamResponse, headers: list[tuple[str, str]]) -> None:
        for name, value in headers:
            response.headers.add(name, value)
        response.headers.setdefault("Server", "fairqueue")
        if self._drain.begun.is_set():
            response.force_close()

    @staticmethod
    def _own_headers(job: Job) -> list[tuple[str, str]]:
        return [
            ("x-request-id", job.request_id),
            ("x-fairqueue-tenant", job.tenant.name),
            ("x-fairqueue-queue-seconds", f"{job.queue_seconds:.3f}"),
        ]
