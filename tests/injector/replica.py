"""A keeper of certificates as one replica has it, and whether an API server would take what it serves."""

from cryptography import x509

from fairqueue_operator.certificate_keeper import CertificateKeeper, Kept
from fairqueue_operator.certificates import Pair, is_signed_by, read_bundle
from injector.conftest import Clock
from injector.fake_cluster import FakeCluster

CA, TLS, WEBHOOK = "fairqueue-injector-ca", "fairqueue-injector-tls", "inject.fairqueue.dev"
KEPT = Kept("fairqueue-system", CA, TLS, "fairqueue-injector", ("fairqueue-injector.fairqueue-system.svc",))


class Replica:
    """A keeper and what it serves."""

    def __init__(self, cluster: FakeCluster, clock: Clock) -> None:
        self.cluster = cluster
        self.served: list[Pair] = []
        self.keeper = CertificateKeeper(cluster, KEPT, self._serve, clock)

    def _serve(self, pair: Pair) -> None:
        if not self.served or self.served[-1].certificate != pair.certificate:
            self.served.append(pair)

    async def look(self) -> None:
        await self.keeper.look()

    @property
    def leaf(self) -> x509.Certificate:
        return self.served[-1].certificate

    @property
    def is_taken(self) -> bool:
        """Whether an API server would take what this replica serves."""
        assert self.cluster.bundles is not None
        return any(is_signed_by(self.leaf, found) for found in read_bundle(self.cluster.bundles[WEBHOOK]))
