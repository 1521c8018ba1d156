"""One structured line for each metered request, and JSON lines for everything else that is logged."""

import logging
import sys
from typing import Any

from fairqueue_api.json_lines import JsonLines
from fairqueue_proxy.job import Job
from fairqueue_proxy.lines_at_once import LinesAtOnce

requests = logging.getLogger("fairqueue.requests")


def log_request(job: Job, now: float) -> None:
    """The line of one request: who, what, how it ended, what it was charged, how long it took."""
    if not requests.isEnabledFor(logging.INFO):
        return
    request = job.request
    fields: dict[str, Any] = {
        "request_id": job.request_id,
        "tenant": job.tenant.name,
        "route": job.route,
        "outcome": job.outcome.value if job.outcome else None,
        "status": job.status,
        "queue_seconds": round(job.queue_seconds, 4),
        "seconds": round(now - job.received_at, 4),
        "input_tokens": job.counted_input + job.counted_cached,
        "cached_input_tokens": job.counted_cached,
        "output_tokens": job.counted_output,
    }
    if job.first_token_at is not None:
        fields["ttft_seconds"] = round(job.first_token_at - job.received_at, 4)
    if job.observed or job.would_be is not None:
        fields["would_be"] = job.would_be.value if job.would_be else None
    if request is not None:
        fields["cost"] = request.charged / 1e6
    requests.info("request", extra={"fields": fields})


def log_refusal(request_id: str, route: str, outcome: str, status: int) -> None:
    """The line of a request that was refused before it had a tenant."""
    fields = {"request_id": request_id, "tenant": "", "route": route, "outcome": outcome, "status": status}
    requests.info("request", extra={"fields": fields})


def log_observed(request_id: str, route: str, would_be: str, status: int | None) -> None:
    """The line of a request that went to the engine as it was, and that the policy would have refused."""
    fields = {"request_id": request_id, "tenant": "", "route": route, "would_be": would_be, "status": status}
    requests.info("request", extra={"fields": fields})


def configure(level: int = logging.INFO) -> None:
    """All logging as JSON lines on standard error. A full disk or a closed pipe loses lines, never requests."""
    # What no line of ours says need not be found out for each (Python's logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = LinesAtOnce(sys.stderr.fileno())
    handler.setFormatter(JsonLines())
    logging.raiseExceptions = False
    logging.basicConfig(level=level, handlers=[handler], force=True)
