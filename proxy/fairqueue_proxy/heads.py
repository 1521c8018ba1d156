"""Headers on their way through: who a client is, what the engine gets to see, what the client gets back.

Pure functions on raw header pairs. The credential that identified a client never reaches the engine, and neither do
headers by which a client could steer the engine's own order or sessions.
"""

import random
import re
from collections.abc import Iterable, Sequence

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
    return [value for key, value in headers if key.lower() == name]


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
    listed = b",".join(values(headers, b"connection")).lower()
    dropped = _HOP_BY_HOP | _OURS | withheld | {name.strip() for name in listed.split(b",")}
    if api_key is not None:
        dropped |= {b"authorization"}
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


def client_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The engine's headers as the client gets them: without what is between us and the engine."""
    pairs = list(headers)
    listed = ",".join(value for name, value in pairs if name.lower() == "connection").lower()
    dropped = {name.decode() for name in _NOT_FOR_CLIENTS} | {name.strip() for name in listed.split(",")}
    return [(name, value) for name, value in pairs if name.lower() not in dropped]
