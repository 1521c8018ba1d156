"""Runs the batching core in scaled real time on the event loop and tells each generation's listener what came out.

An engine step that lasts d seconds in the model lasts d / speed seconds here; a loop that is late catches up by up to
a tenth of a second, so that timers that fire late don't slow the engine down. All calls are on the event loop's thread.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from fairqueue_sim.batching import ContinuousBatch
from fairqueue_sim.generation import FinishReason, Generation, GenerationState, Step
from fairqueue_sim.step_log import StepLog

__all__ = ["EngineLoop", "Listener"]

_MAX_CATCH_UP_SECONDS = 0.1


class Listener(Protocol):
    """Who wants to know about a generation.

    Exactly one of `finished`, `failed` and `cancelled` ends it. `flush` comes after all other calls of a step that
    brought tokens or a failure.
    """

    def started(self, generation: Generation) -> None: ...
    def prefilled(self, generation: Generation) -> None: ...
    def token(self, generation: Generation, number: int) -> None: ...
    def finished(self, generation: Generation, reason: FinishReason) -> None: ...
    def failed(self, generation: Generation) -> None: ...
    def cancelled(self, generation: Generation) -> None: ...
    def flush(self) -> None: ...


class EngineLoop:
    """Lets the engine's time pass while there is something to do. `step_log`, if one is set, is told of each step."""

    def __init__(self, batch: ContinuousBatch, speed: float, on_step: Callable[[Step, bool], None]) -> None:
        """`on_step` is called with each step when it begins (False) and when it is over (True)."""
        self.batch = batch
        self.step_log: StepLog | None = None
        self._speed = speed
        self._on_step = on_step
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[int, Listener] = {}
        self._leaving: list[Generation] = []
        self._due_at = 0.0
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None

    def submit(self, generation: Generation, listener: Listener) -> None:
        """Queues a generation in the engine; raises ValueError if it can never fit."""
        self.batch.submit(generation)
        if self.step_log is not None:
            self.step_log.queued(generation)
        self._listeners[generation.number] = listener
        if self._timer is None:
            self._timer = self._loop.call_soon(self._begin_from_idle)

    def cancel(self, generation: Generation) -> None:
        """Nobody waits for it any more; its listener still hears of the step in flight, but of nothing after it."""
        untouched = generation.state is GenerationState.WAITING and not generation.generated_tokens
        self.batch.cancel(generation)
        if generation.state is not GenerationState.CANCELLED:
            return
        if untouched:
            self._listeners.pop(generation.number).cancelled(generation)
        else:
            self._leaving.append(generation)

    def close(self) -> None:
        """Stops the engine where it is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin_from_idle(self) -> None:
        self._due_at = self._loop.time()
        self._begin()

    def _begin(self) -> None:
        step = self.batch.step()
        if step is None:
            self._timer = None
            if self.step_log is not None:
                self.step_log.emptied()
            return
        if self.step_log is not None:
            self.step_log.began(step, self.batch)
        self._on_step(step, False)
        for generation in step.joined:
            if (listener := self._listeners.get(generation.number)) is not None:
                listener.started(generation)
        self._due_at = max(self._due_at, self._loop.time() - _MAX_CATCH_UP_SECONDS)
        self._due_at += step.duration_seconds / self._speed
        self._timer = self._loop.call_at(self._due_at, self._end, step)

    def _end(self, step: Step) -> None:
        listeners = self._listeners
        touched: dict[Listener, None] = {}
        for generation in step.prefilled:
            if (listener := listeners.get(generation.number)) is not None:
                listener.prefilled(generation)
        for generation, number in step.tokens:
            if (listener := listeners.get(generation.number)) is not None:
                listener.token(generation, number)
                touched[listener] = None
        for generation, reason in step.finished:
            if (listener := listeners.pop(generation.number, None)) is not None:
                listener.finished(generation, reason)
        for generation in step.failed:
            if (listener := listeners.pop(generation.number, None)) is not None:
                listener.failed(generation)
                touched[listener] = None
        self._tell_leaving()
        if self.step_log is not None:
            self.step_log.over(step)
        self._on_step(step, True)
        for listener in touched:
            listener.flush()
        self._begin()

    def _tell_leaving(self) -> None:
        leaving, self._leaving = self._leaving, []
        for generation in leaving:
            if (listener := self._listeners.pop(generation.number, None)) is not None:
                listener.cancelled(generation)
