"""How much the engine can take at once, so that its own queue stays short: budgets, each judged by itself.

A limit comes from the policy, else from what the engine reports, else it is learned (see `intake`); a budget without
a limit always fits. Pure: told what starts, what begins to answer, what ends and what the engine says, and asked
whether a request fits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fairqueue_proxy.intake import Amount, Intake
from fairqueue_proxy.scheduler import Request

REFUSAL_REMEMBERED_SECONDS = 60.0
IDLE_LIMIT = 32
"""So many are sent at once to an engine that runs nothing."""


class KvNeed(Protocol):
    """KV-cache tokens that the engine has for a request."""

    def __call__(self, request: Request, /, *, reserved: bool) -> int:
        """With what is expected of it yet if `reserved`."""


@dataclass(slots=True)
class Budget:
    """One limited thing. `limit` None means unlimited; so many of the needs that are asked about may be `over` it."""

    name: str
    limit: int | None = None
    source: str = "none"
    used: int = 0
    over: int = 0

    def set(self, limit: int | None, source: str) -> None:
        """A limit, or none."""
        self.limit, self.source, self.over = limit, source if limit is not None else "none", 0

    def set_least(self, *limits: tuple[int | None, str]) -> None:
        """The smallest of these, or none."""
        told = [(limit, source) for limit, source in limits if limit is not None]
        self.limit, self.source = min(told, default=(None, "none"))

    def fits(self, need: int) -> bool:
        """A need above the whole limit fits when nothing else uses the budget: else it would wait for ever."""
        return self.limit is None or self.used + need <= self.limit + self.over * need or self.used == 0

    @property
    def free(self) -> bool:
        """Something could still start."""
        return self.limit is None or self.used < self.limit


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits set by the policy; None: not set."""

    max_requests: int | None = None
    max_tokens: int | None = None
    max_prefill_tokens: int | None = None

    @property
    def nothing(self) -> bool:
        """How many are let in is not limited."""
        return self.max_requests is None and self.max_tokens is None


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What an engine says of itself; None where it does not say.

    `batch_limit` is a true limit on requests running at once (llama.cpp's slots), `concurrency_limit` only how many
    it accepts (TGI's semaphore). `kv_tokens` is the size of its KV cache, `context_tokens` the most that one sequence
    can have, prompt and output; requests of more than `most_sequences` are refused by the engine.
    """

    batch_limit: int | None = None
    concurrency_limit: int | None = None
    kv_tokens: int | None = None
    context_tokens: int | None = None
    most_sequences: int | None = None


@dataclass(slots=True)
class _Taken:
    """What a request uses of the budgets."""

    requests: int
    tokens: int
    prefill: int


class Capacity:
    """The budgets of one engine. `take` when a request starts, `give` at its end, exactly once each.

    Where the policy sets how many requests or tokens are let in, nothing is learned.
    """

    def __init__(self, limits: Limits, kv_need: KvNeed, clock: Callable[[], float]) -> None:
        self._limits, self._kv_need, self._learns = limits, kv_need, limits.nothing
        self._report = EngineReport()
        # Refusals have shown that the engine takes no more than so many requests at once.
        self._accepted: float | None = None
        self._refused_at = 0.0
        self._clock = clock
        self._taken: dict[Request, _Taken] = {}
        self.paused = False
        self.requests = Budget("requests")
        self.tokens = Budget("tokens")
        self.prefill = Budget("prefill")
        self.intake = Intake(clock)
        self._started_with: int | None = None
        # What the budgets' limits follow from, as they are.
        self._known: tuple[object, ...] = ()
        self._set_limits()

    @property
    def budgets(self) -> tuple[Budget, Budget, Budget, Budget]:
        """Requests, KV tokens, prefill tokens, and requests that are not known to have started."""
        intake = self.intake
        unstarted = Budget("unstarted", used=intake.unstarted)
        if self._learns:
            unstarted.limit, unstarted.source = intake.present_limit, "learned"
        return self.requests, self.tokens, self.prefill, unstarted

    @property
    def free(self) -> bool:
        """Something could still start."""
        return not self._closed and self.requests.free and self.tokens.free and self.prefill.free

    def apply(self, limits: Limits, kv_need: KvNeed) -> None:
        """What the policy sets, from now on."""
        self._limits, self._kv_need, self._learns = limits, kv_need, limits.nothing
        self._set_limits()

    def report(self, report: EngineReport) -> None:
        """Takes in what the engine says of itself; what the policy sets stands."""
        if report != self._report:
            self._report = report
            self._set_limits()

    def engine_is_started_with(self, batch_limit: int | None) -> None:
        """What its command line says of how many requests run at once: it holds where the engine reports nothing."""
        self._started_with = batch_limit
        self._set_limits()

    def waiting(self, waiting: float, *, somebody_waits: bool) -> None:
        """The engine's own count of requests that wait in it."""
        self.intake.engine_counts(waiting, somebody_waits=somebody_waits)
        self._set_limits()

    def restarted(self) -> None:
        """The engine is a new one: what was learned of the old one is forgotten."""
        self._accepted = None
        self.intake.forget()
        self._set_limits()

    def refused(self) -> None:
        """The engine had no room for a request that has been given back since: it holds all that it takes."""
        self._accepted, self._refused_at = max(float(self.requests.used), 1.0), self._clock()
        self.intake.refused()
        self._set_limits()

    def was_its_own_fault(self) -> None:
        """A request was refused too often: it was not the engine that had no room."""
        self._accepted = None
        self._set_limits()

    @property
    def context_tokens(self) -> int | None:
        """The most tokens that one sequence can have, as far as the engine tells."""
        return self._report.context_tokens

    @property
    def most_sequences(self) -> int | None:
        """Requests of more sequences are refused by the engine, as far as it tells."""
        return self._report.most_sequences

    def fits(self, request: Request) -> bool:
        """Whether the engine can take this request now."""
        if self.paused or (self._learns and not (self.intake.takes(request) or self._idle)):
            return False
        return (
            self.requests.fits(request.sequences)
            and self.tokens.fits(self._tokens(request))
            and self.prefill.fits(request.prompt_tokens)
        )

    def take(self, request: Request) -> None:
        """The request starts."""
        if not self._taken:
            self.intake.begin_anew()
            self._set_limits()
        taken = _Taken(request.sequences, self._tokens(request), request.prompt_tokens)
        self._taken[request] = taken
        self.requests.used += taken.requests
        self.tokens.used += taken.tokens
        self.prefill.used += taken.prefill
        self.intake.sent(request, taken.tokens)

    def grown(self, request: Request) -> None:
        """The request's output is longer than before."""
        intake = self.intake
        if request is intake.pacemaker:
            intake.paced()
        taken = self._taken[request]
        if (need := self._tokens(request)) > taken.tokens:
            self.tokens.used += need - taken.tokens
            taken.tokens = need

    def answered(self, request: Request, *, somebody_waits: bool, whole: bool = False) -> None:
        """The request's first token is there, or its reply as a whole: its prefill is over."""
        self._prefilled(request)
        in_flight = Amount(self.requests.used, self.tokens.used)
        self.intake.answered(request, in_flight, somebody_waits=somebody_waits, whole=whole)
        self._set_limits()

    def started_before(self, request: Request) -> None:
        """The request's prefill was over before it was its turn: nothing is to be learned from it."""
        self._prefilled(request)
        self.intake.gone(request)

    def give(self, request: Request) -> None:
        """The request has left the engine."""
        taken = self._taken.pop(request)
        self.requests.used -= taken.requests
        self.tokens.used -= taken.tokens
        self.prefill.used -= taken.prefill
        self.intake.ended(request)
        if self._accepted is not None:
            # One more for as many as fit: others may have gone since. After a while it is forgotten.
            self._accepted += taken.requests / self._accepted
            if self._clock() - self._refused_at > REFUSAL_REMEMBERED_SECONDS:
                self._accepted = None
            self._set_limits()

    @property
    def _closed(self) -> bool:
        return self.paused or (self._learns and not (self.intake.free or self._idle))

    @property
    def _idle(self) -> bool:
        """Nothing has started, and little is sent."""
        return self.requests.used == self.intake.unstarted < IDLE_LIMIT

    def _tokens(self, request: Request) -> int:
        # A limit of the policy's is on what will be there, what is learned is of what has been.
        need, context = self._kv_need(request, reserved=not self._learns), self._report.context_tokens
        # An estimate may be of more than the engine ever holds.
        return need if context is None else min(need, context * request.sequences)

    def _prefilled(self, request: Request) -> None:
        taken = self._taken[request]
        self.prefill.used -= taken.prefill
        taken.prefill = 0

    def _set_limits(self) -> None:
        policy, report, intake = self._limits, self._report, self.intake
        batch_limit = report.batch_limit if report.batch_limit is not None else self._started_with
        known = policy, report, batch_limit, self._accepted, intake.probe, intake.level, intake.tokens_bind
        if known == self._known:
            return
        self._known = known
        self.requests.set(policy.max_requests, "policy")
        self.tokens.set(policy.max_tokens, "policy")
        self.prefill.set(policy.max_prefill_tokens, "policy")
        if not self._learns:
            return
        # One request more than fits stands in the engine's queue, and the probe beyond that.
        beyond, level = intake.probe, intake.level
        self.requests.set_least(
            (batch_limit and batch_limit + beyond, "engine"),
            (report.concurrency_limit, "engine"),
            (level.requests + beyond if level is not None else None, "learned"),
            (int(self._accepted) if self._accepted is not None else None, "learned"),
        )
        self.tokens.set_least(
            (report.kv_tokens, "engine"),
            (level.tokens if level is not None and intake.tokens_bind else None, "learned"),
        )
        self.tokens.over = beyond
