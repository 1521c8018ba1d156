"""From a pod to a verdict: the policies of the cache, one look at the API server where they are not enough, a defect.

A pod that was created just after its policy must not be told that there is none: before such a denial the
namespace's policies are listed once, live. Few lists run at a time and none for long: the API server waits for us,
and gives up after the webhook's `timeoutSeconds`.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

from . import log_lines
from .admission import Review
from .cluster_model import ClusterError, ResourceList
from .injection import POLICY_LABEL, Reason
from .policy_cache import InvalidPolicy, NamespacePolicies, PolicyCache, read_policies
from .verdict import INTERNAL, UNAVAILABLE, Judge, OwnReason, Verdict, denied

LIST_SECONDS: Final = 2.5
_LISTS_AT_ONCE: Final = 8

# Denials, and an admission, that other policies would have changed.
_NOT_FOUND: Final = frozenset({Reason.MISSING_POLICY, Reason.POLICY_NOT_FOUND})
_BY_POLICIES: Final = _NOT_FOUND | {
    Reason.MISSING_POLICY_ALLOWED,
    Reason.SEVERAL_POLICIES,
    Reason.POLICY_DOES_NOT_SELECT,
    Reason.BAD_POLICY,
}
# Decisions that no policy has a part in.
_WITHOUT_POLICIES: Final = frozenset({Reason.NOT_ASKED, Reason.ALREADY_INJECTED, Reason.BAD_POD})

Json = dict[str, Any]


class LivePolicies(Protocol):
    """What is needed of the API server."""

    async def list_policies(self, namespace: str | None = None) -> ResourceList: ...


class Deciding:
    """See the module's text. `decide` never raises, but for being cancelled."""

    def __init__(self, judge: Judge, cache: PolicyCache, live: LivePolicies) -> None:
        self._judge = judge
        self._cache = cache
        self._live = live
        self._lists = asyncio.Semaphore(_LISTS_AT_ONCE)

    async def decide(self, review: Review) -> Verdict:
        """What becomes of what is asked."""
        if review.pod is None:
            return Verdict(OwnReason.NOT_A_NEW_POD)
        try:
            return await self._decide(review.pod, review.namespace)
        except Exception:
            log_lines.log.exception(
                "a pod could not be decided on", extra={"fields": {"namespace": review.namespace, "pod": review.name}}
            )
            message = "fairqueue's injector has failed on this pod: its log says where; please report it"
            return denied(OwnReason.INTERNAL_ERROR, message, INTERNAL)

    async def _decide(self, pod: Json, namespace: str) -> Verdict:
        verdict = judged(self._judge, pod, self._cache.of(namespace))
        if verdict.reason not in _BY_POLICIES and (self._cache.filled or verdict.reason in _WITHOUT_POLICIES):
            return verdict
        try:
            async with asyncio.timeout(LIST_SECONDS), self._lists:
                listed = await self._live.list_policies(namespace)
        except (ClusterError, TimeoutError) as error:
            log_lines.warning("a namespace's policies could not be listed", namespace=namespace, error=str(error))
            if self._cache.filled and verdict.reason not in _NOT_FOUND:
                return verdict
            message = "no policy is known for the pod, and the API server could not be asked for the latest: try again"
            return denied(OwnReason.POLICIES_UNREADABLE, message, UNAVAILABLE)
        return judged(self._judge, pod, read_policies(listed.items))


def judged(judge: Judge, pod: Json, policies: NamespacePolicies) -> Verdict:
    """The verdict on a pod beside all policies of its namespace, those that cannot be used too."""
    verdict = judge(pod, policies.usable)
    if policies.invalid and verdict.reason not in _WITHOUT_POLICIES:
        meant = _meant(pod, policies.invalid)
        if meant is not None:
            return denied(Reason.BAD_POLICY, f"{Reason.BAD_POLICY.sentence} ({meant.problem})")
    return verdict


def _meant(pod: Json, invalid: Sequence[InvalidPolicy]) -> InvalidPolicy | None:
    """The policy that would be the pod's, or one of several, if it could be used."""
    # It has labels: without the one that asks for the proxy, no policy would have been looked for.
    labels = pod["metadata"]["labels"]
    named = labels.get(POLICY_LABEL)
    if named:
        return next((policy for policy in invalid if policy.name == named), None)
    return next((policy for policy in invalid if policy.selects(labels)), None)
