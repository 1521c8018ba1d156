"""Panels about operator and injector, which are there on Kubernetes only."""

from typing import Final

from .alerts import INJECTORS, OPERATORS
from .grafana import GREEN, ORANGE, RED, Panel, Query, Row, number
from .selecting import all_seconds, rate

# One replica works; when another takes over, both may be read for a moment.
_READY: Final = "max by (cluster, policy, reason) (fairqueue_operator_policy_ready)"
_PODS: Final = "max by (cluster, policy, state) (fairqueue_operator_pods)"
_LOOK_IF_ANY: Final = ((None, GREEN), (1.0, ORANGE))

OPERATOR: Final = Row(
    "Operator",
    (
        number("Operators", "Replicas that Prometheus reads.", f"sum(up{{{OPERATORS}}})"),
        number(
            "Leading",
            "Whether a replica works: none does for some seconds when that one dies.",
            "max by (cluster) (fairqueue_operator_leading)",
            steps=((None, RED), (1.0, GREEN)),
        ),
        number("Policies waiting", "Policies that wait to be looked at.", "max(fairqueue_operator_queue_length)"),
        number(
            "Policies not ready",
            "Policies that are not Ready, those without pods among them.",
            f"count({_READY} == 0) or vector(0)",
            steps=_LOOK_IF_ANY,
        ),
        number(
            "Orphaned pods",
            "Pods whose policy was deleted: they keep its last order.",
            "max(fairqueue_operator_orphaned_pods)",
            steps=_LOOK_IF_ANY,
        ),
        number(
            "Last full list",
            "Time since everything was listed, which is done every five minutes.",
            "time() - max(fairqueue_operator_last_list_timestamp_seconds)",
            unit="s",
            steps=((None, GREEN), (1200.0, RED)),
        ),
        Panel(
            "Policies",
            "By the reason of the condition Ready.",
            "short",
            (Query(f"count by (reason) ({_READY})", "{{reason}}"),),
            width=6,
            stacked=True,
        ),
        Panel(
            "Pods",
            "Those that policies select, of these without the label, with the proxy, started, on the newest revision.",
            "short",
            (Query(f"sum by (state) ({_PODS})", "{{state}}"),),
            width=6,
        ),
        Panel(
            "Time to reconcile",
            "From taking up a policy to having done what it needed: 99 of 100 times sooner; dashed: the mean.",
            "s",
            all_seconds("fairqueue_operator_reconcile_seconds", "reconcile"),
            width=6,
        ),
        Panel(
            "Errors and writes",
            "Times a second that a policy could not be brought into force, and writes to the API server.",
            "cps",
            (
                Query(f"sum({rate('fairqueue_operator_reconcile_errors_total')})", "errors"),
                Query(f"sum by (what) ({rate('fairqueue_operator_writes_total')})", "writes: {{what}}"),
            ),
            width=6,
        ),
    ),
)

INJECTOR: Final = Row(
    "Injector",
    (
        number("Injectors", "Replicas that Prometheus reads.", f"sum(up{{{INJECTORS}}})"),
        number(
            "Pods without a proxy",
            "Pods that ask for the proxy and have none.",
            "max(fairqueue_injector_bare_pods)",
            steps=_LOOK_IF_ANY,
        ),
        number(
            "Certificate",
            "Days until the certificate that is served ends.",
            "(min(fairqueue_certificate_not_after_seconds > 0) - time()) / 86400",
            unit="d",
            steps=((None, RED), (14.0, GREEN)),
        ),
        Panel(
            "Decisions",
            "Pods decided on a second, by decision; dry runs count too.",
            "cps",
            (Query(f"sum by (decision) ({rate('fairqueue_injector_decisions_total')}) > 0", "{{decision}}"),),
            width=6,
            stacked=True,
        ),
        Panel(
            "Time to decide",
            "From an admission request to its answer: 99 of 100 sooner, of 5 s that there are; dashed: the mean.",
            "s",
            all_seconds("fairqueue_injector_admission_seconds", "admission"),
            width=6,
        ),
    ),
)
