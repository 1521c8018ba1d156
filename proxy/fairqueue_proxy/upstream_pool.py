"""The idle connections to one engine, and how long each may stay idle.

Engines close idle connections without a word, and a request that crosses such a close on the wire is lost or, at
best, sent twice. So connections are dropped here well before the engine's own time-out. The most recently used one is
handed out first: the surplus of a burst ages and goes.

Synchronous, on the event loop. Ages are judged by the injected clock; the loop's timer only says when to look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from .upstream_connection import Connection

__all__ = ["IdlePool"]

ENGINE_TIMEOUT_MARGIN_SECONDS: Final = 1.0


class IdlePool:
    """At most `max_idle` connections, each for at most `idle_seconds` and until 1 s before the engine's time-out."""

    def __init__(self, *, clock: Callable[[], float], idle_seconds: float, max_idle: int) -> None:
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._max_idle = max_idle
        # In the order of their last use, the latest at the end.
        self._expiry_seconds: dict[Connection, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_seconds = 0.0

    def __len__(self) -> int:
        return len(self._expiry_seconds)

    def put(self, connection: Connection) -> None:
        """Keep an open connection whose reply has ended, or drop one: itself or the longest unused."""
        idle_seconds = self._idle_seconds
        if connection.keep_alive_seconds is not None:
            idle_seconds = min(idle_seconds, connection.keep_alive_seconds - ENGINE_TIMEOUT_MARGIN_SECONDS)
        if idle_seconds <= 0 or self._max_idle < 1:
            connection.drop()
            return
        if len(self._expiry_seconds) >= self._max_idle:
            self._drop(next(iter(self._expiry_seconds)))
        expiry_seconds = self._clock() + idle_seconds
        self._expiry_seconds[connection] = expiry_seconds
        if self._timer is None or expiry_seconds < self._timer_due_seconds:
            self._set_timer(expiry_seconds)

    def take(self) -> Connection | None:
        """The most recently used connection that is still good; no longer the pool's."""
        now_seconds = self._clock()
        while self._expiry_seconds:
            connection, expiry_seconds = self._expiry_seconds.popitem()
            if expiry_seconds > now_seconds and connection.is_open:
                return connection
            connection.drop()
        return None

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed or closing; it need not be here."""
        self._expiry_seconds.pop(connection, None)

    def clear(self) -> None:
        """Drop all of them and stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in list(self._expiry_seconds):
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self.remove(connection)
        connection.drop()

    def _set_timer(self, due_seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_seconds = max(0.0, due_seconds - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay_seconds, self._sweep)
        self._timer_due_seconds = due_seconds

    def _sweep(self) -> None:
        self._timer = None
        now_seconds = self._clock()
        for connection, expiry_seconds in list(self._expiry_seconds.items()):
            if expiry_seconds <= now_seconds:
                self._drop(connection)
        if self._expiry_seconds:
            self._set_timer(min(self._expiry_seconds.values()))
