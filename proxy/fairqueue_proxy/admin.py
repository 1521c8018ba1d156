"""The two listeners beside the data port.

Pod network, read-only: /metrics, /-/live, /-/ready, /-/config, /-/drain/wait. Loopback only: /-/drain (POST begins a
drain) and /-/queue (who waits, how long, behind whom, why): nobody off the pod can drain it or read tenants' queues.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from aiohttp import web

from fairqueue_api.document import SCHEMA
from fairqueue_proxy.document_watch import ReloadCounts
from fairqueue_proxy.exposition import CONTENT_TYPE, Exposition
from fairqueue_proxy.queue_view import queue_view
from fairqueue_proxy.runtime import Runtime

SCHEMAS = [SCHEMA]


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(content) + b"\n", status=status, headers={"Content-Type": "application/json"}
    )


class Admin:
    """Handlers of both listeners; `pod_app` and `loopback_app` say which is where."""

    def __init__(
        self, runtime: Runtime, exposition: Exposition, reloads: ReloadCounts, *, listening: Callable[[], bool]
    ) -> None:
        self._runtime = runtime
        self._exposition = exposition
        self._reloads = reloads
        self._listening = listening

    def pod_app(self) -> web.Application:
        """What the pod network may read."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/-/live", self._live)
        app.router.add_get("/-/ready", self._ready)
        app.router.add_get("/-/config", self._config)
        app.router.add_get("/-/drain/wait", self._drain_wait)
        return app

    def loopback_app(self) -> web.Application:
        """What only somebody inside the pod may do and read."""
        app = web.Application()
        app.router.add_post("/-/drain", self._begin_drain)
        app.router.add_get("/-/queue", self._queue)
        return app

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        # Prometheus hangs up when its time is over.
        with suppress(ConnectionError):
            await response.prepare(request)
            async for text in self._exposition.slices():
                await response.write(text)
        return response

    async def _live(self, _request: web.Request) -> web.Response:
        return _json({"live": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        runtime = self._runtime
        reasons = {
            "no policy": runtime.in_force is None,
            "not listening": not self._listening(),
            "draining": runtime.drain.begun.is_set(),
            "engine not healthy": not runtime.watch.healthy,
        }
        against = [reason for reason, holds in reasons.items() if holds]
        return _json({"ready": not against, "reasons": against}, status=503 if against else 200)

    async def _config(self, _request: web.Request) -> web.Response:
        in_force = self._runtime.in_force
        document = in_force.document if in_force is not None else None
        return _json(
            {
                "policy": document.policy if document is not None else None,
                "revision": document.revision if document is not None else None,
                "schemas": SCHEMAS,
                "problem": self._reloads.problem,
            }
        )

    async def _drain_wait(self, _request: web.Request) -> web.Response:
        runtime = self._runtime
        await runtime.drain.wait(lambda: runtime.watch.healthy, runtime.watch.answers)
        return _json({"over": runtime.drain.over.is_set()})

    async def _begin_drain(self, _request: web.Request) -> web.Response:
        self._runtime.drain.begin()
        return _json({"draining": True})

    async def _queue(self, _request: web.Request) -> web.Response:
        return _json(queue_view(self._runtime.dispatcher, self._runtime.clock()))
