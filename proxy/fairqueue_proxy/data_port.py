"""The port that clients talk to: what each request is, and who may send it.

One task a request, made by aiohttp and cancelled by it as soon as the client hangs up (half-close too). What is metered
goes on in `metered`, everything else is passed on or refused here.
"""

from functools import cache

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.http_exceptions import LineTooLong

from fairqueue_proxy.engines import Access, Route
from fairqueue_proxy.heads import request_id, values
from fairqueue_proxy.job import Job
from fairqueue_proxy.metered import MeteredRequest
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.passing import pass_on
from fairqueue_proxy.paths import encode, normalise
from fairqueue_proxy.receiving import receive_body
from fairqueue_proxy.refusals import refusal
from fairqueue_proxy.request_log import log_refusal
from fairqueue_proxy.runtime import InForce, Runtime

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
        raw_path, _, query = request.raw_path.partition("?")
        path = normalise(raw_path)
        engine = in_force.engine if in_force is not None else runtime.engine
        route = engine.route(request.method, path) if path is not None else Route(Access.REFUSED)
        identifier = request_id(request.raw_headers, runtime.random)
        try:
            if path is None or route.access is Access.REFUSED or values(request.raw_headers, b"upgrade"):
                raise Refused(Outcome.FORBIDDEN_ROUTE, f"{request.method} on this path is not allowed")
            target = encode(path) + (f"?{query}" if query else "")
            stripped = _encoded(engine.stripped_headers)
            if route.access is Access.FREE:
                return await pass_on(runtime, request, target, stripped | self._credentials(in_force, request))
            if in_force is None:
                raise Refused(Outcome.UNCONFIGURED, "this replica has no policy yet: try again later")
            client = in_force.identity.identify(request.raw_headers, _peer(request))
            if route.access is Access.IDENTIFIED:
                body = await receive_body(request, in_force.document.queue.max_body_bytes)
                return await pass_on(runtime, request, target, stripped | client.withheld, body)
        except Refused as refused:
            runtime.outcomes[refused.outcome] += 1
            log_refusal(identifier, f"{request.method} {path}", refused.outcome.value, refused.status)
            return refusal(runtime, refused, api=route.api, request_id=identifier, tenant=None)
        tenant = runtime.tenants.by_name[client.tenant]
        job = Job(identifier, tenant, runtime.clock(), f"{request.method} {path}", client.identity)
        metered = MeteredRequest(
            runtime, in_force, request, route=route, target=target, withheld=stripped | client.withheld, job=job
        )
        return await metered.answer()

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

    @staticmethod
    def _credentials(in_force: InForce | None, request: web.BaseRequest) -> frozenset[bytes]:
        if in_force is None:
            return _USUAL_CREDENTIALS
        return in_force.identity.withheld(_peer(request))


@cache
def _encoded(names: frozenset[str]) -> frozenset[bytes]:
    """Header names as requests carry them; one set for each kind of engine."""
    return frozenset(name.encode() for name in names)


def _peer(request: web.BaseRequest) -> str | None:
    """The address of the TCP peer."""
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) else None
