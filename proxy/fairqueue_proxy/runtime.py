"""What a request meets on its way: the policy in force, and the parts of the proxy that it passes through.

`in_force` is replaced as a whole by a reload; a request keeps what was in force when it came.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fairqueue_api import Document
from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.drain import Drain
from fairqueue_proxy.engine_watch import EngineWatch
from fairqueue_proxy.engines import Engine
from fairqueue_proxy.identity import Identity
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.outflow import Outflows
from fairqueue_proxy.receiving import Room
from fairqueue_proxy.shadow import Shadow
from fairqueue_proxy.stream_pace import StreamPace
from fairqueue_proxy.tenants import Tenants
from fairqueue_proxy.upstream import Upstream

if TYPE_CHECKING:
    # Loaded by those only who ask for them.
    from fairqueue_proxy.recording import Recording
    from fairqueue_proxy.usage_log import UsageLog


@dataclass(frozen=True, slots=True)
class InForce:
    """A document, and what is worked out from it once."""

    document: Document
    engine: Engine
    identity: Identity

    @property
    def observes(self) -> bool:
        """Requests are not to be changed or refused."""
        return self.document.mode == "Observe"


@dataclass(slots=True)
class Runtime:
    """`engine` is there before any document is: free routes are relayed by it."""

    engine: Engine
    in_force: InForce | None
    tenants: Tenants
    dispatcher: Dispatcher
    shadow: Shadow
    upstream: Upstream
    watch: EngineWatch
    drain: Drain
    outflows: Outflows
    clock: Callable[[], float]
    random: random.Random
    stream_pace: StreamPace = field(default_factory=StreamPace)
    # Of requests that belong to no tenant.
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    would_be: Counter[Outcome] = field(default_factory=Counter)
    # For bodies that go past the queue.
    room: Room = field(default_factory=Room)
    recording: "Recording | None" = None
    usage_log: "UsageLog | None" = None

    @property
    def engine_key(self) -> str | None:
        """What the engine wants to see in place of the clients' credentials."""
        return self.in_force.document.engine.api_key if self.in_force is not None else None

    @property
    def observes(self) -> bool:
        """The policy now in force refuses nobody."""
        return self.in_force is not None and self.in_force.observes
