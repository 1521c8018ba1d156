"""A host and a port."""

from typing import NamedTuple


class Address(NamedTuple):
    """Where to listen or to connect."""

    host: str
    port: int
