"""What must be true of all lives together, of each life, and of each tenant."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from lives import Life

from fairqueue_sim import RequestTruth
from fairqueue_sim.truth import Outcome as TruthOutcome

GRACE_SECONDS = 0.05
NOT_DISPATCHED = {
    "unauthenticated",
    "forbidden_route",
    "bad_request",
    "tenant_queue_full",
    "queue_full",
    "queue_timeout",
    "too_large",
    "draining",
}


def log_lines(path: Path, *, expected_error: str | None = None) -> dict[str, dict[str, Any]]:
    """The proxy's request lines by request id; each id exactly once. No errors are logged but those that are expected,
    by how their messages begin."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    broken = [line for line in lines if line["level"] in ("error", "critical")]
    unexpected = [line for line in broken if expected_error is None or not line["message"].startswith(expected_error)]
    assert not unexpected, unexpected[0]
    requests = [line for line in lines if line["message"] == "request"]
    counted = Counter(line["request_id"] for line in requests)
    twice = [identifier for identifier, count in counted.items() if count > 1]
    assert not twice, f"more than one outcome: {twice[:5]}"
    return {line["request_id"]: line for line in requests}


def check_life(life: Life, line: dict[str, Any], truths: list[RequestTruth]) -> None:
    """One life against its log line and against what the engine really did. Prices are the default ones."""
    outcome, output, cost = line["outcome"], line.get("output_tokens", 0), line.get("cost", 0)
    taken = [truth for truth in truths if truth.outcome is not TruthOutcome.REFUSED]
    where = f"{life}\n{line}\n{truths}"
    # Who stays gets a whole reply, whatever it says.
    assert life.complete or life.closed_at is not None, where
    assert cost == line.get("input_tokens", 0) + 2 * output, where
    if not taken:
        assert not cost, where
    if life.status is not None and outcome != "client_gone":
        assert life.status == line["status"], where
    if outcome in NOT_DISPATCHED:
        assert not taken, where
    elif outcome == "completed":
        (truth,) = taken
        assert truth.outcome is TruthOutcome.DONE, where
        assert (line["input_tokens"], output) == (truth.prompt_tokens, truth.made_tokens), where
    elif outcome == "engine_error":
        assert all(truth.outcome is TruthOutcome.ERROR for truth in taken), where
        if life.streamed:
            assert output == sum(truth.sent_tokens for truth in taken), where
        else:
            # What a plain reply that failed has made is not told: its time is charged, up to its longest output.
            assert output <= life.most_output_tokens, where
    else:
        assert outcome == "client_gone", where
        assert life.closed_at is not None, where
        sent = [at for truth in truths for at in truth.sent]
        assert output <= len(sent), where
        if life.streamed:
            sure = sum(at < life.closed_at - GRACE_SECONDS for at in sent)
            assert output >= sure, f"{output} < {sure}\n{where}"


def check_totals(lines: dict[str, dict[str, Any]], metrics: str) -> None:
    """The counters of /metrics against the log lines, tenant by tenant."""
    outcomes: Counter[tuple[str, str]] = Counter()
    tokens: Counter[tuple[str, str]] = Counter()
    service: Counter[str] = Counter()
    for line in lines.values():
        outcomes[line["tenant"], line["outcome"]] += 1
        if line["tenant"]:
            tokens[line["tenant"], "input"] += line["input_tokens"]
            tokens[line["tenant"], "output"] += line["output_tokens"]
            service[line["tenant"]] += line.get("cost", 0)
    for tenant, outcome, count in re.findall(r'requests_total{tenant="(.*?)",outcome="(.*?)"} (\S+)', metrics):
        assert outcomes[tenant, outcome] == int(count), (tenant, outcome)
        del outcomes[tenant, outcome]
    assert not outcomes, outcomes
    for tenant, kind, count in re.findall(r'tokens_total{tenant="(.*?)",kind="(.*?)"} (\S+)', metrics):
        assert tokens[tenant, kind] == int(count), (tenant, kind)
    for tenant, cost in re.findall(r'service_total{tenant="(.*?)"} (\S+)', metrics):
        if f'entitled_service_total{{tenant="{tenant}"}} {cost}' not in metrics:
            assert abs(service[tenant] - float(cost)) < 0.5, tenant


def check_nothing_left(metrics: str, queue: dict[str, Any]) -> None:
    """Nobody waits and nothing is in the engine."""
    assert queue["queued"] == [], queue
    assert queue["in_flight"] == [], queue
    for name in ("in_flight_requests", "queue_requests", "capacity_used"):
        values = re.findall(rf"^fairqueue_{name}{{.*}} (\S+)$", metrics, re.MULTILINE)
        assert values, name
        assert {float(value) for value in values} == {0.0}, name


def check_gap(metrics: str) -> None:
    """In every group the gap is within its bound."""
    gaps = dict(re.findall(r'fairness_gap{group="(.*?)"} (\S+)', metrics))
    bounds = dict(re.findall(r'fairness_bound{group="(.*?)"} (\S+)', metrics))
    assert gaps
    for group, gap in gaps.items():
        assert float(gap) <= float(bounds[group]) * (1 + 1e-9), (group, gap, bounds[group])
