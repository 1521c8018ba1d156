"""A host and a port, and how options give them."""

from typing import NamedTuple

_ANY = "0.0.0.0"


class Address(NamedTuple):
    """Where to listen or to connect."""

    host: str
    port: int


def read_address(text: str, option: str, example: str = "127.0.0.1:8080") -> Address:
    """HOST:PORT, with brackets around an IPv6 address; no host is any of IPv4's.

    Raises:
        ValueError: it is not; one line that names the option.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"{option} {text}: must be HOST:PORT, e.g. {example}")
    return Address(host.strip("[]") or _ANY, int(port))
