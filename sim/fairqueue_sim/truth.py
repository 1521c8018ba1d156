"""The truth log: what the engine really did, for comparison with what a proxy in front of it believes.

Per request: when it arrived, when its prompt was prefilled, every token that was made, every token whose bytes were
handed to the socket, and how it ended. Kept in memory, written as JSON lines, or both. Times are those of the injected
monotonic clock. Lines are buffered and written by `flush()`, which the engine calls once a step, not once a token.
"""

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import BinaryIO

import msgspec

__all__ = ["Outcome", "RequestTruth", "TruthLog"]


class Outcome(Enum):
    """How a request ended: in full, by a client that left, by somebody who aborted it by its id, by a failure of the
    engine, or not taken at all."""

    DONE = "done"
    CANCELLED = "cancelled"
    ABORTED = "aborted"
    ERROR = "error"
    REFUSED = "refused"


def _times() -> "array[float]":
    return array("d")


@dataclass(slots=True)
class RequestTruth:
    """One request; `made` and `sent` have one time per token, in order, over all its prompts and copies."""

    number: int
    request_id: str | None
    path: str
    arrived_at: float
    prefilled_at: float | None = None
    prompt_tokens: int = 0
    made_tokens: int = 0
    sent_tokens: int = 0
    made: "array[float]" = field(default_factory=_times)
    sent: "array[float]" = field(default_factory=_times)
    ended_at: float | None = None
    outcome: Outcome | None = None


class TruthLog:
    """Collects the truth about every request; see the module."""

    def __init__(
        self, *, file: BinaryIO | None = None, keep: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.requests: list[RequestTruth] = []
        self._file = file
        self._keep = keep
        self._clock = clock
        self._lines: list[bytes] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, request_id: str) -> RequestTruth:
        """The newest request with that x-request-id; raises LookupError."""
        for request in reversed(self.requests):
            if request.request_id == request_id:
                return request
        raise LookupError(f"no request with x-request-id {request_id!r}")

    def arrived(self, request_id: str | None, path: str) -> RequestTruth:
        """A request's bytes are complete; the record returned is what the other calls want."""
        self._count += 1
        request = RequestTruth(self._count, request_id, path, self._clock())
        if self._keep:
            self.requests.append(request)
        if self._file is not None:
            fields = {"event": "arrived", "request": request.number, "request_id": request_id, "path": path}
            self._lines.append(msgspec.json.encode(fields | {"at": request.arrived_at}) + b"\n")
        return request

    def prefilled(self, request: RequestTruth, prompt_tokens: int) -> None:
        """A prompt of the request is in the KV cache (once per prompt and copy)."""
        now = self._clock()
        request.prompt_tokens += prompt_tokens
        if request.prefilled_at is None:
            request.prefilled_at = now
        if self._file is not None:
            line = b'{"event":"prefilled","request":%d,"prompt_tokens":%d,"at":%.6f}\n'
            self._lines.append(line % (request.number, prompt_tokens, now))

    def made(self, request: RequestTruth) -> None:
        """The engine has made one more token for the request."""
        now = self._clock()
        request.made_tokens += 1
        if self._keep:
            request.made.append(now)
        if self._file is not None:
            line = b'{"event":"made","request":%d,"token":%d,"at":%.6f}\n'
            self._lines.append(line % (request.number, request.made_tokens, now))

    def sent(self, request: RequestTruth, tokens: int) -> None:
        """The bytes of so many more tokens have been handed to the socket."""
        now = self._clock()
        if self._keep:
            request.sent.extend([now] * tokens)
        if self._file is not None:
            line = b'{"event":"sent","request":%d,"token":%d,"at":%.6f}\n'
            first = request.sent_tokens + 1
            self._lines.extend(line % (request.number, token, now) for token in range(first, first + tokens))
        request.sent_tokens += tokens

    def ended(self, request: RequestTruth, outcome: Outcome) -> None:
        """The request is over; only the first call counts."""
        if request.outcome is not None:
            return
        request.outcome = outcome
        request.ended_at = self._clock()
        if self._file is not None:
            fields = {
                "event": "ended",
                "request": request.number,
                "request_id": request.request_id,
                "outcome": outcome.value,
                "prompt_tokens": request.prompt_tokens,
                "made_tokens": request.made_tokens,
                "sent_tokens": request.sent_tokens,
                "at": request.ended_at,
            }
            self._lines.append(msgspec.json.encode(fields) + b"\n")

    def flush(self) -> None:
        """Writes the lines collected so far."""
        if self._file is not None and self._lines:
            self._file.write(b"".join(self._lines))
            self._file.flush()
            self._lines.clear()
