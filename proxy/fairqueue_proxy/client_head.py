"""The head of a reply to a client, and how its body is framed (RFC 9112, section 6.3). Pure.

What the engine's head says goes on as bytes, less what is between us and the engine.
"""

from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from fairqueue_proxy.heads import RawHeaders

_NO_CONTENT, _NOT_MODIFIED = 204, 304


class ClientHead(NamedTuple):
    """`in_chunks`: how the body follows. `keeps_alive`: another request may follow on the connection. `has_body` is
    False where none can follow, whatever the head says of its length."""

    raw: bytes
    in_chunks: bool
    keeps_alive: bool
    has_body: bool


def client_head(
    method: str,
    version: tuple[int, int],
    status: int,
    headers: RawHeaders,
    *,
    body_bytes: int | None,
    keep_alive: bool,
    now: float,
) -> ClientHead:
    """`headers` without those of framing. `body_bytes` None: the length is not known yet. `keep_alive`: the client
    wants it, and so do we. `now` is the time of day, in seconds."""
    has_body = method != "HEAD" and status >= 200 and status not in (_NO_CONTENT, _NOT_MODIFIED)
    in_chunks = has_body and body_bytes is None and version >= (1, 1)
    # To a client of HTTP/1.0 only the connection's end tells that of a body whose length nobody knew.
    keep_alive = keep_alive and not (has_body and body_bytes is None and not in_chunks)
    lines = [_status_line(version, status), *[b"%b: %b" % field for field in headers]]
    names = {name.lower() for name, _ in headers}
    if in_chunks:
        lines.append(b"Transfer-Encoding: chunked")
    elif body_bytes is not None and status >= 200 and status != _NO_CONTENT:
        lines.append(b"Content-Length: %d" % body_bytes)
    if has_body and body_bytes != 0 and b"content-type" not in names:
        lines.append(b"Content-Type: application/octet-stream")
    if b"date" not in names:
        lines.append(_date(int(now)))
    if b"server" not in names:
        lines.append(b"Server: fairqueue")
    if not keep_alive:
        lines.append(b"Connection: close")
    elif version < (1, 1):
        lines.append(b"Connection: keep-alive")
    return ClientHead(b"\r\n".join(lines) + b"\r\n\r\n", in_chunks, keep_alive, has_body)


@lru_cache(64)
def _status_line(version: tuple[int, int], status: int) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    return f"HTTP/{version[0]}.{version[1]} {status} {reason}".encode()


@lru_cache(1)
def _date(second: int) -> bytes:
    return f"Date: {formatdate(second, usegmt=True)}".encode()
