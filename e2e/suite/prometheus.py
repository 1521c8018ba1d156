"""Prometheus in the cluster: what it scrapes, its rules, and what they say. It is asked through the API server."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from suite.kubectl import Found, Json, Kubectl, until

# Of the one replica of the Prometheus `fairqueue`, as prometheus-operator calls it.
POD = "prometheus-fairqueue-0"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """In the namespace of `kubectl`."""

    kubectl: Kubectl

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer of its HTTP API."""
        there = f"/api/v1/namespaces/{self.kubectl.namespace}/pods/{POD}:9090/proxy/api/v1/{path}"
        return json.loads(self.kubectl.run("get", "--raw", f"{there}?{urlencode(query)}"))["data"]

    def values(self, query: str, label: str) -> dict[str, float]:
        """A query's values now, by a label of theirs."""
        return {it["metric"][label]: float(it["value"][1]) for it in self.ask("query", query=query)["result"]}

    def scraped(self, job: str) -> set[tuple[str, str]]:
        """Namespace and name of each pod that a job scrapes, and that answers."""
        targets = [it for it in self.ask("targets", state="active")["activeTargets"] if it["labels"]["job"] == job]
        return {(it["labels"]["namespace"], it["labels"]["pod"]) for it in targets if it["health"] == "up"}

    def rules(self) -> list[Json]:
        """All recording rules and alerts."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def groups(self) -> set[str]:
        """Of rules, by name."""
        return {it["name"] for it in self.ask("rules")["groups"]}

    def states(self, alert: str) -> set[str]:
        """In which states alerts of that name are; none where there is nothing to tell of."""
        return {it["state"] for it in self.ask("alerts")["alerts"] if it["labels"]["alertname"] == alert}

    def until(self, condition: Callable[[], Found | None], what: str, *, seconds: float = 60.0) -> Found:
        """As `until`, where its configuration or rules are to change: a kubelet looks for those once in a minute and a
        half, or when the pod is changed."""

        def looked() -> Found | None:
            nudge = f"fairqueue.dev/e2e-nudge={time.time_ns()}"
            self.kubectl.run("annotate", "pod", POD, "--overwrite", nudge)
            return condition()

        return until(looked, what, seconds=seconds, every=1)
