"""One request of a load run and what came of it, as its client saw it."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from fairqueue_proxy.outcome import Outcome as ProxyOutcome

CONNECTION_REFUSED: Final = "connection refused"
# Statuses by which an engine or a gateway says that it is broken, not that it refuses.
_FAILURE_STATUSES = frozenset({500, 502})
_REASONS = frozenset(outcome.value for outcome in ProxyOutcome)


class Outcome(Enum):
    """How a request ended, seen from the client."""

    COMPLETED = "completed"
    REFUSED = "refused"  # answered with an error before any token
    FAILED = "failed"  # no connection, a broken engine, or a stream that broke off
    UNFINISHED = "unfinished"  # still running when the run ended


@dataclass(slots=True)
class Reply:
    """Times are of the run's clock, in seconds. `reason` is the proxy's name for a refusal, where it told one."""

    sent_at: float
    ended_at: float
    first_token_at: float | None = None
    prompt_tokens: int | None = None  # None: the engine did not tell
    output_tokens: int = 0
    outcome: Outcome = Outcome.UNFINISHED
    detail: str = ""  # of a refusal or failure: a status or a cause, a few words
    retry_after_seconds: float | None = None
    reason: str = ""

    @property
    def ttft_seconds(self) -> float | None:
        return None if self.first_token_at is None else self.first_token_at - self.sent_at

    @property
    def problem(self) -> str:
        """What went wrong, for people: the status or cause, and the proxy's name for it."""
        return f"{self.detail} {self.reason}".rstrip()

    def count_token(self, now: float) -> None:
        if self.first_token_at is None:
            self.first_token_at = now
        self.output_tokens += 1

    def settle(self, output_tokens: int, prompt_tokens: int | None) -> None:
        """The engine's own counts, which replace the count of events, since an event may carry several tokens."""
        self.output_tokens = output_tokens
        self.prompt_tokens = prompt_tokens

    def end(self, outcome: Outcome, detail: str = "") -> None:
        self.outcome = outcome
        self.detail = detail

    def refuse(self, status: int, retry_after: str | None, body: Any) -> None:
        """Answered with an error status and a body, which is decoded JSON or None."""
        self.end(Outcome.FAILED if status in _FAILURE_STATUSES else Outcome.REFUSED, str(status))
        self.retry_after_seconds = _seconds(retry_after)
        self.reason = reason_in(body)

    def break_off(self) -> None:
        """The connection was lost."""
        self.end(Outcome.FAILED, "connection lost" if self.first_token_at is None else "stream broke off")

    def end_stream(self, *, whole: bool, error: str = "") -> None:
        """The stream is at its end; `error` names what it said in place of going on."""
        if error:
            began = self.first_token_at is not None
            self.end(Outcome.FAILED if began else Outcome.REFUSED, f"{error} in the stream")
        elif whole:
            self.end(Outcome.COMPLETED)
        elif self.first_token_at is None:
            self.end(Outcome.FAILED, "no event stream")
        else:
            self.end(Outcome.FAILED, "stream broke off")


def reason_in(body: Any) -> str:
    """The proxy's name for a refusal in a decoded error body or event, else "". Nothing else of a body is kept: it may
    quote a prompt or a key."""
    if not isinstance(body, dict):
        return ""
    reason = body.get("reason")
    if isinstance(reason, str) and reason in _REASONS:
        return reason
    return reason_in(body.get("error"))


def name_of(error: Any) -> str:
    """A status if an error event has one, else its kind: never its message, which may quote a prompt."""
    if isinstance(error, dict):
        for field in ("code", "http_status_code", "type"):
            if error.get(field):
                return str(error[field])[:40]
    return "error"


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is taken as absent."""
    return float(header) if header is not None and header.isascii() and header.isdigit() else None
