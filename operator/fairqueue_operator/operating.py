"""The operator's process: what it is made of, and the order in which its parts begin and end.

One event loop, no threads. Of several replicas one holds the Lease and works; the others know nothing but whether it
is free. A replica that loses it ends, so that two never work for longer than it takes to notice.
"""

import asyncio
import logging
import os
import random
import sys
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, NoReturn, cast

import kopf

from fairqueue_api.models import Selector
from fairqueue_api.told import Told

from . import log_lines
from .acknowledging import Asking
from .backoff import Backoff
from .cluster import connect
from .cluster_model import ClusterError
from .documents import Documents
from .event_notes import OPERATOR
from .event_poster import EventPoster
from .follower import Follower
from .handlers import registry_of, settings
from .lease import Lease, Lost
from .listener import Listener
from .operator_cluster import OperatorCluster
from .operator_metrics import OperatorMetrics, PolicyFigures
from .operator_options import OperatorOptions
from .planning.conditions import READY, conditions_of
from .planning.pod_facts import read_pod
from .policy_cache import InvalidPolicy
from .reconciler import Reconciler
from .running import EXIT_BAD_INPUT, CannotStart, first, listening, running, unless
from .secret_watches import SecretWatches
from .status_pages import status_application
from .store import PolicyKey, Store
from .unlabelled_pods import UnlabelledPods
from .work_queue import WorkQueue

_WORKERS: Final = 4
# What a watch may have missed is found by a list.
RESYNC_SECONDS: Final = 300.0
# It is started again, and then knows nothing that is not so.
EXIT_FAILED: Final = 1


class Operator:
    """All parts of one replica. `serve` begins and ends them."""

    def __init__(self, options: OperatorOptions, cluster: OperatorCluster, told: Told) -> None:
        self._options = options
        self._cluster = cluster
        self._told = told
        self._jitter = random.Random()
        self._metrics = OperatorMetrics()
        self._store = Store()
        self._queue: WorkQueue[PolicyKey] = WorkQueue(monotonic, self._jitter)
        self._secrets = SecretWatches(cluster, self._secrets_changed, self._jitter)
        self._state = "not connected to the API server yet"
        place = options.namespace, options.lease, options.instance
        self._lease = Lease(cluster, *place, monotonic, asyncio.sleep, self._jitter)
        pages = status_application(lambda: self._state, self._metrics)
        self.status = Listener(pages, options.health.host, options.health.port)

    async def serve(self) -> None:
        """Works when it is its turn, until told to finish. Raises `Lost`, `CannotStart`."""
        async with listening(self.status):
            log_lines.info("listening", health=self.status.port)
            await first(self._told.to_finish.wait(), self._take_turns())

    async def _take_turns(self) -> None:
        # Whoever stands by is ready: there is nothing that it could do better.
        self._state = ""
        await self._lease.acquire()
        log_lines.info("working", lease=self._options.lease)
        self._metrics.leading.set(1)
        try:
            await first(self._lease.hold(), self._work())
        finally:
            self._metrics.leading.set(0)
            await self._lease.release()

    async def _work(self) -> None:
        self._state = "policies and pods not listed yet"
        await self._list_until_done()
        self._state = ""
        async with Asking() as asking, running(self._background(asking)) as failed:
            # Its tasks are ended by it, and so are all that were begun after it; it begins last.
            await first(failed, self._watch())

    async def _watch(self) -> None:
        await kopf.operator(
            registry=registry_of(self._store, self._touched),
            settings=settings(),
            # It would make one up of the user's name, which a pod's user need not have.
            identity=cast(Any, self._options.instance),
            standalone=True,
            clusterwide=True,
        )
        # It takes signals to itself, and returns when there was one.
        self._told.listen_to_signals()

    def _background(self, asking: Asking) -> list[Coroutine[Any, Any, None]]:
        unlabelled = UnlabelledPods(self._cluster, self._selectors, self._queue.add, self._jitter)
        written = self._metrics.writes.labels
        follower = Follower(
            self._cluster, asking.ask, self._queue.add_after, monotonic, self._jitter, written("nudge").inc
        )
        poster = EventPoster(self._cluster, OPERATOR, self._options.instance, _now, monotonic)
        reconciler = Reconciler(
            cluster=self._cluster,
            store=self._store,
            secrets=self._secrets,
            documents=Documents(self._cluster, written("document").inc),
            follower=follower,
            unlabelled=unlabelled,
            poster=poster,
            now=_now,
            monotonic=monotonic,
            written=written("status").inc,
            touched=self._touched,
        )
        self._metrics.read_at_scrape(lambda: len(self._queue), self._figures, self._store.orphaned)
        return [
            follower.run(),
            unlabelled.run(),
            poster.run(),
            self._secrets.run(),
            self._resync(),
            *(self._reconcile(reconciler) for _ in range(_WORKERS)),
        ]

    async def _reconcile(self, reconciler: Reconciler) -> None:
        while True:
            key = await self._queue.get()
            if not self._lease.is_held:
                raise Lost("the lease was not renewed in time")
            try:
                with self._metrics.seconds.time():
                    again = await reconciler.reconcile(key)
            except ClusterError as error:
                log_lines.warning("tried again later", namespace=key.namespace, policy=key.name, error=str(error))
                self._failed(key)
            except Exception as error:
                log_lines.log.error("a policy could not be looked at: tried again later", exc_info=error)
                self._failed(key)
            else:
                self._queue.forget(key)
                if again is not None:
                    self._queue.add_after(key, again)
            finally:
                self._queue.done(key)

    def _failed(self, key: PolicyKey) -> None:
        self._metrics.errors.inc()
        self._queue.failed(key)

    async def _list_until_done(self) -> None:
        backoff = Backoff(self._jitter)
        while True:
            try:
                await self._list()
                # What kopf does not find when it begins, it never watches.
                if await self._cluster.policies_are_discovered():
                    return
                log_lines.warning("FairnessPolicy is not a kind that the API server has yet: is the CRD installed?")
            except ClusterError as error:
                log_lines.warning("policies and pods cannot be listed yet", error=str(error))
            await asyncio.sleep(backoff.next_seconds())

    async def _list(self) -> None:
        self._store.begin_listing()
        # Pods last: one that is bound to a policy is younger than it. Of each only its facts are kept.
        policies = await self._cluster.list_policies()
        pods = [facts async for pod in self._cluster.asking_pods() if (facts := read_pod(pod)) is not None]
        self._touched(self._store.end_listing(policies.items, pods))
        self._metrics.listed_at.set_to_current_time()

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS * self._jitter.uniform(0.9, 1.1))
            try:
                await self._list()
            except ClusterError as error:
                log_lines.warning("policies and pods could not be listed again", error=str(error))
            self._touched([key for key, _ in self._store.policies()])

    def _touched(self, keys: Iterable[PolicyKey]) -> None:
        for key in keys:
            self._queue.add(key)
        self._secrets.keep({key.namespace for key, _ in self._store.policies()})

    def _secrets_changed(self, namespace: str, policy: str | None) -> None:
        concerned = self._store.policies_of(namespace) if policy is None else (policy,)
        self._touched([PolicyKey(namespace, name) for name in concerned])

    def _selectors(self) -> Iterable[tuple[PolicyKey, Selector]]:
        for key, policy in self._store.policies():
            if not isinstance(policy.facts.parsed, InvalidPolicy):
                yield key, policy.facts.parsed.spec.selector

    def _figures(self) -> Iterable[PolicyFigures]:
        for _, policy in self._store.policies():
            ready = conditions_of(policy.status).get(READY, {})
            yield PolicyFigures(
                name=policy.facts.full_name,
                is_ready=ready.get("status") == "True",
                reason=ready.get("reason", ""),
                pods=policy.status.get("pods", {}),
            )


async def run(options: OperatorOptions) -> int:
    """The whole life of the process; its exit code."""
    told = Told()
    told.listen_to_signals()
    # It tells of each event that it gave on.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        transport = await connect("fairqueue-operator")
    except ClusterError as error:
        return _refuse(error)
    try:
        await unless(told.to_end.wait(), Operator(options, OperatorCluster(transport), told).serve())
    except (CannotStart, OSError) as error:
        return _refuse(error)
    except Lost as error:
        log_lines.warning("ended", because=str(error))
        _leave()
    except Exception as error:
        log_lines.log.error("ended", exc_info=error)
        _leave()
    finally:
        await transport.close()
    log_lines.info("stopped")
    return 0


def _leave() -> NoReturn:
    """Another may work by now: nothing of this process is waited for, and nothing of it writes any more."""
    logging.shutdown()
    os._exit(EXIT_FAILED)


def _refuse(error: Exception) -> int:
    print(f"fairqueue operator: {error}", file=sys.stderr)
    return EXIT_BAD_INPUT


def _now() -> datetime:
    return datetime.now(UTC)
