"""The alerts. What each means and what to do is in its runbook, `docs/runbooks/NAME.md`.

Whoever is paged at night should be able to do something about it: `critical` is for what users feel now, `warning` for
what they will, `info` for what a tenant should hear.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .durations import DAY, HOUR, MINUTE, Durations
from .recording import metering_drift

PROXIES: Final = 'job="fairqueue-proxy"'
INJECTORS: Final = 'job="fairqueue-injector"'
OPERATORS: Final = 'job="fairqueue-operator"'


_RUNNING: Final = (
    '(sum by (cluster) (max by (cluster, policy) (fairqueue_operator_pods{state="started"}))'
    " + max by (cluster) (fairqueue_operator_orphaned_pods))"
)


class Severity(StrEnum):
    """Who should hear of it, and when."""

    CRITICAL = "critical"
    """A person, now."""
    WARNING = "warning"
    """A person, in working hours."""
    INFO = "info"
    """Nobody is woken; it explains what is seen."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. `lasting` is how long it must hold, in seconds at factor 1. `summary` and `description` are templates
    (Prometheus, "Alerting rules")."""

    name: str
    severity: Severity
    lasting: float
    expression: str
    summary: str
    description: str


def proxy_alerts(duration: Durations) -> Sequence[Alert]:
    """Those that any proxy gives reason for, in a pod or not."""
    half_hour = duration(30 * MINUTE)
    return [
        Alert(
            "FairqueueTenantStarved",
            Severity.CRITICAL,
            5 * MINUTE,
            "fairqueue:tenant_backlogged:ratio5m > 0.9"
            "\nand fairqueue:tenant_service:rate5m < 0.2 * fairqueue:tenant_entitled_service:rate5m"
            # Not just the wait for others' long requests: between two counters lies one bound at the most, both when
            # the wait begins and when it ends. Bounds are large where requests may be long: nothing at all for half
            # an hour will do, too.
            "\nand (fairqueue:tenant_owed_to_bound:ratio > 2"
            f" or (increase(fairqueue_service_total[{half_hour}]) == 0"
            f" and rate(fairqueue_backlogged_seconds_total[{half_hour}]) > 0.95))"
            "\nand ignoring (tenant) (max without (tenant)"
            " (fairqueue:tenant_service:rate5m - fairqueue:tenant_entitled_service:rate5m) > 0)"
            "\nunless ignoring (tenant) fairqueue:observing:max10m",
            "Tenant {{ $labels.tenant }} waits while others are served its share",
            "At {{ $labels.instance }} it has had requests waiting all the time and got less than a fifth of what it is"
            " entitled to.",
        ),
        Alert(
            "FairqueueShareBelowEntitlement",
            Severity.WARNING,
            10 * MINUTE,
            "fairqueue:tenant_owed_to_bound:ratio > 2\nunless ignoring (tenant) fairqueue:observing:max10m",
            "Tenant {{ $labels.tenant }} gets less than its share",
            "At {{ $labels.instance }} it has had requests waiting all the time, and is owed {{ $value | humanize }}"
            " times the bound of a fair order.",
        ),
        Alert(
            "FairqueueGapAboveBound",
            Severity.CRITICAL,
            MINUTE,
            # A gap is there only while two wait: the largest of five minutes, which no bound of theirs is below.
            f"max_over_time(fairqueue_fairness_gap[{duration(5 * MINUTE)}])"
            f"\n> max_over_time(fairqueue_fairness_bound[{duration(5 * MINUTE)}])"
            "\nunless ignoring (group) fairqueue:observing:max10m",
            "The order is not fair any more: counters are further apart than they can be",
            "At {{ $labels.instance }}, in group {{ if $labels.group }}{{ $labels.group }}{{ else }}(root){{ end }}."
            " This is a defect of fairqueue, whatever the traffic is.",
        ),
        Alert(
            "FairqueueEngineQueueForming",
            Severity.WARNING,
            10 * MINUTE,
            # Some requests always stand between two steps of an engine: four, or a quarter of what runs.
            f"avg_over_time(fairqueue_engine_waiting_requests[{duration(5 * MINUTE)}]) > 4"
            f"\nand avg_over_time(fairqueue_engine_waiting_requests[{duration(5 * MINUTE)}])"
            f" > 0.25 * avg_over_time(fairqueue_engine_running_requests[{duration(5 * MINUTE)}])"
            "\nunless fairqueue:observing:max10m",
            "Requests queue inside the engine, where their order is not ours",
            "At {{ $labels.instance }} {{ $value | humanize }} requests wait in the engine on average.",
        ),
        Alert(
            "FairqueueMeteringDrift",
            Severity.WARNING,
            10 * MINUTE,
            # Not because of two or three odd requests of a quiet hour.
            f"fairqueue:metering_drift:ratio15m > 0.05 and {metering_drift(duration(15 * MINUTE))} > 100",
            "Tokens counted while streaming differ from what the engine says at the end",
            "At {{ $labels.instance }} by {{ $value | humanizePercentage }}. Charges are put right at the end of each"
            " request; until then the order is off by as much.",
        ),
        Alert(
            "FairqueueConfigRefused",
            Severity.WARNING,
            5 * MINUTE,
            "fairqueue_config_refused == 1",
            "A proxy refuses its newest configuration and goes on with the last good one",
            "{{ $labels.instance }} says why at /-/config, under problem.",
        ),
        Alert(
            "FairqueueConfigStale",
            Severity.WARNING,
            10 * MINUTE,
            "count by (cluster, policy) (count by (cluster, policy, revision) (fairqueue_config_info)) > 1",
            "Proxies of policy {{ $labels.policy }} work by different revisions of it",
            "{{ $value }} revisions have been in force at once for ten minutes.",
        ),
        Alert(
            "FairqueueCapacityStuckLow",
            Severity.WARNING,
            10 * MINUTE,
            "fairqueue:idle_capacity:ratio5m > 0.5 unless fairqueue:capacity_used:ratio5m > 0.75",
            "Part of the engine is idle while requests wait for it",
            "At {{ $labels.instance }} for {{ $value | humanizePercentage }} of the time.",
        ),
        Alert(
            "FairqueueRefusalsBurning",
            Severity.WARNING,
            2 * MINUTE,
            # Two windows: it is still so, and it was no single burst (Site Reliability Workbook, "Alerting on SLOs").
            # And enough of them that it is worth a person's time, however few requests there are.
            "fairqueue:refused_requests:ratio5m > 0.05 and fairqueue:refused_requests:ratio1h > 0.05"
            "\nand fairqueue:refused_requests:increase1h > 10",
            "Requests are refused because there is not enough of the engine",
            "{{ $labels.instance }} refuses {{ $value | humanizePercentage }}.",
        ),
        Alert(
            "FairqueueTenantAtItsLimit",
            Severity.INFO,
            10 * MINUTE,
            "sum without (outcome) (rate(fairqueue_requests_total"
            f'{{outcome="tenant_queue_full"}}[{duration(5 * MINUTE)}]))'
            f' / (sum without (outcome) (rate(fairqueue_requests_total{{tenant!=""}}[{duration(5 * MINUTE)}])) > 0)'
            " > 0.05",
            "Tenant {{ $labels.tenant }} is refused by its own bound on queued requests",
            "At {{ $labels.instance }} {{ $value | humanizePercentage }} of its requests are.",
        ),
        Alert(
            "FairqueueUsageLogFailing",
            Severity.WARNING,
            MINUTE,
            _told(f"increase(fairqueue_usage_log_lost_lines_total[{half_hour}]) > 0", "lines are lost")
            + "\nor "
            + _told("fairqueue_usage_log_waiting_seconds > " + duration.seconds(2 * MINUTE), "lines can't be written"),
            "A usage log does not have everything: {{ $labels.because }}",
            "{{ $labels.instance }} serves as before; its log says why. Bills made from these files miss what is lost.",
        ),
        Alert(
            "FairqueueEngineDown",
            Severity.CRITICAL,
            MINUTE,
            # One that has never been up loads its model, for which half an hour should do.
            "fairqueue_engine_up == 0"
            f"\nand (max_over_time(fairqueue_engine_up[{duration(HOUR)}]) == 1"
            f" or fairqueue_engine_up offset {duration(30 * MINUTE)} == 0)",
            "An engine is down, and its proxy has nowhere to send requests",
            "{{ $labels.instance }} has found its engine not healthy for a minute.",
        ),
        Alert(
            "FairqueueProxyNotScraped",
            Severity.WARNING,
            5 * MINUTE,
            f"up{{{PROXIES}}} == 0",
            "Prometheus cannot read a proxy's metrics",
            "{{ $labels.instance }} does not answer on its admin port: no other alert sees it.",
        ),
    ]


def kubernetes_alerts(duration: Durations) -> Sequence[Alert]:
    """Those that need an operator and an injector."""
    ten, twenty = duration(10 * MINUTE), duration(20 * MINUTE)

    def failed(window: str) -> str:
        return f"sum by (cluster) (increase(fairqueue_operator_reconcile_errors_total[{window}]))"

    def undecided(offset: str = "") -> str:
        return _decided("internal_error|policies_unreadable", twenty, offset)

    return [
        Alert(
            "FairqueueProxiesMissing",
            Severity.WARNING,
            10 * MINUTE,
            # Pods whose policy is gone run as well, and are read.
            f"{_RUNNING}\n> (count by (cluster) (up{{{PROXIES}}}) or 0 * {_RUNNING})",
            "Fewer proxies are scraped than run",
            "{{ $value }} proxies have started; Prometheus reads fewer of them. Is the PodMonitor selected?",
        ),
        Alert(
            "FairqueuePodsNotInjected",
            Severity.WARNING,
            10 * MINUTE,
            f"{_pods('unlabelled')} > 0\nor max by (cluster) (fairqueue_injector_bare_pods) > 0",
            "Pods that {{ if $labels.policy }}policy {{ $labels.policy }} selects{{ else }}ask for the proxy{{ end }}"
            " have none",
            "{{ $value }} of them: whoever reaches them goes past every limit and is not charged.",
        ),
        Alert(
            "FairqueuePodsNotCurrent",
            Severity.WARNING,
            10 * MINUTE,
            f"{_pods('started')} - {_pods('current')} > 0",
            "Pods work by an older revision of policy {{ $labels.policy }}",
            "{{ $value }} of them have not confirmed the newest one for ten minutes.",
        ),
        Alert(
            "FairqueuePodsOrphaned",
            Severity.WARNING,
            10 * MINUTE,
            "max by (cluster) (fairqueue_operator_orphaned_pods) > 0",
            "Pods run whose policy was deleted",
            "{{ $value }} of them keep its last order and its keys: nobody can change either, or take a key back.",
        ),
        Alert(
            "FairqueuePolicyNotReady",
            Severity.INFO,
            15 * MINUTE,
            # Nothing is wrong with one that has no pods, or whose pods wait for a node: models are scaled to zero.
            _not_ready("!~", "NoMatchingPods|Pending")
            + f"\nor ({_not_ready('=', 'Pending')} and {_pods('started')} > 0)",
            "Policy {{ $labels.policy }} is not in force as it is written",
            "It has not been Ready for a quarter of an hour; its status says why.",
        ),
        Alert(
            "FairqueueOperatorNotReconciling",
            Severity.WARNING,
            5 * MINUTE,
            _told(
                "(max by (cluster) (fairqueue_operator_leading) == 0 or absent(fairqueue_operator_leading))",
                "no replica leads",
            )
            + "\nor "
            + _told(
                # And now: what failed is tried again after half a minute at the latest.
                f"({failed(ten)} > 3.5 and {failed(duration(3 * MINUTE))} > 0)",
                "policies fail again and again",
            )
            + "\nor "
            + _told(
                f"min by (cluster) (min_over_time(fairqueue_operator_queue_length[{ten}])"
                " and fairqueue_operator_leading == 1) > 0",
                "its queue never empties",
            )
            + "\nor "
            + _told(
                "time() - max by (cluster) (fairqueue_operator_last_list_timestamp_seconds) > "
                + duration.seconds(20 * MINUTE),
                "it has not listed everything for 20 minutes",
            ),
            "The operator does not bring policies into force: {{ $labels.because }}",
            "Proxies go on with what they have; changes of policies and keys do not reach them.",
        ),
        Alert(
            "FairqueueInjectorFailing",
            Severity.CRITICAL,
            5 * MINUTE,
            _told(
                f"(max by (cluster) (up{{{INJECTORS}}}) == 0 or max(absent(up{{{INJECTORS}}})))", "no injector answers"
            )
            + "\nor "
            + _told(
                # Whoever makes pods tries again, in the end every 17 minutes (Kubernetes' controllers). So it is over
                # when one was let in since; unless some are denied again and again, while others are let in.
                f"({undecided()} > 0 and ({undecided(f' offset {twenty}')} > 0\nor {undecided()} > 0"
                f" unless {_decided('injected', twenty)} > 0))",
                "it denies pods that it cannot decide on",
            ),
            "Pods that ask for a proxy cannot be created: {{ $labels.because }}",
            "Running pods are served; new ones of labelled workloads are refused until it is mended.",
        ),
        Alert(
            "FairqueueCertificateExpiring",
            Severity.WARNING,
            HOUR,
            "min by (cluster, job, instance) (fairqueue_certificate_not_after_seconds > 0) - time() < "
            + duration.seconds(14 * DAY),
            "The injector's certificate is not renewed",
            "{{ $labels.instance }} serves one that ends in {{ $value | humanizeDuration }}.",
        ),
    ]


def _pods(state: str) -> str:
    """Of each policy."""
    return f'max by (cluster, policy) (fairqueue_operator_pods{{state="{state}"}})'


def _not_ready(matches: str, reason: str) -> str:
    return f'max by (cluster, policy) (fairqueue_operator_policy_ready{{reason{matches}"{reason}"}} == 0)'


def _decided(decisions: str, window: str, offset: str = "") -> str:
    selected = f'fairqueue_injector_decisions_total{{decision=~"{decisions}"}}[{window}]{offset}'
    return f"sum by (cluster) (increase({selected}))"


def _told(expression: str, because: str) -> str:
    """The same with a label that says which part of an alert it is."""
    return f'label_replace({expression}, "because", "{because}", "", "")'
