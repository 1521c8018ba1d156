"""The injector's process: what it is made of, and the order in which its parts begin and end.

One event loop, no threads, no leader: replicas know nothing of one another. State is a cache of policies and the
certificate that is served; both come from the API server. It is ready when it has both and was not told to end.
"""

import asyncio
import random
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

from fairqueue_api.told import Told

from . import log_lines
from .backoff import Backoff
from .bare_pod_watch import BarePodWatch
from .certificate_files import CertificateFiles
from .certificate_keeper import CertificateKeeper, Kept
from .cluster import connect
from .cluster_model import ClusterError
from .deciding import Deciding
from .event_notes import INJECTOR
from .event_poster import EventPoster
from .injector_cluster import InjectorCluster
from .injector_metrics import InjectorMetrics
from .injector_options import Options
from .listener import Listener
from .policy_cache import PolicyCache
from .policy_watch import PolicyWatch
from .review_body import BodyRoom
from .running import EXIT_BAD_INPUT, CannotStart, first, listening, running, unless
from .serving_context import ServingContext, is_in_memory, not_after_seconds
from .status_pages import status_application
from .verdict import judge_by
from .webhook import Webhook

OLDEST: Final = (1, 32)


class Injector:
    """All parts of one replica. `serve` begins and ends them."""

    def __init__(self, options: Options, cluster: InjectorCluster, told: Told) -> None:
        self._options = options
        self._cluster = cluster
        self._told = told
        self._jitter = random.Random()
        self._metrics = InjectorMetrics()
        self._serving = ServingContext(
            options.key_directory, lambda leaf: self._metrics.serves_until(not_after_seconds(leaf))
        )
        self._cache = PolicyCache()
        self._poster = EventPoster(cluster, INJECTOR, options.instance, _now, monotonic)
        deciding = Deciding(judge_by(options.settings), self._cache, cluster)
        webhook = Webhook(deciding, self._metrics, self._poster, BodyRoom())
        listen, health = options.listen, options.health
        self.admissions = Listener(webhook.application(), listen.host, listen.port, context=self._serving.context)
        self.status = Listener(status_application(self.unready, self._metrics), health.host, health.port)

    def unready(self) -> str:
        """Why this replica should get no requests; empty if it should."""
        if self._told.to_finish.is_set():
            return "shutting down"
        if not self._serving.is_loaded:
            return "no certificate yet"
        if not self._cache.filled:
            return "policies not listed yet"
        return ""

    async def serve(self) -> None:
        """Serves until told to finish, and then in order. Raises `CannotStart`."""
        async with listening(self.status):
            if not await self._is_served_by_a_new_enough_server():
                return
            async with listening(self.admissions), running(self._background()) as failed:
                log_lines.info("listening", admissions=self.admissions.port, health=self.status.port)
                await first(self._told.to_finish.wait(), failed)
                await self._withdraw()

    async def _is_served_by_a_new_enough_server(self) -> bool:
        """False if told to finish before the server has answered."""
        backoff = Backoff(self._jitter)
        while not self._told.to_finish.is_set():
            try:
                version = await self._cluster.server_version()
            except ClusterError as error:
                log_lines.warning("the API server's version is not known yet", error=str(error))
                await first(self._told.to_finish.wait(), asyncio.sleep(backoff.next_seconds()))
                continue
            if version < OLDEST:
                found, oldest = (".".join(map(str, each)) for each in (version, OLDEST))
                raise CannotStart(f"Kubernetes {found} is too old: fairqueue's proxies need {oldest} or newer")
            return True
        return False

    def _background(self) -> list[Coroutine[Any, Any, None]]:
        watch = PolicyWatch(self._cluster, self._cache)
        bare = BarePodWatch(self._cluster, self._poster, self._metrics.bare_pods)
        return [
            watch.run(asyncio.sleep, self._jitter),
            bare.run(asyncio.sleep, self._jitter),
            self._poster.run(),
            self._certificates(),
        ]

    def _certificates(self) -> Coroutine[Any, Any, None]:
        options = self._options
        if options.certificate_files is not None:
            return CertificateFiles(options.certificate_files, self._serving).run(asyncio.sleep)
        kept = Kept(
            namespace=options.namespace,
            authority=options.authority_secret,
            leaf=options.leaf_secret,
            webhooks=options.webhooks,
            dns_names=(f"{options.service}.{options.namespace}.svc",),
        )
        keeper = CertificateKeeper(
            self._cluster, kept, lambda pair: self._serving.load(pair.certificate_pem, pair.key_pem), _now
        )
        return keeper.run(asyncio.sleep, self._jitter)

    async def _withdraw(self) -> None:
        """Serves on while endpoints are withdrawn and API servers learn of it."""
        self.admissions.is_ending = True
        log_lines.info("not ready any more", shutdown_delay_seconds=self._options.shutdown_delay_seconds)
        await first(self._told.to_end.wait(), asyncio.sleep(self._options.shutdown_delay_seconds))


async def run(options: Options) -> int:
    """The whole life of the process; its exit code."""
    told = Told()
    told.listen_to_signals()
    if not is_in_memory(options.key_directory):
        log_lines.warning("--key-directory is on a disk: mount it from memory", directory=str(options.key_directory))
    try:
        transport = await connect("fairqueue-injector")
    except ClusterError as error:
        return _refuse(error)
    try:
        await unless(told.to_end.wait(), Injector(options, InjectorCluster(transport), told).serve())
    except (CannotStart, OSError) as error:
        return _refuse(error)
    finally:
        await transport.close()
    log_lines.info("stopped")
    return 0


def _refuse(error: Exception) -> int:
    print(f"fairqueue injector: {error}", file=sys.stderr)
    return EXIT_BAD_INPUT


def _now() -> datetime:
    return datetime.now(UTC)
