"""How requests end: one closed enumeration for the log line, the metric label and the HTTP status.

The only place where statuses of our own refusals are decided.
"""

import enum


class Outcome(enum.Enum):
    """Every request ends in exactly one of these; the value is the metric label and the log field."""

    COMPLETED = "completed"
    CLIENT_GONE = "client_gone"
    ENGINE_ERROR = "engine_error"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN_ROUTE = "forbidden_route"
    BAD_REQUEST = "bad_request"
    TENANT_QUEUE_FULL = "tenant_queue_full"
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    TOO_LARGE = "too_large"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    UNCONFIGURED = "unconfigured"
    DRAINING = "draining"


STATUS = {
    Outcome.ENGINE_ERROR: 502,
    Outcome.UNAUTHENTICATED: 401,
    Outcome.FORBIDDEN_ROUTE: 403,
    Outcome.BAD_REQUEST: 400,
    Outcome.TENANT_QUEUE_FULL: 429,
    Outcome.QUEUE_FULL: 503,
    Outcome.QUEUE_TIMEOUT: 504,
    Outcome.TOO_LARGE: 413,
    Outcome.ENGINE_UNAVAILABLE: 503,
    Outcome.UNCONFIGURED: 503,
    Outcome.DRAINING: 503,
}
"""The usual status of a refusal; `BAD_REQUEST` (408) and `TOO_LARGE` (422) have a second one."""

RETRY_LATER = frozenset(
    {
        Outcome.TENANT_QUEUE_FULL,
        Outcome.QUEUE_FULL,
        Outcome.ENGINE_UNAVAILABLE,
        Outcome.UNCONFIGURED,
        Outcome.DRAINING,
    }
)
"""Refusals that carry Retry-After."""

NO_RETRY = frozenset({Outcome.QUEUE_TIMEOUT, Outcome.TOO_LARGE})
"""Refusals that say `x-should-retry: false`."""


class Refused(Exception):
    """We refuse a request: why, what the client is told, and with which status."""

    def __init__(self, outcome: Outcome, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.status = STATUS[outcome] if status is None else status
