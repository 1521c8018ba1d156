"""Our own answers: refusals in the shape of the route, and the headers that each of our replies carries."""

from aiohttp import web

from fairqueue_proxy.engines import Api
from fairqueue_proxy.engines.shapes import refusal_body
from fairqueue_proxy.job import Job
from fairqueue_proxy.outcome import NO_RETRY, RETRY_LATER, Outcome, Refused
from fairqueue_proxy.runtime import Runtime
from fairqueue_proxy.tenants import Tenant

# The rest of the body may still be on its way.
_CLOSING = frozenset({400, 408, 413, 431})


def refusal(
    runtime: Runtime, refused: Refused, *, api: Api | None, request_id: str, tenant: Tenant | None
) -> web.StreamResponse:
    """The reply to a refused request."""
    content_type, body = refusal_body(api, status=refused.status, code=refused.outcome.value, message=refused.message)
    response = web.Response(status=refused.status, body=body, headers={"Content-Type": content_type})
    response.headers["x-request-id"] = request_id
    if tenant is not None:
        response.headers["x-fairqueue-tenant"] = tenant.name
    if refused.outcome in RETRY_LATER:
        ours = tenant if refused.outcome is Outcome.TENANT_QUEUE_FULL else None
        seconds = 1 if refused.outcome is Outcome.DRAINING else runtime.dispatcher.retry_after_seconds(ours)
        response.headers["Retry-After"] = str(seconds)
    if refused.outcome in NO_RETRY:
        response.headers["x-should-retry"] = "false"
    if refused.outcome is Outcome.UNAUTHENTICATED:
        response.headers["WWW-Authenticate"] = "Bearer"
    dress(runtime, response)
    if refused.status in _CLOSING:
        response.force_close()
    return response


def dress(runtime: Runtime, response: web.StreamResponse) -> None:
    """What each answer of our own has; the name of our library is nobody's business."""
    response.headers["Server"] = "fairqueue"
    if runtime.drain.begun.is_set():
        response.force_close()


def names_of(job: Job) -> list[tuple[bytes, bytes]]:
    """What we tell each client about its request from the beginning."""
    return [(b"x-request-id", job.request_id.encode()), (b"x-fairqueue-tenant", job.tenant.name.encode())]


def own_headers(job: Job) -> list[tuple[bytes, bytes]]:
    """What we tell each client about its request when the engine has answered."""
    own = names_of(job)
    return own if job.observed else [*own, (b"x-fairqueue-queue-seconds", b"%.3f" % job.queue_seconds)]
