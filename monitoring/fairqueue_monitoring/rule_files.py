"""The rules as files: for Prometheus itself, and as the PrometheusRule of prometheus-operator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from .alerts import Alert, kubernetes_alerts, proxy_alerts
from .durations import Durations
from .recording import Recording, recordings

RUNBOOKS_URL: Final = "https://fairqueue.dev/runbooks"
"""Where the pages of `docs/runbooks` are read, unless said otherwise."""

_MADE: Final = "# Made by `make monitoring`: see monitoring/fairqueue_monitoring.\n"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules. Every duration in them is divided by `factor`; runbooks are below `runbooks_url`."""

    factor: float = 1.0
    runbooks_url: str = RUNBOOKS_URL

    @property
    def _duration(self) -> Durations:
        return Durations(self.factor)

    @property
    def recordings(self) -> Sequence[Recording]:
        """In order."""
        return recordings(self._duration)

    @property
    def alerts(self) -> Sequence[Alert]:
        """Of proxies and of the cluster."""
        return [*proxy_alerts(self._duration), *kubernetes_alerts(self._duration)]

    def proxy_groups(self) -> list[Json]:
        """What proxies give reason for, in pods or not."""
        rules = [{"record": it.name, "expr": it.expression} for it in self.recordings]
        return [
            {"name": "fairqueue-recording", "rules": rules},
            {"name": "fairqueue-proxies", "rules": [self._rule(it) for it in proxy_alerts(self._duration)]},
        ]

    def kubernetes_groups(self) -> list[Json]:
        """What operator and injector give reason for."""
        rules = [self._rule(it) for it in kubernetes_alerts(self._duration)]
        return [{"name": "fairqueue-kubernetes", "rules": rules}]

    def _rule(self, alert: Alert) -> Json:
        return {
            "alert": alert.name,
            "expr": alert.expression,
            "for": self._duration(alert.lasting),
            "labels": {"severity": alert.severity.value},
            "annotations": {
                "summary": alert.summary,
                "description": alert.description,
                "runbook_url": f"{self.runbooks_url}/{alert.name}",
            },
        }


def rule_file(groups: Sequence[Json]) -> str:
    """As Prometheus reads it (`rule_files`)."""
    return _MADE + _yaml({"groups": list(groups)})


def prometheus_rule(rules: Rules, namespace: str) -> str:
    """As prometheus-operator reads it."""
    return _MADE + _yaml(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "fairqueue", "namespace": namespace},
            "spec": {"groups": [*rules.proxy_groups(), *rules.kubernetes_groups()]},
        }
    )


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def _yaml(data: Json) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
