"""How much the engine can take at once, so that its own queue stays short: three budgets, each judged by itself.

Pure: told what starts, what begins to answer and what ends, and asked whether a request fits. A limit comes from
the policy, else from what the engine reports, else from a default; a budget without a limit always fits.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fairqueue_proxy.scheduler import Request

DEFAULT_REQUESTS = 32
"""Used where the engine reports no true batch limit: about what fits beside each other in a 24 GB GPU."""

KvNeed = Callable[[Request], int]
"""KV-cache tokens that the engine sets aside for a request when it starts it."""


@dataclass(slots=True)
class Budget:
    """One limited thing. `limit` None means unlimited."""

    name: str
    limit: int | None = None
    source: str = "none"
    used: int = 0

    def fits(self, need: int) -> bool:
        """A need above the whole limit fits when nothing else uses the budget: else it would wait for ever."""
        return self.limit is None or self.used + need <= self.limit or self.used == 0

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


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What an engine says of itself; None where it does not say.

    `batch_limit` is a true limit on requests running at once (llama.cpp's slots), `concurrency_limit` only how many
    it accepts (TGI's semaphore). `context_tokens` is the most that one sequence can have, prompt and output; requests
    of more than `most_sequences` are refused by the engine.
    """

    batch_limit: int | None = None
    concurrency_limit: int | None = None
    context_tokens: int | None = None
    most_sequences: int | None = None


class Capacity:
    """The budgets of one engine. `take` when a request starts, `give` at its end, exactly once each."""

    def __init__(self, limits: Limits, kv_need: KvNeed) -> None:
        self._limits = limits
        self._kv_need = kv_need
        self._report = EngineReport()
        self._taken: dict[Request, tuple[int, int, int]] = {}
        self.paused = False
        self.requests = Budget("requests")
        self.tokens = Budget("tokens")
        self.prefill = Budget("prefill")
        self.apply(limits, kv_need)

    @property
    def budgets(self) -> tuple[Budget, Budget, Budget]:
        """Requests, KV tokens, prefill tokens."""
        return self.requests, self.tokens, self.prefill

    def apply(self, limits: Limits, kv_need: KvNeed) -> None:
        """What the policy sets, from now on."""
        self._limits, self._kv_need = limits, kv_need
        for budget, limit in ((self.tokens, limits.max_tokens), (self.prefill, limits.max_prefill_tokens)):
            budget.limit, budget.source = limit, "policy" if limit is not None else "none"
        self.report(self._report)

    def report(self, report: EngineReport) -> None:
        """Takes in what the engine says of itself; what the policy sets stands."""
        self._report = report
        requests, policy = self.requests, self._limits.max_requests
        if policy is not None:
            requests.limit, requests.source = policy, "policy"
        elif report.batch_limit is not None:
            requests.limit, requests.source = report.batch_limit, "engine"
        else:
            accepted = report.concurrency_limit if report.concurrency_limit is not None else DEFAULT_REQUESTS
            requests.limit, requests.source = min(DEFAULT_REQUESTS, accepted), "default"

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
        if self.paused:
            return False
        needs = self._needs(request)
        return all(budget.fits(need) for budget, need in zip(self.budgets, needs, strict=True))

    def take(self, request: Request) -> None:
        """The request starts."""
        needs = self._needs(request)
        self._taken[request] = needs
        for budget, need in zip(self.budgets, needs, strict=True):
            budget.used += need

    def answered(self, request: Request) -> None:
        """The request's first token is there: its prefill is over."""
        requests, tokens, prefill = self._taken[request]
        self.prefill.used -= prefill
        self._taken[request] = requests, tokens, 0

    def give(self, request: Request) -> None:
        """The request has left the engine."""
        for budget, need in zip(self.budgets, self._taken.pop(request), strict=True):
            budget.used -= need

    def _needs(self, request: Request) -> tuple[int, int, int]:
        return request.sequences, self._kv_need(request), request.prompt_tokens
