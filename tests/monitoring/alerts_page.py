"""Writes docs/alerts.md: each alert with its runbook, the cases that `promtool test rules` was given, and what became
of it in front of real proxies (`seen_firing.json`, which `test_firing.py` writes).

    python tests/monitoring/alerts_page.py [build/alerts/firing.json]      # takes over what was seen last, if given
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from fairqueue_monitoring.alerts import Alert, Severity
from fairqueue_monitoring.durations import Durations
from fairqueue_monitoring.rule_files import Rules
from monitoring.rule_cases import CASES

PAGE: Final = Path(__file__).parents[2] / "docs" / "alerts.md"
SEEN: Final = Path(__file__).with_name("seen_firing.json")

_HEAD: Final = """\
# Alerts

Made by `make monitoring` from `monitoring/fairqueue_monitoring` and from what the tests saw.
`manifests/monitoring/fairqueue-proxies.rules.yaml` is for any proxy, `fairqueue-kubernetes.rules.yaml` for operator and
injector; both are a `PrometheusRule` in `manifests/components/monitoring`. They need the job names `fairqueue-proxy`,
`fairqueue-operator` and `fairqueue-injector` ([how to scrape](metrics.md)).

`critical`: users feel it now. `warning`: they will. `info`: it explains what a tenant sees.

    python -m fairqueue_monitoring --rules /etc/prometheus/rules --runbooks https://wiki.example/fairqueue

writes the rules with links to where you keep the runbooks.

## From a firing alert to its cause

The alert's labels name the proxy (`namespace`, `pod`, or `instance`) and the tenant, or the policy. Then three
commands, which each runbook has for its own case:

    kubectl fairqueue status -n NAMESPACE                                    # 1. policies and pods as they should be?
    kubectl -n NAMESPACE port-forward POD 9821 & sleep 1                     # 2. ask that proxy
    curl -s localhost:9821/-/queue | jq '.capacity, .queued[:5]'             # 3. who waits, behind whom, and why

"""

_TABLE: Final = """\
## Which there are

| alert | severity | must last | fires when, in tests | and not when | seen firing after, and ending after |
| --- | --- | ---: | --- | --- | --- |
"""

_FOOT: Final = """
*In tests*: with series of samples, by `promtool test rules`. *Seen*: a real Prometheus and Alertmanager scraped
real proxies in front of the simulator, with every duration divided by {factor}; a fault was brought about and taken
away, and this is how long after each it fired and ended, in seconds (times {factor} with the rules as they are).
"""


def page(seen: Mapping[str, Any]) -> str:
    """The whole text."""
    rows = "".join(_row(alert, seen["alerts"].get(alert.name)) for alert in Rules().alerts)
    return _HEAD + _TABLE + rows + _FOOT.format(factor=seen["factor"])


def seen_firing() -> Mapping[str, Any]:
    """`{"factor": 60, "alerts": {NAME: {"fired_seconds": …, "resolved_seconds": …}}}`"""
    return dict(json.loads(SEEN.read_text()))


def _row(alert: Alert, seen: Mapping[str, float] | None) -> str:
    cases = CASES[alert.name]
    link = f"[{alert.name}](runbooks/{alert.name}.md)"
    severity = f"**{alert.severity}**" if alert.severity is Severity.CRITICAL else str(alert.severity)
    fires = "; ".join(case.title for case in cases.fires)
    misses = "; ".join(cases.misses)
    live = f"{seen['fired_seconds']:.0f} s, {seen['resolved_seconds']:.0f} s" if seen else "not yet"
    return f"| {link} | {severity} | {Durations()(alert.lasting)} | {fires} | {misses} | {live} |\n"


def _take_over(record: Path) -> None:
    found = json.loads(record.read_text())
    kept = {
        name: {part: seen[part] for part in ("fired_seconds", "resolved_seconds")}
        for name, seen in found["alerts"].items()
    }
    SEEN.write_text(json.dumps({"factor": found["factor"], "alerts": kept}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        _take_over(Path(sys.argv[1]))
    PAGE.write_text(page(seen_firing()))
