"""One request on its way through the proxy, from identification to its outcome."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fairqueue_proxy.engines import Call
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.scheduler import Node, Request
from fairqueue_proxy.tenants import Tenant


class EngineSide(Protocol):
    """What goes on in the engine for a job; see `relay.Relay`."""

    settled: bool
    on_settled: Callable[[], None]

    def client_gone(self) -> None:
        """Nobody reads the reply any more: settled at once, or when the engine has finished it for nobody."""

    def cut_off(self, refused: Refused) -> None:
        """The proxy goes away: the reply ends now, in words that the client understands."""


class Waiter(Protocol):
    """Who waits for a job's turn: a future, as far as it is told. It hears no more once it is done."""

    def done(self) -> bool:
        """Nothing is to be told any more."""

    def set_result(self, result: None, /) -> None:
        """The job is in flight."""

    def set_exception(self, exception: BaseException, /) -> None:
        """The job has to go."""


@dataclass(slots=True, eq=False, repr=False)
class Job:
    """All instants are of the injected monotonic clock, in seconds."""

    request_id: str
    tenant: Tenant
    received_at: float
    route: str = ""
    # Who below the tenant, as far as the credential told; the body may tell more.
    identity: str | None = None
    call: Call | None = None
    request: Request | None = None
    # Where it counts among what waits: its tenant's node, and its leaf as soon as that is known.
    place: Node | None = None
    body_bytes: int = 0
    held_bytes: int = 0
    receiving: "asyncio.Timeout | None" = None
    admitted: Waiter | None = None
    refused: Refused | None = None
    engine_side: EngineSide | None = None
    refusals_by_engine: int = 0
    # The policy only observes: the engine has been sent the request at once, the queue decides as if it had not.
    observed: bool = False
    would_be: Outcome | None = None
    queued_at: float | None = None
    dispatched_at: float | None = None
    # The same, unless the engine is sent everything at once.
    sent_at: float | None = None
    replied: bool = False
    first_token_at: float | None = None
    status: int | None = None
    outcome: Outcome | None = None
    queue_seconds: float = 0.0
    # Of its tokens, what is in the tenant's counts.
    counted_input: int = 0
    counted_cached: int = 0
    counted_output: int = 0

    def __repr__(self) -> str:
        return f"<Job {self.request_id} of {self.tenant.name}>"

    def would_refuse(self, outcome: Outcome) -> None:
        """Had the policy not only observed, the request would have ended here."""
        if self.would_be is None:
            self.would_be = outcome
            self.tenant.would_be[outcome] += 1

    @property
    def scheduled(self) -> Request:
        """The scheduler's view of the job; there from the moment when the body has been read."""
        if self.request is None:
            raise AssertionError("the job has not been sized yet")
        return self.request
