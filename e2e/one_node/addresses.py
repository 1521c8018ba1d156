"""Names and addresses of the node. They are fixed, so there is one node per machine."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

__all__ = [
    "API_SERVICE",
    "DEVICE",
    "DNS_SERVICE",
    "DOMAIN",
    "HOST",
    "LINK",
    "NODE",
    "NODE_NAME",
    "PODS",
    "SERVICES",
    "taken_by",
]

NODE_NAME = "fairqueue-e2e"
DOMAIN = "cluster.local"
# The host's end of the cable between host and node.
DEVICE = "fairqueue-e2e"

PODS = IPv4Network("10.77.0.0/20")
SERVICES = IPv4Network("10.77.16.0/20")
LINK = IPv4Network("10.77.32.0/30")
HOST, NODE = LINK.hosts()
# By convention the first address of the range.
API_SERVICE: IPv4Address = SERVICES[1]
DNS_SERVICE: IPv4Address = SERVICES[10]


def taken_by(destinations: Iterable[str]) -> str | None:
    """The first of these routes' destinations that overlaps the node's ranges."""
    for destination in destinations:
        if destination != "default" and any(IPv4Network(destination).overlaps(it) for it in (PODS, SERVICES, LINK)):
            return destination
    return None
