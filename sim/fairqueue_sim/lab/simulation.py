"""The simulation itself: virtual time, arrivals, and an engine that works in steps."""

from collections.abc import Callable, Sequence
from itertools import count

from fairqueue_proxy.outcome import Outcome
from fairqueue_sim.batching import ContinuousBatch
from fairqueue_sim.generation import FinishReason, Generation, Step
from fairqueue_sim.lab.fate import Course, Fate
from fairqueue_sim.lab.fronts import Front
from fairqueue_sim.lab.trace import Arrival

__all__ = ["Clock", "simulate"]

EVENTS_BETWEEN_REPORTS = 500
WARM_UP_SECONDS = 30.0


class Clock:
    """Virtual time, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def simulate(
    arrivals: Sequence[Arrival],
    batch: ContinuousBatch,
    front: Front,
    clock: Clock,
    on_progress: Callable[[int], None] = lambda _ended: None,
    until: float = float("inf"),
) -> Course:
    """Runs until the last request has ended, or until an instant. `on_progress` is told now and then how many have."""
    return _Simulation(arrivals, batch, front, clock).run(on_progress, until)


class _Simulation:
    def __init__(self, arrivals: Sequence[Arrival], batch: ContinuousBatch, front: Front, clock: Clock) -> None:
        self._batch = batch
        self._front = front
        self._clock = clock
        self._fates = [Fate(arrival) for arrival in arrivals]
        self._numbers = count()
        self._step: Step | None = None
        self._step_end = float("inf")
        self._ended = 0
        self._idle_since: float | None = None
        self._course = Course(self._fates)

    def run(self, on_progress: Callable[[int], None], until: float) -> Course:
        fates, front, clock = self._fates, self._front, self._clock
        arrived, events = 0, 0
        while True:
            arrival = fates[arrived].arrival.seconds if arrived < len(fates) else float("inf")
            due = front.due()
            now = min(arrival, due, self._step_end)
            if now == float("inf") or now > until:
                break
            clock.now = max(now, clock.now)
            if self._step is not None and self._step_end <= now:
                self._end(self._step)
            elif arrival <= now:
                self._arrive(fates[arrived])
                arrived += 1
            else:
                front.wake()
            if self._step is None:
                self._begin()
            events += 1
            if events % EVENTS_BETWEEN_REPORTS == 0:
                on_progress(self._ended)
        self._course.gap = front.gap
        self._course.preemptions = self._batch.preemptions
        on_progress(len(fates))
        return self._course

    def _arrive(self, fate: Fate) -> None:
        arrival = fate.arrival
        generation = Generation(
            number=next(self._numbers),
            prompt_tokens=arrival.prompt_tokens,
            # Of embeddings and the like the prompt is only read.
            max_new_tokens=arrival.allowed_tokens if arrival.output_tokens else 0,
            end_at=arrival.output_tokens or None,
            end_reason=FinishReason.ABORT if arrival.hangs_up else FinishReason.EOS,
            client=arrival.tenant,
        )
        try:
            self._batch.check_fits(generation)
        except ValueError:
            fate.refused = Outcome.TOO_LARGE.value
        else:
            self._front.arrive(fate, generation)
        self._ended += fate.refused is not None

    def _begin(self) -> None:
        step = self._batch.step()
        if step is None:
            return
        now = self._clock.now
        self._step, self._step_end = step, now + step.duration_seconds
        self._course.steps += 1
        for generation in step.joined:
            fate = self._fates[generation.number]
            if fate.started_at is None:
                fate.started_at = now
        self._front.began(step)
        if step.joined:
            self._course.engine_waiting.append((now, self._batch.waiting_that_fit()))
        if step.looked:
            self._note_idle(now)

    def _note_idle(self, now: float) -> None:
        """After a look at the queue: is there room left for who waits outside?"""
        if self._idle_since is not None:
            self._course.idle_seconds += now - max(self._idle_since, WARM_UP_SECONDS)
        head = self._front.head()
        idle = head is not None and now >= WARM_UP_SECONDS and self._batch.would_join(head)
        self._idle_since = now if idle else None

    def _end(self, step: Step) -> None:
        now = self._clock.now
        self._step, self._step_end = None, float("inf")
        if now >= WARM_UP_SECONDS:
            self._course.warm_tokens += len(step.tokens) + sum(it.prompt_tokens for it in step.prefilled)
        for generation in step.prefilled:
            self._fates[generation.number].first_token_at = now
        for generation, _ in step.finished:
            self._fates[generation.number].ended_at = now
        self._ended += len(step.finished)
        if step.finished:
            self._course.ended_at = now
        self._front.over(step)
