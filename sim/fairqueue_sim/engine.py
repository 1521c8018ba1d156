"""What every simulated engine has, whatever its HTTP dialect: settings, the batch, and the truth log."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import Literal

from fairqueue_sim.batching import ContinuousBatch
from fairqueue_sim.engine_loop import EngineLoop
from fairqueue_sim.generation import BatchLimits, Generation, Step
from fairqueue_sim.model_output import ModelOutput, OutputStyle, output_end
from fairqueue_sim.profiles import ModelProfile
from fairqueue_sim.steering import parse_steering
from fairqueue_sim.truth import RequestTruth, TruthLog
from fairqueue_sim.wire import HttpRequest

__all__ = ["EndKind", "EngineSettings", "SimulatedEngine"]

EndKind = Literal["success", "generation"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How a simulated engine is set up; what is None comes from the model profile.

    `speed` divides every duration. `mean_output_tokens` is the mean length of outputs that end by themselves, 0 for
    outputs that only end where the request says. `max_concurrent_requests` None is what the engine kind does by
    itself. `keep_alive_seconds` is real time.
    """

    profile: ModelProfile
    speed: float = 1.0
    seed: int = 0
    kv_tokens: int | None = None
    slots: int | None = None
    max_concurrent_requests: int | None = None
    prefill_budget_tokens: int | None = None
    max_total_tokens: int | None = None
    max_input_tokens: int | None = None
    mean_output_tokens: float | None = None
    output_style: OutputStyle = "random"
    model_id: str | None = None
    max_body_bytes: int = 2_000_000
    keep_alive_seconds: float = 15.0

    def limits(self) -> BatchLimits:
        """What fits into the engine."""
        kv_tokens = self.kv_tokens or self.profile.kv_tokens
        max_total = self.max_total_tokens or min(self.profile.max_total_tokens, kv_tokens)
        return BatchLimits(
            kv_tokens=kv_tokens,
            prefill_budget_tokens=self.prefill_budget_tokens or self.profile.prefill_budget_tokens,
            max_input_tokens=self.max_input_tokens or max_total - 1,
            max_total_tokens=max_total,
            slots=self.slots,
        )


@dataclass(slots=True, eq=False)
class Choice:
    """One output of a request: one prompt, or one of several copies of it."""

    index: int
    prompt_tokens: int
    output: ModelOutput
    generation: Generation
    seed: int | None = None
    submitted_at: float = 0.0
    started_at: float | None = None
    stop: Sequence[str] = ()
    pending: list[int] = field(default_factory=list)


class SimulatedEngine:
    """The model behind an HTTP dialect. Everything happens on the event loop's thread."""

    def __init__(
        self,
        settings: EngineSettings,
        truth: TruthLog,
        *,
        limits: BatchLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.limits = limits or settings.limits()
        self.truth = truth
        self.clock = clock
        self.wall_clock = wall_clock
        self.model_id = settings.model_id or settings.profile.name
        self.batch = ContinuousBatch(settings.profile, self.limits)
        self.loop = EngineLoop(self.batch, settings.speed, self.on_step)
        mean = settings.mean_output_tokens
        self._mean_output_tokens = settings.profile.mean_output_tokens if mean is None else mean
        self._numbers = count(1)

    def choice(
        self,
        index: int,
        prompt: str,
        prompt_tokens: int,
        max_new_tokens: int | None,
        stop: Sequence[str],
        *,
        ignore_end: bool = False,
    ) -> Choice:
        """Prepares one output of the model; it is not queued yet. `ignore_end`: it only ends where it has to."""
        steering = parse_steering(prompt)
        number = next(self._numbers)
        random = Random(f"{self.settings.seed}/{number}")
        output = ModelOutput.draw(steering, self.settings.output_style, random, self._mean_output_tokens)
        if ignore_end:
            output = replace(output, eos_at=None)
        wanted = max_new_tokens or self.limits.max_total_tokens - prompt_tokens
        end_at, end_reason = output_end(output, stop, wanted)
        generation = Generation(
            number=number,
            prompt_tokens=prompt_tokens,
            max_new_tokens=max_new_tokens,
            end_at=end_at,
            end_reason=end_reason,
            fail_at=steering.fail,
            tokens_per_step=steering.tokens_per_step,
            step_seconds=steering.step_seconds,
            prefill_seconds=steering.prefill_seconds,
        )
        return Choice(index, prompt_tokens, output, generation, seed=random.getrandbits(63), stop=stop)

    def arrived(self, request: HttpRequest) -> RequestTruth:
        """Notes a request that asks for tokens."""
        request_id = request.headers.get(b"x-request-id")
        return self.truth.arrived(None if request_id is None else request_id.decode("latin-1"), request.path)

    def on_step(self, step: Step, over: bool) -> None:
        """Called when a step begins and when it is over, after its tokens were noted and before they are sent."""
        if over:
            self.truth.flush()

    def on_ended(self, kind: EndKind) -> None:
        """Called for each output that came to its end or failed."""
