"""The two listeners beside the data port.

Pod network, read-only: /metrics, /-/live, /-/ready, /-/config, /-/drain/wait. Loopback only: /-/drain (POST begins a
drain) and /-/queue (who waits, how long, behind whom, why): nobody off the pod can drain it or read tenants' queues.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from fairqueue_api import Document
from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.drain import Drain
from fairqueue_proxy.engine_watch import EngineWatch
from fairqueue_proxy.exposition import CONTENT_TYPE, Exposition
from fairqueue_proxy.queue_view import queue_view

SCHEMAS = [1]


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(content) + b"\n", status=status, headers={"Content-Type": "application/json"}
    )


class Admin:
    """Handlers of both listeners; `pod_app` and `loopback_app` say which is where."""

    def __init__(
        self,
        document: Document,
        dispatcher: Dispatcher,
        drain: Drain,
        watch: EngineWatch,
        exposition: Exposition,
        *,
        listening: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._document = document
        self._dispatcher = dispatcher
        self._drain = drain
        self._watch = watch
        self._exposition = exposition
        self._listening = listening
        self._clock = clock

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

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._exposition.render().encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _live(self, _request: web.Request) -> web.Response:
        return _json({"live": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        reasons = {
            "not listening": not self._listening(),
            "draining": self._drain.begun.is_set(),
            "engine not healthy": not self._watch.healthy,
        }
        against = [reason for reason, holds in reasons.items() if holds]
        return _json({"ready": not against, "reasons": against}, status=503 if against else 200)

    async def _config(self, _request: web.Request) -> web.Response:
        document = self._document
        return _json({"policy": document.policy, "revision": document.revision, "schemas": SCHEMAS})

    async def _drain_wait(self, _request: web.Request) -> web.Response:
        await self._drain.wait(lambda: self._watch.healthy)
        return _json({"over": self._drain.over.is_set()})

    async def _begin_drain(self, _request: web.Request) -> web.Response:
        self._drain.begin()
        return _json({"draining": True})

    async def _queue(self, _request: web.Request) -> web.Response:
        return _json(queue_view(self._dispatcher, self._clock()))
