"""What is allowed in a policy and seldom meant: gateways' ranges of addresses from which anybody may speak."""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

from .cidrs import Network, parse_cidr
from .errors import Problem
from .models import FairnessPolicy

_WIDE_BELOW_BITS = {4: 16, 6: 48}
_LOOPBACK = IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")


def policy_warnings(policy: FairnessPolicy, source: str = "") -> list[Problem]:
    """What to think over before a checked `policy` is used, in the order of the fields; `source` names its file."""
    source = source or f"policy {policy.metadata.namespace}/{policy.metadata.name}"
    problems = []
    for index, entry in enumerate(policy.spec.identity.sources):
        for cidr_index, text in enumerate(entry.header.trusted_cidrs if entry.header is not None else ()):
            path = f"spec.identity.sources[{index}].header.trustedCIDRs[{cidr_index}]"
            problems += [Problem(source, path, what, fix) for what, fix in _doubts(parse_cidr(text))]
    return problems


def _doubts(network: Network) -> Iterator[tuple[str, str]]:
    bits = _WIDE_BELOW_BITS[network.version]
    if network.prefixlen == 0:
        yield "trusts every address: anybody can name any tenant", "write your gateway's addresses"
    elif network.prefixlen < bits:
        what = f"trusts a wide range (shorter than /{bits}): anybody in it can name any tenant"
        yield what, "write your gateway's addresses"
    if any(network.overlaps(loopback) for loopback in _LOOPBACK if loopback.version == network.version):
        what = "trusts loopback: every process beside the proxy, and every port-forward, can name any tenant"
        yield what, "leave loopback out, unless your gateway runs there"
