"""What `fairqueue status` prints: from policies, pods and what proxies say to a table or to plain values. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from fairqueue_cli.kubernetes_unknown import Unknown
from fairqueue_cli.status_pods import Pod
from fairqueue_cli.status_policies import ConditionView, Policy
from fairqueue_cli.status_proxy import ProxyReport
from fairqueue_cli.tables import format_table
from fairqueue_sim.lab.plain_words import printable

_HEAD: Final = ("POD", "PROXY", "REVISION", "READY", "WAITING", "IN FLIGHT", "NOTE")
_WORDS: Final = (0, 1, 2, 3, 6)
_NOTHING: Final = "-"
_REVISION_CHARACTERS: Final = 12

Reports = Mapping[tuple[str, str], ProxyReport | Unknown]
"""By namespace and name of the pod; pods whose proxy was not asked are not in it."""


@dataclass(frozen=True, slots=True)
class Overview:
    """All that was found out."""

    policies: list[Policy]
    pods: dict[str, list[Pod]]
    """By the policy's key."""
    of_none: list[Pod] = field(default_factory=list)
    reports: Reports = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    """What could not be found out of whole policies, a sentence each."""

    @property
    def is_well(self) -> bool:
        """Every policy is Ready, and no pod lacks the proxy or the policy that it asks for."""
        pods = [*self.of_none, *(pod for found in self.pods.values() for pod in found)]
        return all(policy.is_ready for policy in self.policies) and not any(
            pod.is_bare or (pod.is_injected and pod in self.of_none) for pod in pods
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One pod of the report. None: not known, or nothing to know; `note` says why."""

    namespace: str
    name: str
    injected: bool
    revision: str
    current: bool | None
    ready: bool
    waiting: int | None
    in_flight: int | None
    note: str


def row(pod: Pod, policy: Policy | None, report: ProxyReport | Unknown | None) -> Row:
    """What is shown of a pod, beside its policy."""
    notes = [pod.why_not] if pod.why_not else []
    revision, current, waiting, in_flight = "", None, None, None
    if policy is None and pod.is_injected:
        notes.append(f"its policy {pod.bound} is not there any more: it keeps its last order")
    if isinstance(report, Unknown):
        notes.append(f"its proxy could not be asked: {report.because}")
    elif report is not None:
        revision, waiting, in_flight = report.revision, report.waiting, report.in_flight
        current = None if policy is None else bool(revision) and revision == policy.revision
        if current is False and report.failures:
            notes.append("its proxy could not use a document that it was given: see its log")
    elif pod.is_injected:
        notes.append("its proxy has not started")
    return Row(
        pod.namespace, pod.name, pod.is_injected, revision, current, pod.is_ready, waiting, in_flight, "; ".join(notes)
    )


def as_text(overview: Overview) -> str:
    """For people."""
    parts = ["\n".join(_of_policy(overview, policy)) for policy in overview.policies]
    if overview.of_none:
        rows = [replace(each, name=f"{each.namespace}/{each.name}") for each in _rows(overview, overview.of_none, None)]
        parts.append("pods without a policy\n" + _table(rows))
    parts += [f"not known: {printable(gap)}" for gap in overview.gaps]
    return "\n\n".join(parts)


def as_values(overview: Overview) -> dict[str, Any]:
    """For programs."""
    return {
        "ready": overview.is_well,
        "policies": [
            {
                "namespace": policy.namespace,
                "name": policy.name,
                "ready": policy.is_ready,
                "observed": policy.is_observed,
                "conditions": [asdict(each) for each in policy.conditions],
                "tenants": policy.tenants,
                "counts": policy.counts,
                "revision": policy.revision,
                "pods": [asdict(each) for each in _rows(overview, overview.pods[policy.key], policy)],
            }
            for policy in overview.policies
        ],
        "pods_without_policy": [asdict(each) for each in _rows(overview, overview.of_none, None)],
        "unknown": overview.gaps,
    }


def _of_policy(overview: Overview, policy: Policy) -> Iterator[str]:
    yield printable(policy.key) + ("" if policy.is_ready else "  (not Ready)")
    if not policy.is_observed:
        yield "  the status is not of the policy as it is now: the operator has not looked at it yet"
    for condition in policy.conditions:
        yield "  " + printable(_condition(condition))
    tenants = _NOTHING if policy.tenants is None else str(policy.tenants)
    counts = ", ".join(f"{count} {name}" for name, count in policy.counts.items()) or "not counted"
    yield f"  tenants: {tenants}; pods: {counts}; revision: {printable(_short(policy.revision) or _NOTHING)}"
    if pods := overview.pods[policy.key]:
        yield _table(_rows(overview, pods, policy))


def _condition(condition: ConditionView) -> str:
    text = f"{condition.type:<10}  {condition.status:<7}  {condition.reason}"
    return f"{text}: {condition.message}" if condition.message and condition.status != "True" else text


def _rows(overview: Overview, pods: list[Pod], policy: Policy | None) -> list[Row]:
    return [row(pod, policy, overview.reports.get((pod.namespace, pod.name))) for pod in pods]


def _table(rows: list[Row]) -> str:
    cells = [_HEAD, *(_cells(each) for each in rows)]
    return "\n".join("  " + line for line in format_table(cells, _WORDS).splitlines())


def _cells(shown: Row) -> tuple[str, ...]:
    revision = _short(shown.revision) or _NOTHING
    if shown.current is not None and shown.revision:
        revision += " current" if shown.current else " old"
    figures = (_NOTHING if figure is None else str(figure) for figure in (shown.waiting, shown.in_flight))
    return shown.name, _yes(shown.injected), revision, _yes(shown.ready), *figures, shown.note


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _short(revision: str) -> str:
    return revision[:_REVISION_CHARACTERS]
