"""Keeps the authority, the serving certificate and the webhook's `caBundle` in order, by reading them again and again.

Every replica does the same, with no leader: whoever is slower finds a newer resource version, and reads again. What
is to be done is `certificate_plan`'s; here is only the reading and writing. One look at a time; `run` never ends and
never raises: what fails is logged, tried again soon, and leaves in place what is being served.
"""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509

from . import log_lines
from .backoff import Backoff
from .certificate_plan import (
    SecretData,
    StoredPair,
    judge_authority,
    judge_leaf,
    new_authority,
    new_leaf,
    plan_bundle,
    trusts,
)
from .certificates import Pair
from .cluster_model import ClusterError, Conflict, StoredSecret, WebhookConfiguration

INTERVAL_SECONDS = 15.0
# API servers learn of a change of the `caBundle` by a watch.
_SETTLING = timedelta(seconds=5)
_TRIES = 5


class CertificateCluster(Protocol):
    """What the keeper needs of the API server. A write of what others have changed meanwhile raises `Conflict`."""

    async def read_secret(self, namespace: str, name: str) -> StoredSecret | None: ...

    async def create_secret(self, namespace: str, name: str, data: Mapping[str, bytes]) -> None: ...

    async def replace_secret(
        self, namespace: str, name: str, data: Mapping[str, bytes], resource_version: str
    ) -> None: ...

    async def read_webhooks(self, name: str) -> WebhookConfiguration | None: ...

    async def patch_bundles(self, name: str, bundles: Mapping[str, bytes], resource_version: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """The names of what is kept: two Secrets in one namespace, and the webhook configuration."""

    namespace: str
    authority: str
    leaf: str
    webhooks: str
    dns_names: Sequence[str]


class CertificateKeeper:
    """See the module's text. `serve` is told which pair to serve, at every look."""

    def __init__(
        self,
        cluster: CertificateCluster,
        kept: Kept,
        serve: Callable[[Pair], object],
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._kept = kept
        self._serve = serve
        self._clock = clock
        self._trusted: tuple[x509.Certificate, datetime] | None = None

    async def run(self, pause: Callable[[float], Awaitable[None]], jitter: random.Random) -> None:
        """Looks every quarter of a minute, sooner after a failure."""
        backoff = Backoff(jitter, longest_seconds=INTERVAL_SECONDS)
        while True:
            try:
                await self.look()
                backoff.reset()
                wait = INTERVAL_SECONDS * jitter.uniform(0.9, 1.1)
            except ClusterError as error:
                log_lines.warning("certificates not checked", error=str(error))
                wait = backoff.next_seconds()
            except Exception:
                log_lines.log.exception("certificates not checked")
                wait = INTERVAL_SECONDS
            await pause(wait)

    async def look(self) -> None:
        """Reads everything once, and mends what is to be mended now. Raises `ClusterError`."""
        for _ in range(_TRIES - 1):
            try:
                return await self._look()
            except Conflict:
                continue
        return await self._look()

    async def _look(self) -> None:
        now = self._clock()
        authority = await self._authority(now)
        stored = await self._read(self._kept.leaf)
        leaf = judge_leaf(_data(stored), authority.certificate, self._kept.dns_names, now)
        if leaf.usable is not None:
            self._serve(leaf.usable)
        trusted = await self._mend_bundles(authority.certificate, leaf, now)
        if leaf.problem and (trusted or not leaf.can_wait):
            data = new_leaf(authority, self._kept.dns_names, now)
            await self._store(self._kept.leaf, data, stored, leaf.problem)
            made = judge_leaf(data, authority.certificate, self._kept.dns_names, now).usable
            assert made is not None
            self._serve(made)

    async def _authority(self, now: datetime) -> Pair:
        stored = await self._read(self._kept.authority)
        judged = judge_authority(_data(stored), now)
        if not judged.problem:
            assert judged.usable is not None
            return judged.usable
        data = new_authority(now)
        await self._store(self._kept.authority, data, stored, judged.problem)
        made = judge_authority(data, now).usable
        assert made is not None
        return made

    async def _mend_bundles(self, authority: x509.Certificate, leaf: StoredPair, now: datetime) -> bool:
        """Whether every webhook has trusted the authority for long enough that its certificates can be served."""
        try:
            found = await self._cluster.read_webhooks(self._kept.webhooks)
            if found is None:
                log_lines.warning("webhook configuration is missing: nothing is injected", name=self._kept.webhooks)
                return True
            wanted = {name: plan_bundle(present, authority, leaf, now) for name, present in found.bundles.items()}
            changed = {name: bundle for name, bundle in wanted.items() if bundle != found.bundles[name]}
            if changed:
                await self._cluster.patch_bundles(self._kept.webhooks, changed, found.resource_version)
                log_lines.info("caBundle repaired", name=self._kept.webhooks, webhooks=sorted(changed))
        except Conflict:
            raise
        except ClusterError as error:
            # What is served must not depend on the right to mend this.
            log_lines.warning("caBundle not checked", error=str(error))
            return False
        return self._has_settled(authority, all(trusts(bundle, authority) for bundle in found.bundles.values()), now)

    def _has_settled(self, authority: x509.Certificate, is_trusted: bool, now: datetime) -> bool:
        if not is_trusted:
            self._trusted = None
        elif self._trusted is None or self._trusted[0] != authority:
            self._trusted = authority, now
        return self._trusted is not None and now >= self._trusted[1] + _SETTLING

    async def _read(self, name: str) -> StoredSecret | None:
        return await self._cluster.read_secret(self._kept.namespace, name)

    async def _store(self, name: str, data: SecretData, stored: StoredSecret | None, why: str) -> None:
        if stored is None:
            await self._cluster.create_secret(self._kept.namespace, name, data)
        else:
            await self._cluster.replace_secret(self._kept.namespace, name, data, stored.resource_version)
        log_lines.info("certificate made anew", secret=name, because=why)


def _data(stored: StoredSecret | None) -> SecretData | None:
    return None if stored is None else stored.data
