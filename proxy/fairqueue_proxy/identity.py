"""Who sends a request: the document's identity sources, in their order. Pure functions on headers and a peer address.

An API key is known by its digest and names a tenant. A trusted header names an identity; it is believed only from a
TCP peer in the source's CIDRs (never by X-Forwarded-For), and loopback is not trusted by itself. What identified the
client, and every identity header of an untrusted peer, is kept from the engine.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from fairqueue_api import Document, digest
from fairqueue_api.document import SourceSettings
from fairqueue_proxy.heads import RawHeaders, values
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.tenants import ANONYMOUS

IDENTITY_CHARACTERS = 256

NOBODY = "(nobody)"
"""All who show nothing are one member of the anonymous class, whatever users their bodies name: identities always have
their source before them."""


class Client(NamedTuple):
    """The tenant's name, and who below it as far as the credential told."""

    tenant: str
    identity: str | None


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    is_key: bool
    header: bytes
    trusted: tuple[IPv4Network | IPv6Network, ...]

    def trusts(self, peer: IPv4Address | IPv6Address | None) -> bool:
        return peer is not None and any(peer in network for network in self.trusted)


class Identity:
    """Finds the tenant of a request. Built once from a document."""

    def __init__(self, document: Document) -> None:
        self._sources = tuple(_source(source) for source in document.identity.sources)
        self._takes_anonymous = document.identity.on_unidentified == "Anonymous"
        self._by_digest = {key: tenant.name for tenant in document.tenants for key in tenant.key_digests}
        self._by_subject = {
            (subject.source, subject.value): tenant.name for tenant in document.tenants for subject in tenant.subjects
        }
        self._key_headers = frozenset(source.header for source in self._sources if source.is_key)

    def identify(self, headers: RawHeaders, peer: str | None) -> Client:
        """The first source that yields an identity wins.

        Raises:
            Refused: nobody is known by it; or it is there twice; or nothing is, and the policy takes nobody anonymous.
        """
        withheld = self.withheld(peer)
        for source in self._sources:
            if not source.is_key and source.header in withheld:
                continue
            given = values(headers, source.header)
            if not given:
                continue
            name = source.header.decode("latin-1")
            if len(given) > 1:
                raise Refused(Outcome.BAD_REQUEST, f"header {name} is given more than once: send it once")
            if not source.is_key and not given[0].strip():
                continue
            if source.is_key:
                return Client(self._tenant_of_key(name, given[0]), None)
            return self._client_of_subject(source, given[0])
        if self._takes_anonymous:
            return Client(ANONYMOUS, NOBODY)
        raise Refused(Outcome.UNAUTHENTICATED, self._what_to_send())

    def withheld(self, peer: str | None) -> frozenset[bytes]:
        """Lower-case names of headers that the engine must not see: those that carry credentials, or an identity from
        somebody who is not trusted."""
        if len(self._key_headers) == len(self._sources):
            return self._key_headers
        address = _address(peer)
        return self._key_headers | {
            source.header for source in self._sources if not source.is_key and not source.trusts(address)
        }

    def _tenant_of_key(self, name: str, value: bytes) -> str:
        tenant = self._by_digest.get(digest(_credential(name, value)))
        if tenant is None:
            # Whatever the policy says of those who show nothing: a wrong key is a mistake that must be seen.
            raise Refused(Outcome.UNAUTHENTICATED, f"the API key in header {name} is not known")
        return tenant

    def _client_of_subject(self, source: _Source, value: bytes) -> Client:
        identity = value.decode("utf-8", "replace").strip()
        tenant = self._by_subject.get((source.name, identity))
        if tenant is not None:
            return Client(tenant, None)
        if not self._takes_anonymous:
            raise Refused(Outcome.UNAUTHENTICATED, f"who header {source.header.decode('latin-1')} names is not known")
        return Client(ANONYMOUS, f"{source.name}/{identity[:IDENTITY_CHARACTERS]}")

    def _what_to_send(self) -> str:
        keys = [source.header.decode("latin-1") for source in self._sources if source.is_key]
        return f"no API key: send one in header {' or '.join(keys)}" if keys else "no identity"


def _source(source: SourceSettings) -> _Source:
    return _Source(
        source.name,
        source.type == "APIKey",
        source.header.encode("latin-1"),
        tuple(ip_network(cidr, strict=False) for cidr in source.trusted_cidrs),
    )


def _address(peer: str | None) -> IPv4Address | IPv6Address | None:
    """The peer's address; IPv4 in IPv6 clothes (a dual-stack listener) as IPv4."""
    if peer is None:
        return None
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _credential(name: str, value: bytes) -> bytes:
    scheme, _, rest = value.partition(b" ")
    if name == "authorization" and scheme.lower() == b"bearer":
        return rest.strip()
    return value.strip()
