"""What each process says of itself, in plain HTTP: alive, ready, metrics."""

from collections.abc import Callable
from typing import Final, Protocol

from aiohttp import web

_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Protocol):
    """A process's metrics."""

    def text(self) -> bytes:
        """What Prometheus reads."""
        ...


def status_application(unready: Callable[[], str], metrics: Metrics) -> web.Application:
    """Liveness, readiness and metrics; `unready` says why this replica should get no requests, or nothing."""

    async def alive(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(request: web.Request) -> web.Response:
        why = unready()
        return web.Response(status=503 if why else 200, text=f"{why or 'ok'}\n")

    async def exposition(request: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": _CONTENT_TYPE})

    application = web.Application()
    application.router.add_get("/livez", alive)
    application.router.add_get("/readyz", ready)
    application.router.add_get("/metrics", exposition)
    return application
