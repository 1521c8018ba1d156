"""A line of the usage log: what one request was charged. No content: counts, names of the policy, how it ended."""

from datetime import UTC, datetime
from typing import Final

import msgspec

from fairqueue_api import Document
from fairqueue_proxy.job import Job
from fairqueue_proxy.scheduler import MICRO

MOST_ROUTE_CHARACTERS: Final = 200
"""Longer than any path that an engine serves."""


class UsageLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """As it is written. Token counts are disjoint, as `tokens_total` has them: their sum is what was charged.

    `policy` and `revision` were in force when the request came. `user` is a pseudonym.
    """

    time: str
    request_id: str
    policy: str
    revision: str
    tenant: str
    user: str = ""
    route: str
    model: str = ""
    outcome: str
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost: int | float


_encode = msgspec.json.Encoder().encode


def usage_line(job: Job, document: Document, user: str, ended_at: float) -> bytes:
    """The line of a request that has ended, at a wall clock's `ended_at`; empty if it was charged nothing."""
    request = job.request
    if request is None or not (request.charged or job.counted_input or job.counted_cached or job.counted_output):
        return b""
    units, rest = divmod(request.charged, MICRO)
    line = UsageLine(
        time=datetime.fromtimestamp(ended_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        request_id=job.request_id,
        policy=document.policy,
        revision=document.revision,
        tenant=job.tenant.name,
        user=user,
        # Bytes of a path that are no text have no place in JSON.
        route=job.route[:MOST_ROUTE_CHARACTERS].encode("utf-8", "backslashreplace").decode(),
        model=job.call.model if job.call is not None else "",
        outcome=job.outcome.value if job.outcome is not None else "",
        input_tokens=job.counted_input,
        cached_input_tokens=job.counted_cached,
        output_tokens=job.counted_output,
        cost=request.charged / MICRO if rest else units,
    )
    return _encode(line) + b"\n"
