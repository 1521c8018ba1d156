"""What is done for one policy, from what is known of it: its document stored, its pods followed, its status written.

Level-triggered: whatever has happened, the same is done, and nothing if everything is as it should be. Decisions are
in `planning`; here they are carried out. Whatever the API server refuses is raised, and tried again by the queue.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from math import inf
from typing import Final, Protocol

from .cluster_model import ClusterError, NotFound, Resource, ResourceList
from .documents import Documents
from .event_poster import EventPoster
from .follower import Follower
from .planning.conditions import has_turned, new_status, same
from .planning.followed_pod import GRACE_SECONDS
from .planning.following import Heard
from .planning.judging import Judgement, access_denied, judge, name_taken, secrets_being_read
from .planning.orphans import notes_on_orphans
from .planning.pod_facts import PodFacts
from .planning.programming import Programming, assess
from .planning.secrets_view import Denied, Open, SecretsView, Unknown
from .planning.transitions import notes_of
from .policy_cache import InvalidPolicy
from .resource_json import uid_of
from .secret_watches import SecretWatches
from .store import KnownPolicy, PolicyKey, Store
from .unlabelled_pods import UnlabelledPods

COUNTS_SECONDS: Final = 2.0
"""A status in which nothing has turned, and only counts and messages are others, is not written before."""


class StatusCluster(Protocol):
    """What is needed of the API server."""

    async def apply_status(self, namespace: str, policy: str, status: Resource) -> None: ...

    async def list_policies(self, namespace: str | None = None) -> ResourceList: ...


class Reconciler:
    """See the module's text. Keys come one at a time; different ones may be under way at once."""

    def __init__(
        self,
        *,
        cluster: StatusCluster,
        store: Store,
        secrets: SecretWatches,
        documents: Documents,
        follower: Follower,
        unlabelled: UnlabelledPods,
        poster: EventPoster,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        written: Callable[[], None],
        touched: Callable[[Iterable[PolicyKey]], None],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._secrets = secrets
        self._documents = documents
        self._follower = follower
        self._unlabelled = unlabelled
        self._poster = poster
        self._now = now
        self._monotonic = monotonic
        self._written = written
        self._touched = touched
        # Pods of which it was said that their policy is gone, by uid.
        self._told_of: dict[PolicyKey, set[str]] = {}
        # When each policy's status was written last.
        self._written_at: dict[PolicyKey, float] = {}

    async def reconcile(self, key: PolicyKey) -> float | None:
        """Does what there is to do. Returns the seconds after which the policy must be looked at again even if nothing
        happens, None if it need not. Raises `ClusterError`."""
        policy = self._store.policy(key)
        if policy is None:
            self._let_go(key)
            return None
        self._told_of.pop(key, None)
        judgement, problem = await self._store_document(key, policy)
        if isinstance(problem, NotFound):
            self._touched(self._store.forget_policy(key))
            return None
        pods = self._store.pods_of(key)
        revision = self._documents.revision(key)
        heard = self._follow(key, pods, revision)
        programming = assess(
            policy.facts,
            judgement,
            revision,
            _as_heard(pods, heard),
            heard.said,
            self._count_unlabelled(key, policy),
            store_problem=str(problem or ""),
        )
        again = GRACE_SECONDS if heard.unheard else None
        if not self._is_too_early(key, policy, judgement, programming, heard):
            again = await self._write_status(key, policy, judgement, programming) or again
        if problem is not None:
            raise problem
        return again

    async def _store_document(self, key: PolicyKey, policy: KnownPolicy) -> tuple[Judgement, ClusterError | None]:
        """What the policy comes to, with what kept its document from being read or stored."""
        secrets = self._secrets.of(key.namespace)
        if not isinstance(secrets.view, Open):
            return self._judge_unseen(key, policy, secrets.view), None
        try:
            stored = await self._documents.stored(key, secrets.version_of_document(key.name))
            if self._documents.is_taken(key):
                judgement = self._judge(key, policy, secrets.view, None)
                return replace(judgement, accepted=name_taken(key.namespace, key.name), document=None), None
            if self._documents.has_vanished(key):
                await self._make_sure_of(key, policy)
        except ClusterError as error:
            return self._judge(key, policy, secrets.view, self._documents.known_text(key)), error
        judgement = self._judge(key, policy, secrets.view, stored)
        try:
            if judgement.document is not None:
                await self._documents.store(key, policy.facts.uid, judgement.document)
        except ClusterError as error:
            return judgement, error
        return judgement, None

    def _judge(self, key: PolicyKey, policy: KnownPolicy, view: SecretsView, stored: str | None) -> Judgement:
        rivals = [it.facts for it in self._store.policies_of(key.namespace).values()]
        return judge(policy.facts, rivals, self._store.pods_of(key), view, stored)

    def _judge_unseen(self, key: PolicyKey, policy: KnownPolicy, view: Denied | Unknown) -> Judgement:
        """The namespace's Secrets, and so the stored document, cannot be seen, or not yet."""
        judgement = self._judge(key, policy, view, self._documents.known_text(key))
        if judgement.accepted.holds:
            # It names no keys: but what cannot be stored is not in force.
            unseen = secrets_being_read(key.namespace)
            accepted = access_denied(key.namespace, view.because) if isinstance(view, Denied) else unseen
            judgement = replace(judgement, accepted=accepted)
        return replace(judgement, document=None)

    async def _make_sure_of(self, key: PolicyKey, policy: KnownPolicy) -> None:
        """What a policy owns goes with it: is it there still? Else the same would be stored and deleted for ever."""
        listed = await self._cluster.list_policies(key.namespace)
        if not any(uid_of(item) == policy.facts.uid for item in listed.items):
            raise NotFound(f"FairnessPolicy {key.namespace}/{key.name} is gone")

    def _follow(self, key: PolicyKey, pods: tuple[PodFacts, ...], revision: str) -> Heard:
        """Has the pods asked, and nudged if they are behind. Returns what is known of them so far."""
        bound = [pod for pod in pods if pod.bound_policy == key.name and pod.proxy_started and pod.address]
        return self._follower.follow(key, revision, self._documents.version(key), bound)

    def _count_unlabelled(self, key: PolicyKey, policy: KnownPolicy) -> int | None:
        parsed = policy.facts.parsed
        return None if isinstance(parsed, InvalidPolicy) else self._unlabelled.of(key, parsed.spec.selector)

    def _is_too_early(
        self,
        key: PolicyKey,
        policy: KnownPolicy,
        judgement: Judgement,
        programming: Programming,
        heard: Heard,
    ) -> bool:
        """Whether there is a status that may well be true still, and the operator does not know enough to doubt it, as
        it has just started. What it waits for comes within seconds, and has this policy looked at again."""
        if policy.status.get("observedGeneration") != policy.facts.generation:
            return False
        uncounted = programming.pods.unlabelled is None and not self._unlabelled.has_failed(key)
        return judgement.accepted.status == "Unknown" or heard.is_early or uncounted

    async def _write_status(
        self, key: PolicyKey, policy: KnownPolicy, judgement: Judgement, programming: Programming
    ) -> float | None:
        """What has turned is written at once, what has merely been counted anew not so often: then it returns the
        seconds after which it may be."""
        status = new_status(policy.status, policy.facts.generation, judgement, programming, self._now())
        if same(policy.status, status):
            return None
        wait = self._written_at.get(key, -inf) + COUNTS_SECONDS - self._monotonic()
        if wait > 0 and not has_turned(policy.status, status):
            return wait
        try:
            await self._cluster.apply_status(*key, status)
        except NotFound:
            # Its event is on the way, or was missed.
            self._touched(self._store.forget_policy(key))
            return None
        self._written()
        self._written_at[key] = self._monotonic()
        self._store.put_status(key, status)
        self._poster.tell(notes_of(policy.facts, policy.status, status))
        return None

    def _let_go(self, key: PolicyKey) -> None:
        self._documents.forget(key)
        self._follower.forget(key)
        self._written_at.pop(key, None)
        pods = self._store.pods_of(key)
        told = self._told_of.pop(key, set())
        if pods:
            self._told_of[key] = {pod.uid for pod in pods}
            new = [pod for pod in pods if pod.uid not in told]
            self._poster.tell(notes_on_orphans(new, self._store.policies_of(key.namespace)))


def _as_heard(pods: tuple[PodFacts, ...], heard: Heard) -> list[PodFacts]:
    """A proxy that is being asked for the first time is one that has just started: nothing is held against it yet."""
    return [replace(pod, proxy_started=False) if pod.uid in heard.unheard else pod for pod in pods]
