"""What is done for one policy, from what is known of it: its document stored, its pods followed, its status written.

Level-triggered: whatever has happened, the same is done, and nothing if everything is as it should be. Decisions are
in `planning`; here they are carried out. Whatever the API server refuses is raised, and tried again by the queue.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from .acknowledgements import Acknowledgements, Followed
from .cluster_model import ClusterError, Forbidden, NotFound, Resource
from .documents import Documents
from .event_poster import EventPoster
from .nudger import Nudger
from .planning.conditions import new_status, same
from .planning.judging import Judgement, access_denied, judge
from .planning.nudging import NudgeSchedule
from .planning.orphans import notes_on_orphans
from .planning.pod_facts import PodFacts
from .planning.programming import Acknowledgement, Programming, assess
from .planning.transitions import notes_of
from .policy_cache import InvalidPolicy
from .secret_watches import SecretWatches
from .store import KnownPolicy, PolicyKey, Store
from .unlabelled_pods import UnlabelledPods


class StatusCluster(Protocol):
    """What is needed of the API server."""

    async def apply_status(self, namespace: str, policy: str, status: Resource) -> None: ...


class Reconciler:
    """See the module's text. Keys come one at a time; different ones may be under way at once."""

    def __init__(
        self,
        *,
        cluster: StatusCluster,
        store: Store,
        secrets: SecretWatches,
        documents: Documents,
        acknowledgements: Acknowledgements,
        unlabelled: UnlabelledPods,
        schedule: NudgeSchedule,
        nudger: Nudger,
        poster: EventPoster,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        written: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._secrets = secrets
        self._documents = documents
        self._acknowledgements = acknowledgements
        self._unlabelled = unlabelled
        self._schedule = schedule
        self._nudger = nudger
        self._poster = poster
        self._now = now
        self._monotonic = monotonic
        self._written = written
        # Pods of which it was said that their policy is gone, by uid.
        self._told_of: dict[PolicyKey, set[str]] = {}

    async def reconcile(self, key: PolicyKey) -> None:
        """Does what there is to do. Raises `ClusterError`."""
        policy = self._store.policy(key)
        if policy is None:
            self._let_go(key)
            return
        self._told_of.pop(key, None)
        judgement, problem = await self._store_document(key, policy)
        pods = self._store.pods_of(key)
        revision = self._documents.revision(key)
        said = self._follow(key, pods, revision)
        programming = assess(
            policy.facts,
            judgement,
            revision,
            pods,
            said,
            self._count_unlabelled(key, policy),
            store_problem=str(problem or ""),
        )
        if not self._is_too_early(key, policy, judgement, programming, pods, said):
            await self._write_status(key, policy, judgement, programming)
        if problem is not None and not isinstance(problem, Forbidden):
            raise problem

    async def _store_document(self, key: PolicyKey, policy: KnownPolicy) -> tuple[Judgement, ClusterError | None]:
        """What the policy comes to, with what kept its document from being stored."""
        secrets = self._secrets.of(key.namespace)
        rivals = [it.facts for it in self._store.policies_of(key.namespace).values()]
        problem: ClusterError | None = None
        stored = None
        try:
            stored = await self._documents.stored(key, secrets.version_of_document(key.name))
        except ClusterError as error:
            problem = error
        judgement = judge(policy.facts, rivals, self._store.pods_of(key), secrets.view, stored)
        if problem is None and judgement.document is not None:
            try:
                await self._documents.store(key, policy.facts.uid, judgement.document)
            except ClusterError as error:
                problem = error
        if isinstance(problem, Forbidden):
            secrets.refused(str(problem))
            judgement = replace(judgement, accepted=access_denied(key.namespace, str(problem)))
        return judgement, problem

    def _follow(self, key: PolicyKey, pods: tuple[PodFacts, ...], revision: str) -> Mapping[str, Acknowledgement]:
        """Has the pods asked, and nudged if they are behind. Returns what they have said so far."""
        bound = [pod for pod in pods if pod.bound_policy == key.name and pod.proxy_started and pod.address]
        followed = {pod.uid: Followed(pod.uid, pod.address, pod.proxy_restarts) for pod in bound}
        self._acknowledgements.follow(key, followed, revision)
        said = self._acknowledgements.of(key)
        self._schedule.want(key, revision, bound, said, self._monotonic())
        self._nudger.changed()
        return said

    def _count_unlabelled(self, key: PolicyKey, policy: KnownPolicy) -> int | None:
        parsed = policy.facts.parsed
        return None if isinstance(parsed, InvalidPolicy) else self._unlabelled.of(key, parsed.spec.selector)

    def _is_too_early(
        self,
        key: PolicyKey,
        policy: KnownPolicy,
        judgement: Judgement,
        programming: Programming,
        pods: tuple[PodFacts, ...],
        said: Mapping[str, Acknowledgement],
    ) -> bool:
        """Whether there is a status that may well be true still, and the operator does not know enough to doubt it, as
        it has just started. What it waits for comes within seconds, and has this policy looked at again."""
        if policy.status.get("observedGeneration") != policy.facts.generation:
            return False
        unasked = any(
            pod.bound_policy == key.name and pod.proxy_started and pod.address and pod.uid not in said for pod in pods
        )
        uncounted = programming.pods.unlabelled is None and not self._unlabelled.is_failing
        return judgement.accepted.status == "Unknown" or unasked or uncounted

    async def _write_status(
        self, key: PolicyKey, policy: KnownPolicy, judgement: Judgement, programming: Programming
    ) -> None:
        status = new_status(policy.status, policy.facts.generation, judgement, programming, self._now())
        if same(policy.status, status):
            return
        try:
            await self._cluster.apply_status(*key, status)
        except NotFound:
            # Deleted meanwhile: its event is on the way.
            return
        self._written()
        self._store.put_status(key, status)
        self._poster.tell(notes_of(policy.facts, policy.status, status))

    def _let_go(self, key: PolicyKey) -> None:
        self._documents.forget(key)
        self._acknowledgements.follow(key, {}, "")
        self._schedule.want(key, "", (), {}, self._monotonic())
        pods = self._store.pods_of(key)
        told = self._told_of.pop(key, set())
        if pods:
            self._told_of[key] = {pod.uid for pod in pods}
            new = [pod for pod in pods if pod.uid not in told]
            self._poster.tell(notes_on_orphans(new, self._store.policies_of(key.namespace)))
