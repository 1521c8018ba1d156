"""Headers on their way through: who a client is, what the engine gets to see, what the client gets back.

Pure functions on raw header pairs. The credential that identified a client never reaches the engine, and neither do
headers by which a client could steer the engine's own order or sessions.
"""

import random
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

RawHeaders = Sequence[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade".split()
)
# Set anew for the engine, or settled between us and the client (100-continue, no compression to look through).
_OURS = frozenset(b"host content-length expect accept-encoding x-request-id".split())
_NOT_FOR_CLIENTS = _HOP_BY_HOP | {b"content-length", b"x-request-id"}
_REQUEST_ID = re.compile(rb"[!-~]{1,128}\Z")


def values(headers: RawHeaders, name: bytes) -> list[bytes]:
    """All values of a header; `name` in lower case."""
    size = len(name)
    return [value for key, value in headers if len(key) == size and key.lower() == name]


def request_id(headers: RawHeaders, random_source: random.Random) -> str:
    """The client's own request id if it is a decent one, else a new one."""
    given = values(headers, b"x-request-id")
    if len(given) == 1 and _REQUEST_ID.match(given[0]):
        return given[0].decode("ascii")
    return f"{random_source.getrandbits(128):032x}"


def engine_head(
    method: str,
    target: str,
    authority: str,
    headers: RawHeaders,
    *,
    withheld: frozenset[bytes],
    request_id: str | None = None,
    body_bytes: int | None = None,
    api_key: str | None = None,
) -> bytes:
    """Request line and headers for the engine. `withheld`: lower-case names of what is for us or would steer it.
    `api_key`: the engine's own, in place of whatever the client sent."""
    dropped = _not_for_engines(withheld, api_key is not None)
    if listed := values(headers, b"connection"):
        dropped |= {name.strip() for name in b",".join(listed).lower().split(b",")}
    lines = [f"{method} {target} HTTP/1.1\r\nHost: {authority}".encode("latin-1")]
    lines += [name + b": " + value for name, value in headers if name.lower() not in dropped]
    lines.append(b"Accept-Encoding: identity")
    if api_key is not None:
        lines.append(b"Authorization: Bearer " + api_key.encode("latin-1"))
    if request_id is not None:
        lines.append(b"X-Request-Id: " + request_id.encode("ascii"))
    if body_bytes is not None:
        lines.append(b"Content-Length: %d" % body_bytes)
    return b"\r\n".join(lines) + b"\r\n\r\n"


@lru_cache(16)
def _not_for_engines(withheld: frozenset[bytes], has_own_key: bool) -> frozenset[bytes]:
    return _HOP_BY_HOP | _OURS | withheld | ({b"authorization"} if has_own_key else set())


def client_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The engine's headers as the client gets them: without what is between us and the engine."""
    kept, listed = [], []
    for name, value in headers:
        lower = name.lower()
        if lower == b"connection":
            listed += [each.strip() for each in value.lower().split(b",")]
        if lower not in _NOT_FOR_CLIENTS:
            kept.append((name, value))
    return [pair for pair in kept if pair[0].lower() not in listed] if listed else kept
