"""What one request has used so far, and what went wrong with it, in terms that no engine owns.

A `Usage` is written by one meter and read by whoever charges the tenant, between two events of the same reply.
Plain data, no locks: meter and reader share one thread.
"""

import enum
from dataclasses import dataclass


class ErrorKind(enum.Enum):
    """What an engine's error means for the charge and for a second try."""

    OVERLOADED = "overloaded"
    """The engine's own queue or semaphore was full. Nothing was done; the request may be sent again."""

    REFUSED = "refused"
    """The engine found a fault in the request. Nothing was generated, and a second try gets the same answer."""

    FAILED = "failed"
    """The engine broke down, or stopped after it had begun: work may have been done."""


@dataclass(frozen=True, slots=True)
class EngineError:
    """An error that the engine told, by status and body or by an event in the stream."""

    kind: ErrorKind
    message: str


@dataclass(slots=True)
class Usage:
    """Tokens of one request, over all its sequences (`n`, `best_of`, several prompts).

    While `error` is OVERLOADED or REFUSED, `output_tokens` is 0: an error of one prompt among several that do
    produce tokens is FAILED.
    """

    prompt_tokens: int | None = None
    """The engine's own count; a prompt sampled twice counts twice. None until every sequence has told its part."""

    cached_tokens: int = 0
    """How many of the prompt tokens came from the prefix cache, where the engine tells."""

    output_tokens: int = 0

    exact: bool = False
    """`output_tokens` is the engine's own count, or one event is one token. False: provisional, chunks were counted."""

    final: bool = False
    """The engine's last word on `output_tokens` has been read, for every sequence."""

    counted_tokens: int = 0
    """What was counted while the reply passed; `output_tokens - counted_tokens` at the end is the metering drift.
    Plain replies have none: both are equal."""

    malformed_events: int = 0
    """Events and bodies that were passed on without being understood."""

    error: EngineError | None = None
