"""The dashboard for Grafana, as the file that is imported and as the ConfigMap that Grafana's sidecar picks up."""

import json
from textwrap import indent
from typing import Any, Final

from .cluster_panels import INJECTOR, OPERATOR
from .grafana import BLUE, DATASOURCE, RED, SCHEMA_VERSION, Row, laid_out
from .proxy_panels import CAPACITY, ENGINE, PROXY
from .tenant_panels import ENTITLEMENT, FAIRNESS, REFUSALS, TOKENS, now

Json = dict[str, Any]

UID: Final = "fairqueue"
FILE_NAME: Final = "fairqueue-dashboard.json"

_ALL: Final = {"selected": True, "text": ["All"], "value": ["$__all"]}


def rows(runbooks_url: str) -> tuple[Row, ...]:
    """From top to bottom."""
    return (
        now(runbooks_url),
        FAIRNESS,
        ENTITLEMENT,
        CAPACITY,
        ENGINE,
        REFUSALS,
        TOKENS,
        PROXY,
        OPERATOR,
        INJECTOR,
    )


def dashboard(runbooks_url: str) -> Json:
    """All of it; the same at each call."""
    return {
        "uid": UID,
        "title": "fairqueue",
        "description": "Who is served against who is entitled, who waits and how long, and what stands in the way.",
        "tags": ["fairqueue", "llm"],
        "schemaVersion": SCHEMA_VERSION,
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": _annotations()},
        "panels": laid_out(rows(runbooks_url)),
        "links": [],
    }


def dashboard_file(runbooks_url: str) -> str:
    """As Grafana imports it."""
    return json.dumps(dashboard(runbooks_url), indent=2) + "\n"


def dashboard_config_map(runbooks_url: str, namespace: str) -> str:
    """As the sidecar of Grafana's Helm charts finds it."""
    return _CONFIG_MAP.format(namespace=namespace) + indent(dashboard_file(runbooks_url), "    ")


_CONFIG_MAP: Final = """\
# Made by `make monitoring`: see monitoring/fairqueue_monitoring.
apiVersion: v1
kind: ConfigMap
metadata:
  name: fairqueue-dashboard
  namespace: {namespace}
  labels:
    grafana_dashboard: "1"
data:
  fairqueue-dashboard.json: |
"""


def _variables() -> list[Json]:
    policies, proxies = 'fairqueue_config_info{policy=~"$policy"}', 'instance=~"$instance"'
    return [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "options": [],
            "refresh": 1,
        },
        _chosen("policy", "Policy", "label_values(fairqueue_config_info, policy)", ".+"),
        # No expression for all: it is the proxies of the chosen policies.
        _chosen("instance", "Proxy", f"label_values({policies}, instance)", None),
        # Nobody known is the empty name.
        _chosen("tenant", "Tenant", f"label_values(fairqueue_service_total{{{proxies}}}, tenant)", ".*"),
    ]


def _chosen(name: str, label: str, query: str, all_value: str | None) -> Json:
    """Values of a label, several at once, looked up anew when the time range changes."""
    variable: Json = {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"variable-{name}"},
        "current": _ALL,
        "options": [],
        "includeAll": True,
        "multi": True,
        "refresh": 2,
        "sort": 1,
    }
    return variable if all_value is None else {**variable, "allValue": all_value}


def _annotations() -> list[Json]:
    revisions = 'max by (policy, revision) (fairqueue_config_info{policy=~"$policy"}'
    return [
        _annotation(
            "Alerts",
            RED,
            'max by (alertname, severity, tenant) (ALERTS{alertname=~"Fairqueue.*",alertstate="firing"})',
            "{{alertname}} {{tenant}}",
        ),
        _annotation("Revisions", BLUE, f"{revisions}) unless {revisions} offset 2m)", "{{policy}}: a new revision"),
    ]


def _annotation(name: str, colour: str, expression: str, title: str) -> Json:
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": colour,
        "expr": expression,
        "step": "30s",
        "titleFormat": title,
    }
