"""An engine as an `Intake` sees it, on a clock of its own: it works in steps."""

from fairqueue_proxy.intake import Amount, Intake
from fairqueue_proxy.scheduler import Request, Scheduler
from upstream_engine import FakeClock

STEP_SECONDS = 0.05
TOKENS = 10
ALL = 10**6


class SteppedEngine:
    """Starts what came, in that order, as many in each step as the test says; every stream that runs gets a token."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.intake = Intake(self.clock)
        self.queue: list[Request] = []
        self.running: list[Request] = []
        self._sequences = 0
        self._leaf = Scheduler(clock=self.clock).add_node("a")

    def send(self, count: int = 1, *, streamed: bool = True, sequences: int = 1) -> list[Request]:
        requests = [Request(self._leaf, 1, 1, sequences=sequences, streamed=streamed) for _ in range(count)]
        for request in requests:
            self.intake.sent(request, TOKENS * sequences)
        self.queue += requests
        self._sequences += count * sequences
        return requests

    def fill(self) -> None:
        """Sends as much as is allowed."""
        intake = self.intake
        while intake.free and not (
            intake.level and len(self.queue) + len(self.running) >= intake.level.requests + intake.probe
        ):
            self.send()

    def answer(self, request: Request, *, somebody_waits: bool = True) -> None:
        """Plain replies are whole then, and have left."""
        self.queue.remove(request)
        self.running.append(request)
        in_flight = Amount(self._sequences, TOKENS * self._sequences)
        self.intake.answered(request, in_flight, somebody_waits=somebody_waits)
        if not request.streamed:
            self.end(request)

    def end(self, request: Request) -> None:
        self.running.remove(request)
        self._sequences -= request.sequences
        self.intake.ended(request)

    def step(self, starts: int = ALL, *, ends: int = 0, places: int = ALL, somebody_waits: bool = True) -> int:
        """One step of the engine, after which so many end. How many have started."""
        self.clock.now_seconds += STEP_SECONDS
        for request in self.running:
            if request is self.intake.pacemaker:
                self.intake.paced()
        started = self.queue[: min(starts, places - len(self.running))]
        for request in started:
            self.answer(request, somebody_waits=somebody_waits)
        for request in self.running[:ends]:
            self.end(request)
        return len(started)

    def steps(self, count: int, *, places: int, ends: int = 1) -> None:
        """So many steps of an engine that runs at most so much, and is sent all that is allowed."""
        for _ in range(count):
            self.fill()
            self.step(places=places, ends=ends)


def full(places: int = 8) -> SteppedEngine:
    """An engine that is known to run no more."""
    engine = SteppedEngine()
    engine.steps(40, places=places)
    assert engine.intake.level == Amount(places, TOKENS * places)
    return engine
