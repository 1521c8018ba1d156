"""Writes docs/metrics.md: every metric with its labels and its meaning, as the code that shows it says."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from fairqueue_operator.injector_metrics import InjectorMetrics
from fairqueue_operator.operator_metrics import OperatorMetrics, PolicyFigures
from fairqueue_proxy.metric_families import FAMILIES
from fairqueue_proxy.process_metrics import PROCESS_FAMILIES

from .recording import Recording
from .rule_files import Rules

_HEAD: Final = """\
# Metrics

Made by `make monitoring` from the code that shows them. What to make of them: [alerts](alerts.md),
[the dashboard](dashboard.md).

## How Prometheus reads them

On Kubernetes with prometheus-operator, `kubectl apply -k manifests/overlays/monitoring` brings PodMonitors with these
job names. Any other Prometheus is told so; rules and dashboard rely on the names of the jobs, and on nothing else:

```yaml
scrape_configs:
- job_name: fairqueue-proxy          # the admin port of each proxy
  static_configs:
  - targets: ["10.0.0.7:9820", "10.0.0.8:9820"]
- job_name: fairqueue-operator       # on Kubernetes only: the plain HTTP port of each replica
  static_configs:
  - targets: ["10.0.1.2:8080"]
- job_name: fairqueue-injector
  static_configs:
  - targets: ["10.0.1.3:8080"]
rule_files:
- fairqueue-proxies.rules.yaml       # manifests/monitoring
- fairqueue-kubernetes.rules.yaml    # with operator and injector
```

Every 15 or 30 seconds will do: counters lose nothing between two scrapes. A proxy writes its page in slices, between
which streams go on.

## What to know of them

- **Labels are bounded.** `tenant` is a tenant of the policy, `anonymous` for those who belong to none, `other` for all
  who are in force no more, or empty where nobody is known (a wrong key, a route that is refused). However many
  identities clients invent, there are no more. `group` is a group of the policy, the root is empty. `policy` is
  namespace/name. All other labels have fixed values.
- **Counters start at 0**: each tenant's tokens, service, completed requests and those that were refused for want of
  room are there before its first request. Other outcomes appear when they happen, and a histogram when it has
  something in it; until then it is left out.
- **Counters begin anew when a proxy is restarted**; `rate()` and `increase()` allow for that. Never sum before them.
- **Each proxy has its own series.** Shares of a policy are sums over its proxies, which `fairqueue_config_info` knows:
  see `fairqueue:policy_tenant_service:rate5m` below.
- Cost units are what [the policy says](policy.md) that input and output tokens cost: by default 1 and 2.

| label | values |
| --- | --- |
| `outcome` | [how requests end](operations.md#how-requests-end) |
| `kind` | `input` (read by the engine), `cached_input` (in its cache), `output` |
| `budget` | [`requests`, `tokens`, `prefill`, `unstarted`](backpressure.md) |
| `source` | `policy`, `engine` (it reports that), `learned` |
| `direction` | `under`, `over`: counted too little, too much |
| `mode` | `Enforce`, [`Observe`](observe.md) |
| `what` | `document`, `status`, `nudge` |
| `decision` | [what the injector decides](injector.md#decisions) |
"""

_PROXY: Final = """
## The proxy

On its admin port (9820). The last four are of the process, by the names that Prometheus' libraries have for them;
where there is no `/proc` only its CPU time is there. Those of the usage log are there when one is written.

"""

_OPERATOR: Final = """
## The operator

On port 8080 of each replica. [What it does](operator.md). One that stands by has them too, at 0, but for those of
policies.

"""

_INJECTOR: Final = """
## The injector

On port 8080 of each replica. [What it does](injector.md).

"""

_RECORDINGS: Final = """
## Recorded

By the rules in `manifests/monitoring/fairqueue-proxies.rules.yaml`, for alerts and for the dashboard. A name says what
is kept apart (a `tenant` in a proxy, a `policy_tenant` over all its proxies), of what it is, and over which time.

| series | what |
| --- | --- |
"""

_TABLE: Final = "| metric | kind | labels | what |\n| --- | --- | --- | --- |\n"


@dataclass(frozen=True, slots=True)
class Described:
    """A metric: its full name, a histogram's without `_bucket` and without the label `le`."""

    name: str
    kind: str
    labels: Sequence[str]
    text: str


def proxy_metrics() -> list[Described]:
    """Those of a proxy, in the order in which they are shown."""
    return [Described(it.name, it.kind.value, it.labels, it.text) for it in (*FAMILIES, *PROCESS_FAMILIES)]


def operator_metrics() -> list[Described]:
    """Those of an operator."""
    metrics = OperatorMetrics()
    # What is there of each policy has labels only where there is one.
    metrics.read_at_scrape(int, lambda: [PolicyFigures("namespace/name", True, "Ready", {})], int)
    return described(metrics.text().decode())


def injector_metrics() -> list[Described]:
    """Those of an injector."""
    return described(InjectorMetrics().text().decode())


def described(exposed: str) -> list[Described]:
    """What a page of metrics shows; a family without samples has no labels."""
    found = []
    for family in text_string_to_metric_families(exposed):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found.append(Described(name, family.type, sorted(labels), family.documentation))
    return found


def metrics_page(rules: Rules) -> str:
    """The whole text."""
    return "".join(
        [
            _HEAD,
            _PROXY,
            _table(proxy_metrics()),
            _OPERATOR,
            _table(operator_metrics()),
            _INJECTOR,
            _table(injector_metrics()),
            _RECORDINGS,
            *map(_recorded, rules.recordings),
        ]
    )


def _table(metrics: Iterable[Described]) -> str:
    return _TABLE + "".join(_row(it) for it in metrics)


def _row(metric: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.text} |\n"


def _recorded(rule: Recording) -> str:
    return f"| `{rule.name}` | {rule.text} |\n"
