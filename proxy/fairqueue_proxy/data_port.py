"""The port that clients talk to: what each request is, and who may send it.

One task a request, made by aiohttp and cancelled by it as soon as the client hangs up (half-close too). What is metered
goes on in `metered`, everything else is passed on or refused here.
"""

import asyncio
from functools import lru_cache

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.http_exceptions import LineTooLong

from fairqueue_proxy.engines import Access, Route
from fairqueue_proxy.heads import request_id
from fairqueue_proxy.identity import Client
from fairqueue_proxy.job import Job
from fairqueue_proxy.metered import MeteredRequest
from fairqueue_proxy.observed import ObservedRequest, pass_unread
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.passing import Forward, forward_as_it_came, pass_body_on, pass_on
from fairqueue_proxy.paths import encode, normalise
from fairqueue_proxy.receiving import Body, receive_body
from fairqueue_proxy.refusals import refusal
from fairqueue_proxy.request_log import log_observed, log_refusal
from fairqueue_proxy.runtime import InForce, Runtime

_REFUSED = Route(Access.REFUSED)

# Before there is a policy nothing says which headers carry credentials: these do elsewhere.
_USUAL_CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"api-key"})


class DataPort:
    """Handles requests of the proxied port; `handle` is an aiohttp low-level handler."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        # Requests whose reply is not out yet.
        self.handling = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request."""
        self.handling += 1
        try:
            return await self._handle(request)
        finally:
            self.handling -= 1

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        runtime = self._runtime
        in_force = runtime.in_force
        path = normalise(request.raw_path.partition("?")[0])
        route = runtime.engine.route(request.method, path) if path is not None else _REFUSED
        identifier = request_id(request.raw_headers, runtime.random)
        line = f"{request.method} {path}"
        try:
            try:
                peer = _peer(request)
                client = _admit(in_force, request, route, peer)
            except Refused as refused:
                if in_force is None or not in_force.observes:
                    raise
                return await self._pass_unread(in_force, request, identifier, line, refused)
            forward = _forward(runtime, request, path, identifier, peer)
            if client is None or in_force is None:
                if in_force is not None and in_force.observes and request.body_exists:
                    return await pass_unread(runtime, in_force, request, identifier)
                return (await pass_on(runtime, request, forward)).response
            if route.access is Access.IDENTIFIED:
                return await self._pass_identified(in_force, request, forward, client)
        except Refused as refused:
            runtime.outcomes[refused.outcome] += 1
            log_refusal(identifier, line, refused.outcome.value, refused.status)
            return refusal(runtime, refused, api=route.api, request_id=identifier, tenant=None)
        job = Job(identifier, runtime.tenants.by_name[client.tenant], runtime.clock(), line, client.identity)
        kind = ObservedRequest if in_force.observes else MeteredRequest
        return await kind(runtime, in_force, request, route=route, forward=forward, job=job).answer()

    async def _pass_unread(
        self, in_force: InForce, request: web.BaseRequest, identifier: str, line: str, refused: Refused
    ) -> web.StreamResponse:
        """What would have been refused, passed on as it came."""
        runtime, would_be = self._runtime, refused.outcome
        runtime.would_be[would_be] += 1
        try:
            response = await pass_unread(runtime, in_force, request, identifier, refused)
        except asyncio.CancelledError:
            log_observed(identifier, line, would_be.value, None)
            raise
        log_observed(identifier, line, would_be.value, response.status)
        return response

    async def _pass_identified(
        self, in_force: InForce, request: web.BaseRequest, forward: Forward, client: Client
    ) -> web.StreamResponse:
        """A request that only needs an identity."""
        most_bytes, read = in_force.document.queue.max_body_bytes, not forward.as_it_came

        async def receive(held: Body) -> bytes:
            return await receive_body(request, most_bytes, held.count, whose=held, read=read)

        return await pass_body_on(self._runtime, request, forward, client.tenant, receive)

    def refuse_malformed(self, error: HttpProcessingError) -> web.StreamResponse:
        """Answers what can't be read as a request. Nothing of it is logged: there may be a key in it."""
        too_long = isinstance(error, LineTooLong) or "Too many headers" in error.message
        refused = Refused(
            Outcome.BAD_REQUEST,
            "the headers are too long or too many" if too_long else "this is no request of HTTP/1.1",
            status=431 if too_long else 400,
        )
        runtime = self._runtime
        identifier = request_id((), runtime.random)
        runtime.outcomes[refused.outcome] += 1
        log_refusal(identifier, "", refused.outcome.value, refused.status)
        return refusal(runtime, refused, api=None, request_id=identifier, tenant=None)


def _admit(in_force: InForce | None, request: web.BaseRequest, route: Route, peer: str | None) -> Client | None:
    """Who sends the request; None on free routes.

    Raises:
        Refused: the route, or whoever it is.
    """
    if route.access is Access.REFUSED or "Upgrade" in request.headers:
        raise Refused(Outcome.FORBIDDEN_ROUTE, f"{request.method} on this path is not allowed")
    if route.access is Access.FREE:
        return None
    if in_force is None:
        raise Refused(Outcome.UNCONFIGURED, "this replica has no policy yet: try again later")
    return in_force.identity.identify(request.raw_headers, peer)


def _forward(
    runtime: Runtime, request: web.BaseRequest, path: str | None, identifier: str, peer: str | None
) -> Forward:
    """How an admitted request goes to the engine: by the very path that its route was found by, without credentials and
    what would steer the engine; or under a policy that only observes as it came."""
    in_force = runtime.in_force
    if path is None or runtime.observes:
        return forward_as_it_came(request, identifier)
    query = request.raw_path.partition("?")[2]
    credentials = in_force.identity.withheld(peer) if in_force is not None else _USUAL_CREDENTIALS
    return Forward(
        encode(path) + (f"?{query}" if query else ""),
        _withheld(runtime.engine.stripped_headers, credentials),
        runtime.engine_key,
        identifier,
    )


@lru_cache(16)
def _withheld(steering: frozenset[str], credentials: frozenset[bytes]) -> frozenset[bytes]:
    """Header names as requests carry them; one set for each kind of engine and policy."""
    return credentials | {name.encode() for name in steering}


def _peer(request: web.BaseRequest) -> str | None:
    """The address of the TCP peer."""
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) else None
