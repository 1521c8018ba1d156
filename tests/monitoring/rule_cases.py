"""For each alert what fires it and what nearly does, as series of samples 30 s apart from time 0 (notation of
`promtool test rules`). Near misses differ from the first case by one thing that must matter."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fairqueue_api.status import POD_STATES

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

Series = Mapping[str, str]
PROXY: Final = 'job="fairqueue-proxy",instance="a:9820"'
OPERATOR: Final = 'job="fairqueue-operator",instance="o:8080"'
STANDBY: Final = 'job="fairqueue-operator",instance="p:8080"'
INJECTOR: Final = 'job="fairqueue-injector",instance="i:8080"'
_AT: Final = {"job": "fairqueue-proxy", "instance": "a:9820"}


@dataclass(frozen=True, slots=True)
class Case:
    """Series, when they are judged, and of the alert that fires then its labels and what it says."""

    title: str
    series: Series
    at_seconds: int
    labels: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Cases:
    """Of one alert; `misses` say what does not matter enough."""

    fires: tuple[Case, ...]
    misses: Mapping[str, Series]


def _in(cluster: str, labels: str) -> str:
    return labels + (f',cluster="{cluster}"' if cluster else "")


def _of(name: str, labels: str, more: str = "") -> str:
    return f"{name}{{{labels}{',' if more else ''}{more}}}"


def tenant(
    name: str, *, service: float, entitled: float, backlogged: float, owed: float = 0.0, weight: int = 1
) -> Series:
    """A tenant that is charged so much in 30 s, was entitled to so much, was backlogged so long of it, and is owed that
    much."""
    label = f'tenant="{name}"'
    return {
        _of("fairqueue_service_total", PROXY, label): f"0+{service}x400",
        _of("fairqueue_entitled_service_total", PROXY, label): f"0+{entitled}x400",
        _of("fairqueue_backlogged_seconds_total", PROXY, label): f"0+{backlogged}x400",
        _of("fairqueue_owed_service", PROXY, label): f"{owed}x400",
        _of("fairqueue_tenant_weight", PROXY, label): f"{weight}x400",
    }


def bound(value: float) -> Series:
    """The root's, and a smaller one of a group."""
    return {
        _of("fairqueue_fairness_bound", PROXY, 'group=""'): f"{value}x400",
        _of("fairqueue_fairness_bound", PROXY, 'group="research"'): f"{value / 2}x400",
    }


def other_cluster() -> Series:
    """A proxy of the same address elsewhere: no rule may take it for this one, or fail for all."""
    return {_of("fairqueue_fairness_bound", PROXY, 'group="",cluster="other"'): "9x400"}


def config(
    instance: str, revision: str, policy: str = "team/shared", mode: str = "Enforce", cluster: str = ""
) -> Series:
    """A proxy and what it goes by."""
    labels = _in(cluster, f'job="fairqueue-proxy",instance="{instance}"')
    return {_of("fairqueue_config_info", labels, f'policy="{policy}",revision="{revision}",mode="{mode}"'): "1x400"}


def scraped(instance: str, cluster: str = "") -> Series:
    """A proxy that Prometheus knows of."""
    return {_of("up", _in(cluster, f'job="fairqueue-proxy",instance="{instance}"')): "1x400"}


def engine(waiting: float, running: float) -> Series:
    """What an engine reports."""
    return {
        _of("fairqueue_engine_waiting_requests", PROXY): f"{waiting}x400",
        _of("fairqueue_engine_running_requests", PROXY): f"{running}x400",
    }


def requests(outcome: str, values: str, tenant: str = "alice") -> Series:
    """A tenant's, by how they ended."""
    return {_of("fairqueue_requests_total", PROXY, f'tenant="{tenant}",outcome="{outcome}"'): values}


def drift(under: float, output: float) -> Series:
    """Tokens in 30 s."""
    return {
        _of("fairqueue_metering_drift_tokens_total", PROXY, 'direction="under"'): f"0+{under}x400",
        _of("fairqueue_metering_drift_tokens_total", PROXY, 'direction="over"'): "0x400",
        _of("fairqueue_tokens_total", PROXY, 'tenant="alice",kind="output"'): f"0+{output}x400",
        _of("fairqueue_tokens_total", PROXY, 'tenant="alice",kind="input"'): "0+1000x400",
    }


def capacity(idle: float, used: float) -> Series:
    """So many of 30 s idle, so many of eight requests at once; the tightest budget counts."""
    return {
        _of("fairqueue_idle_capacity_seconds_total", PROXY): f"0+{idle}x400",
        _of("fairqueue_capacity_used", PROXY, 'budget="requests"'): f"{used}x400",
        _of("fairqueue_capacity_limit", PROXY, 'budget="requests",source="engine"'): "8x400",
        _of("fairqueue_capacity_used", PROXY, 'budget="tokens"'): "100x400",
        _of("fairqueue_capacity_limit", PROXY, 'budget="tokens",source="policy"'): "10000x400",
        _of("fairqueue_capacity_used", PROXY, 'budget="unstarted"'): "4x400",
        _of("fairqueue_capacity_limit", PROXY, 'budget="unstarted",source="learned"'): "4x400",
    }


def pods(cluster: str = "", policy: str = "team/shared", orphaned: int = 0, **states: int) -> Series:
    """Both replicas of the operator; the one that stands by knows of none."""
    found = {
        _of("fairqueue_operator_orphaned_pods", _in(cluster, OPERATOR)): f"{orphaned}x400",
        _of("fairqueue_operator_orphaned_pods", _in(cluster, STANDBY)): "0x400",
    }
    for state in POD_STATES:
        label = _in(cluster, f'policy="{policy}",state="{state}"')
        found[_of("fairqueue_operator_pods", OPERATOR, label)] = f"{states.get(state, 0)}x400"
    return found


def not_ready(reason: str) -> Series:
    """A policy for that reason, beside one that is."""
    return {
        _of("fairqueue_operator_policy_ready", OPERATOR, f'policy="team/shared",reason="{reason}"'): "0x400",
        _of("fairqueue_operator_policy_ready", OPERATOR, 'policy="team/other",reason="Ready"'): "1x400",
    }


def usage_log(lost: str = "0x400", waiting_seconds: str = "0 1x400") -> Series:
    """Of a proxy that keeps one."""
    return {
        _of("fairqueue_usage_log_lost_lines_total", PROXY): lost,
        _of("fairqueue_usage_log_waiting_seconds", PROXY): waiting_seconds,
    }


def operator(
    *, leading: str = "1x400", errors: str = "0x400", queue: str = "0x400", listed: str = "0+30x400"
) -> Series:
    """The one that works; the other stands by."""
    return {
        _of("fairqueue_operator_leading", OPERATOR): leading,
        _of("fairqueue_operator_leading", STANDBY): "0x400",
        _of("fairqueue_operator_reconcile_errors_total", OPERATOR): errors,
        _of("fairqueue_operator_queue_length", OPERATOR): queue,
        _of("fairqueue_operator_queue_length", STANDBY): "0x400",
        _of("fairqueue_operator_last_list_timestamp_seconds", OPERATOR): listed,
    }


def injector(
    *, up: str = "1x400", decision: str = "internal_error", denied: str = "0x400", injected: str = "0x400"
) -> Series:
    """One of them, and decisions."""
    return {
        _of("up", INJECTOR): up,
        _of("fairqueue_injector_decisions_total", INJECTOR, 'decision="injected"'): injected,
        _of("fairqueue_injector_decisions_total", INJECTOR, f'decision="{decision}"'): denied,
    }


def certificate(days: float) -> Series:
    """Its end, in days after time 0; another replica has none yet."""
    other = INJECTOR.replace('"i:', '"j:')
    return {
        _of("fairqueue_certificate_not_after_seconds", INJECTOR): f"{days * DAY:.0f}x400",
        _of("fairqueue_certificate_not_after_seconds", other): "0x400",
    }


def _all(*parts: Series) -> Series:
    return {name: values for part in parts for name, values in part.items()}


_BOB: Final = tenant("bob", service=600, entitled=300, backlogged=30)


def _starved(*, service: float = 30, backlogged: float = 29, owed: float = 1020, weight: int = 1) -> Series:
    return tenant("alice", service=service, entitled=300, backlogged=backlogged, owed=owed, weight=weight)


def _told(alert: str, because: str) -> str:
    return f"{alert}: {because}"


_NOT_BROUGHT: Final = "Proxies go on with what they have; changes of policies and keys do not reach them."
_NOT_CREATED: Final = "Running pods are served; new ones of labelled workloads are refused until it is mended."
_OPERATOR_SAYS: Final = "The operator does not bring policies into force"
_INJECTOR_SAYS: Final = "Pods that ask for a proxy cannot be created"


def _operator_case(because: str, series: Series) -> Case:
    labels = {"severity": "warning", "because": because}
    return Case(because, series, 30 * MINUTE, labels, _told(_OPERATOR_SAYS, because), _NOT_BROUGHT)


def _injector_case(because: str, series: Series) -> Case:
    labels = {"severity": "critical", "because": because}
    return Case(because, series, 30 * MINUTE, labels, _told(_INJECTOR_SAYS, because), _NOT_CREATED)


def _engine_down(title: str, values: str, at_seconds: int) -> Case:
    return Case(
        title,
        {_of("fairqueue_engine_up", PROXY): values},
        at_seconds,
        {"severity": "critical", **_AT},
        "An engine is down, and its proxy has nowhere to send requests",
        "a:9820 has found its engine not healthy for a minute.",
    )


def _usage_log_case(because: str, series: Series) -> Case:
    return Case(
        because,
        series,
        9 * MINUTE,
        {"severity": "warning", "because": because, **_AT},
        f"A usage log does not have everything: {because}",
        "a:9820 serves as before; its log says why. Bills made from these files miss what is lost.",
    )


CASES: Final[Mapping[str, Cases]] = {
    "FairqueueTenantStarved": Cases(
        (
            Case(
                "a tenth of its share while another has twice its own",
                _all(_starved(), _BOB, bound(500), other_cluster()),
                20 * MINUTE,
                {"severity": "critical", "tenant": "alice", **_AT},
                "Tenant alice waits while others are served its share",
                "At a:9820 it has had requests waiting all the time and got less than a fifth of what it is entitled"
                " to.",
            ),
            Case(
                "nothing for half an hour, where the bound is very large",
                _all(_starved(service=0), _BOB, bound(1e9)),
                40 * MINUTE,
                {"severity": "critical", "tenant": "alice", **_AT},
                "Tenant alice waits while others are served its share",
                "At a:9820 it has had requests waiting all the time and got less than a fifth of what it is entitled"
                " to.",
            ),
        ),
        {
            "more than a fifth of its share": _all(_starved(service=63), _BOB, bound(500)),
            "it does not always wait": _all(_starved(backlogged=26), _BOB, bound(500)),
            "no more is owed to it than fairness allows": _all(_starved(owed=980), _BOB, bound(500)),
            "its weight makes the debt small": _all(_starved(weight=2), _BOB, bound(500)),
            "nobody is served above its share: the engine stands still": _all(
                _starved(), tenant("bob", service=30, entitled=300, backlogged=30), bound(500)
            ),
            "the policy only observes": _all(_starved(), _BOB, bound(500), config("a:9820", "r1", mode="Observe")),
        },
    ),
    "FairqueueShareBelowEntitlement": Cases(
        (
            Case(
                "more is owed than twice the bound",
                _all(_starved(service=210, owed=1100), _BOB, bound(500)),
                30 * MINUTE,
                {"severity": "warning", "tenant": "alice", **_AT},
                "Tenant alice gets less than its share",
                "At a:9820 it has had requests waiting all the time, and is owed 2.2 times the bound of a fair order.",
            ),
        ),
        {
            "no more is owed than fairness allows": _all(_starved(owed=980), _BOB, bound(500)),
            "its weight makes the debt small": _all(_starved(owed=1020, weight=2), _BOB, bound(500)),
            "the policy only observes": _all(
                _starved(service=210, owed=1100), _BOB, bound(500), config("a:9820", "r1", mode="Observe")
            ),
        },
    ),
    "FairqueueGapAboveBound": Cases(
        (
            Case(
                "the gap of a group is above its bound",
                {
                    _of("fairqueue_fairness_gap", PROXY, 'group="research"'): "101x40",
                    _of("fairqueue_fairness_bound", PROXY, 'group="research"'): "100x40",
                    _of("fairqueue_fairness_gap", PROXY, 'group=""'): "50x40",
                    _of("fairqueue_fairness_bound", PROXY, 'group=""'): "100x40",
                },
                5 * MINUTE,
                {"severity": "critical", "group": "research", **_AT},
                "The order is not fair any more: counters are further apart than they can be",
                "At a:9820, in group research. This is a defect of fairqueue, whatever the traffic is.",
            ),
        ),
        {
            "as large as the bound": {
                _of("fairqueue_fairness_gap", PROXY, 'group=""'): "100x40",
                _of("fairqueue_fairness_bound", PROXY, 'group=""'): "100x40",
            },
            "the policy only observes": _all(
                {
                    _of("fairqueue_fairness_gap", PROXY, 'group=""'): "200x40",
                    _of("fairqueue_fairness_bound", PROXY, 'group=""'): "100x40",
                },
                config("a:9820", "r1", mode="Observe"),
            ),
        },
    ),
    "FairqueueEngineQueueForming": Cases(
        (
            Case(
                "five wait for ten that run",
                _all(engine(5, 10), config("a:9820", "r1")),
                20 * MINUTE,
                {"severity": "warning", **_AT},
                "Requests queue inside the engine, where their order is not ours",
                "At a:9820 5 requests wait in the engine on average.",
            ),
        ),
        {
            "four": _all(engine(4, 10), config("a:9820", "r1")),
            "a fifth of what runs": _all(engine(5, 25), config("a:9820", "r1")),
            "the policy only observes": _all(engine(5, 10), config("a:9820", "r1", mode="Observe")),
        },
    ),
    "FairqueueMeteringDrift": Cases(
        (
            Case(
                "six in a hundred tokens",
                drift(6, 100),
                30 * MINUTE,
                {"severity": "warning", **_AT},
                "Tokens counted while streaming differ from what the engine says at the end",
                "At a:9820 by 6%. Charges are put right at the end of each request; until then the order is off by as"
                " much.",
            ),
        ),
        {"four in a hundred": drift(4, 100), "three in a quarter of an hour": drift(0.1, 1)},
    ),
    "FairqueueConfigRefused": Cases(
        (
            Case(
                "the newest is refused",
                {_of("fairqueue_config_refused", PROXY): "1x40"},
                6 * MINUTE,
                {"severity": "warning", **_AT},
                "A proxy refuses its newest configuration and goes on with the last good one",
                "a:9820 says why at /-/config, under problem.",
            ),
        ),
        {"for four minutes": {_of("fairqueue_config_refused", PROXY): "0x3 1x7 0x40"}},
    ),
    "FairqueueConfigStale": Cases(
        (
            Case(
                "two revisions of one policy",
                _all(config("a:9820", "r1"), config("b:9820", "r2"), config("c:9820", "r2")),
                15 * MINUTE,
                {"severity": "warning", "policy": "team/shared"},
                "Proxies of policy team/shared work by different revisions of it",
                "2 revisions have been in force at once for ten minutes.",
            ),
        ),
        {
            "all have the same": _all(config("a:9820", "r1"), config("b:9820", "r1")),
            "of different policies": _all(config("a:9820", "r1"), config("b:9820", "r2", policy="team/other")),
            "in another cluster": _all(config("a:9820", "r1"), config("b:9820", "r2", cluster="other")),
        },
    ),
    "FairqueueCapacityStuckLow": Cases(
        (
            Case(
                "half is used, and two thirds of the time somebody waits",
                capacity(20, 4),
                20 * MINUTE,
                {"severity": "warning", **_AT},
                "Part of the engine is idle while requests wait for it",
                "At a:9820 for 66.67% of the time.",
            ),
        ),
        {"nearly all is used": capacity(20, 7), "less than half of the time": capacity(14, 4)},
    ),
    "FairqueueRefusalsBurning": Cases(
        (
            Case(
                "six in a hundred, for long",
                _all(requests("completed", "0+94x400"), requests("queue_timeout", "0+6x400", "bob")),
                2 * HOUR,
                {"severity": "warning", **_AT},
                "Requests are refused because there is not enough of the engine",
                "a:9820 refuses 6%.",
            ),
        ),
        {
            "four in a hundred": _all(requests("completed", "0+96x400"), requests("queue_timeout", "0+4x400", "bob")),
            "a burst of a few minutes": _all(
                requests("completed", "0+94x400"), requests("queue_timeout", "0x229 0+20x170", "bob")
            ),
            "nine in an hour": _all(requests("completed", "0+1x400"), requests("queue_timeout", "0+0.075x400", "bob")),
            "it is over": _all(
                requests("completed", "0+94x400"), requests("queue_timeout", "0+10x229 2290x170", "bob")
            ),
            "tenants at bounds of their own": _all(
                requests("completed", "0+94x400"), requests("tenant_queue_full", "0+6x400", "bob")
            ),
        },
    ),
    "FairqueueTenantAtItsLimit": Cases(
        (
            Case(
                "six in a hundred of one tenant's",
                _all(
                    requests("completed", "0+94x400", "bob"),
                    requests("tenant_queue_full", "0+6x400", "bob"),
                    requests("completed", "0+100x400"),
                ),
                20 * MINUTE,
                {"severity": "info", "tenant": "bob", **_AT},
                "Tenant bob is refused by its own bound on queued requests",
                "At a:9820 6% of its requests are.",
            ),
        ),
        {
            "four in a hundred": _all(
                requests("completed", "0+96x400", "bob"), requests("tenant_queue_full", "0+4x400", "bob")
            ),
            "for want of the engine": _all(
                requests("completed", "0+94x400", "bob"), requests("queue_full", "0+6x400", "bob")
            ),
        },
    ),
    "FairqueueUsageLogFailing": Cases(
        (
            _usage_log_case("lines are lost", usage_log(lost="0x5 1x400")),
            _usage_log_case("lines can't be written", usage_log(waiting_seconds="0x5 0+30x40")),
        ),
        {
            "all are written": usage_log(),
            "they wait for two minutes and a half": usage_log(waiting_seconds="0x5 0+30x5 0x400"),
        },
    ),
    "FairqueueEngineDown": Cases(
        (
            _engine_down("it was healthy, and is not", "1x5 0x40", 6 * MINUTE),
            _engine_down("it has never been healthy for more than half an hour", "0x400", 40 * MINUTE),
        ),
        {
            "for half a minute": {_of("fairqueue_engine_up", PROXY): "1x9 0 1x40"},
            "it loads its model": {_of("fairqueue_engine_up", PROXY): "0x400"},
        },
    ),
    "FairqueueProxyNotScraped": Cases(
        (
            Case(
                "it does not answer",
                {_of("up", PROXY): "0x40"},
                6 * MINUTE,
                {"severity": "warning", **_AT},
                "Prometheus cannot read a proxy's metrics",
                "a:9820 does not answer on its admin port: no other alert sees it.",
            ),
        ),
        {
            "for four minutes": {_of("up", PROXY): "0x7 1x40"},
            "it is no proxy": {_of("up", 'job="node",instance="a:9100"'): "0x40"},
        },
    ),
    "FairqueueProxiesMissing": Cases(
        (
            Case(
                "three pods, two proxies",
                _all(pods(injected=3, started=3), scraped("a:9820"), scraped("b:9820")),
                15 * MINUTE,
                {"severity": "warning"},
                "Fewer proxies are scraped than run",
                "3 proxies have started; Prometheus reads fewer of them. Is the PodMonitor selected?",
            ),
            Case(
                "one pod, no proxy",
                pods(injected=1, started=1),
                15 * MINUTE,
                {"severity": "warning"},
                "Fewer proxies are scraped than run",
                "1 proxies have started; Prometheus reads fewer of them. Is the PodMonitor selected?",
            ),
            Case(
                "two pods of two policies, and one whose policy was deleted",
                _all(
                    pods(started=1),
                    pods(policy="team/other", started=1, orphaned=1),
                    scraped("a:9820"),
                    scraped("b:9820"),
                ),
                15 * MINUTE,
                {"severity": "warning"},
                "Fewer proxies are scraped than run",
                "3 proxies have started; Prometheus reads fewer of them. Is the PodMonitor selected?",
            ),
            Case(
                "of two clusters, in one",
                _all(
                    pods("here", started=2),
                    pods("there", started=1),
                    scraped("a:9820", "there"),
                    scraped("b:9820", "there"),
                    scraped("c:9820", "there"),
                ),
                15 * MINUTE,
                {"severity": "warning", "cluster": "here"},
                "Fewer proxies are scraped than run",
                "2 proxies have started; Prometheus reads fewer of them. Is the PodMonitor selected?",
            ),
        ),
        {
            "as many": _all(pods(injected=2, started=2), scraped("a:9820"), scraped("b:9820")),
            "as many, and none of a policy that was deleted": _all(pods(orphaned=1), scraped("a:9820")),
            "a pod waits for a node": _all(pods(injected=3, started=2), scraped("a:9820"), scraped("b:9820")),
        },
    ),
    "FairqueuePodsNotInjected": Cases(
        (
            Case(
                "a pod that a policy selects",
                pods(matched=3, unlabelled=2, injected=1, current=1),
                15 * MINUTE,
                {"severity": "warning", "policy": "team/shared"},
                "Pods that policy team/shared selects have none",
                "2 of them: whoever reaches them goes past every limit and is not charged.",
            ),
            Case(
                "a pod that asks",
                _all(pods(matched=1), {_of("fairqueue_injector_bare_pods", INJECTOR): "1x400"}),
                15 * MINUTE,
                {"severity": "warning"},
                "Pods that ask for the proxy have none",
                "1 of them: whoever reaches them goes past every limit and is not charged.",
            ),
        ),
        {"all have it": _all(pods(matched=3, injected=3), {_of("fairqueue_injector_bare_pods", INJECTOR): "0x400"})},
    ),
    "FairqueuePodsNotCurrent": Cases(
        (
            Case(
                "one of three",
                pods(injected=3, started=3, current=2),
                15 * MINUTE,
                {"severity": "warning", "policy": "team/shared"},
                "Pods work by an older revision of policy team/shared",
                "1 of them have not confirmed the newest one for ten minutes.",
            ),
        ),
        {
            "all": pods(injected=3, started=3, current=3),
            "one waits for a node": pods(injected=3, started=2, current=2),
        },
    ),
    "FairqueuePodsOrphaned": Cases(
        (
            Case(
                "two",
                pods(orphaned=2),
                15 * MINUTE,
                {"severity": "warning"},
                "Pods run whose policy was deleted",
                "2 of them keep its last order and its keys: nobody can change either, or take a key back.",
            ),
        ),
        {"none": pods(started=2)},
    ),
    "FairqueuePolicyNotReady": Cases(
        (
            Case(
                "a key is missing",
                _all(not_ready("UnresolvedSecret"), pods()),
                20 * MINUTE,
                {"severity": "info", "policy": "team/shared"},
                "Policy team/shared is not in force as it is written",
                "It has not been Ready for a quarter of an hour; its status says why.",
            ),
            Case(
                "proxies run and have not taken it",
                _all(not_ready("Pending"), pods(injected=2, started=2)),
                20 * MINUTE,
                {"severity": "info", "policy": "team/shared"},
                "Policy team/shared is not in force as it is written",
                "It has not been Ready for a quarter of an hour; its status says why.",
            ),
        ),
        {
            "it has no pods": _all(not_ready("NoMatchingPods"), pods()),
            "its pods wait for a node": _all(not_ready("Pending"), pods(injected=2)),
        },
    ),
    "FairqueueOperatorNotReconciling": Cases(
        (
            _operator_case("no replica leads", operator(leading="0x400")),
            _operator_case("policies fail again and again", operator(errors="0+1x400")),
            _operator_case("its queue never empties", operator(queue="2x400")),
            _operator_case("it has not listed everything for 20 minutes", operator(listed="0x400")),
        ),
        {
            "all is well": operator(),
            "three errors in ten minutes": operator(errors="0x42 1x5 2x5 3x400"),
            "many at once, and then it could be done": operator(errors="0x45 9x400"),
            "the queue was empty once": operator(queue="2x40 0 2x15"),
            "it listed everything 15 minutes ago": operator(listed="0+30x30 900x30"),
        },
    ),
    "FairqueueInjectorFailing": Cases(
        (
            _injector_case("no injector answers", injector(up="0x400")),
            _injector_case("it denies pods that it cannot decide on", injector(denied="0x20 3x400")),
        ),
        {
            "one answers": injector(),
            "many at once, and then it could": injector(denied="0x40 9x400", injected="0x41 3x400"),
            "an hour ago": injector(denied="0 9x400"),
            "pods are denied for reasons of their own": injector(decision="bad_pod", denied="0+1x400"),
        },
    ),
    "FairqueueCertificateExpiring": Cases(
        (
            Case(
                "in less than 14 days",
                certificate(14),
                2 * HOUR,
                {"severity": "warning", "job": "fairqueue-injector", "instance": "i:8080"},
                "The injector's certificate is not renewed",
                "i:8080 serves one that ends in 13d 22h 0m 0s.",
            ),
        ),
        {"in more": certificate(14.1)},
    ),
}
