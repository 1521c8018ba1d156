"""What became of each request of a simulation, and of the engine's own queue."""

from dataclasses import dataclass, field

from fairqueue_sim.lab.trace import Arrival

__all__ = ["Course", "Fate", "GapSeen"]


@dataclass(slots=True, eq=False)
class Fate:
    """One request. Instants are seconds of the simulation; None: not (yet).

    `started_at` is when it joined the batch, `refused` why nobody served it (one of the proxy's outcomes, or `rate`).
    """

    arrival: Arrival
    started_at: float | None = None
    first_token_at: float | None = None
    ended_at: float | None = None
    refused: str | None = None

    @property
    def ttft_seconds(self) -> float | None:
        """Time to first token."""
        return None if self.first_token_at is None else self.first_token_at - self.arrival.seconds


@dataclass(slots=True)
class GapSeen:
    """How far apart counters were that are promised to stay together, and the promise then: at the moment, and in the
    set of siblings, at which most of the promise was used up."""

    largest: float = 0.0
    bound: float = 0.0
    violations: int = 0
    looks: int = 0

    def see(self, gap: float, bound: float) -> None:
        """Takes in one look."""
        self.looks += 1
        self.violations += gap > bound * (1 + 1e-9) + 1e-6
        if gap * self.bound >= self.largest * bound:
            self.largest, self.bound = gap, bound


@dataclass(slots=True)
class Course:
    """A whole simulation: the requests in order of arrival, and when the last one ended.

    `engine_waiting` are looks at the engine's own queue right after each step with newcomers: when, and how many waited
    that would have fitted (empty for schedulers inside the engine: what waits there is in their order). `idle_seconds`
    is the time after `warm_up_seconds` in which one more would have fitted and somebody waited for it outside.
    """

    fates: list[Fate]
    ended_at: float = 0.0
    gap: GapSeen | None = None
    engine_waiting: list[tuple[float, int]] = field(default_factory=list)
    idle_seconds: float = 0.0
    warm_tokens: int = 0
    steps: int = 0
    preemptions: int = 0
