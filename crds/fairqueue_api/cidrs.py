"""Ranges of addresses as Kubernetes writes them: what its `isCIDR` takes, and nothing else."""

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

# Go takes no sign and no leading zero; Python's reader takes masks such as /255.0.0.0 too.
_PREFIX_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")


class CidrError(ValueError):
    """A text that is no range of addresses. It never holds the text."""


def parse_cidr(text: str) -> Network:
    """The network of `10.0.0.0/8` or `fd00::/8`; bits after the prefix are dropped. Raises `CidrError`.

    IPv4 addresses in IPv6 clothes (`::ffff:10.0.0.1`) and zones (`fe80::1%eth0`) are refused, as by the API server.
    """
    host, slash, length = text.rpartition("/")
    if not slash or "%" in host or not _PREFIX_LENGTH.fullmatch(length):
        raise CidrError
    try:
        address = ip_address(host)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            raise CidrError
        return ip_network((host, int(length)), strict=False)
    except ValueError:
        raise CidrError from None
