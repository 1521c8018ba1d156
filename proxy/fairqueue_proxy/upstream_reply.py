"""One reply of the engine: from bytes to the four callbacks of a `ReplySink`.

`ReplyParser` judges and decodes; it owns no socket, reads no clock and never waits, so it can be fed byte by byte
in a test. llhttp (through httptools) does the grammar of HTTP/1.1 (RFC 9112). What it leaves open is decided here:
interim replies are swallowed, a reply without a length ends with the connection, trailers are dropped, protocol
switches and transfer codings other than `chunked` are refused, and an endless head is cut off.

Everything runs inside `feed()`, on the event loop. The sink may do whatever it likes from a callback, including
giving up the exchange, which ends in `mute()`: from then on not one more callback is made.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

import httptools

__all__ = ["MAX_HEADERS", "MAX_HEAD_BYTES", "BadReply", "ReplyParser", "ReplySink"]

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 256

_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"(?:^|[\s,;])timeout\s*=\s*\"?(\d{1,9})", re.IGNORECASE)


class ReplySink(Protocol):
    """Who receives a reply. All methods are called on the event loop and must not block.

    The order is `reply_head`, any number of `reply_data`, then `reply_end`; or `reply_lost` at any point. Exactly one
    of `reply_end` and `reply_lost` is called, unless the exchange was aborted: then neither.
    """

    def reply_head(self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """The final status (never 1xx) and the header fields, names spelled as the engine sent them."""

    def reply_data(self, data: bytes) -> None:
        """Some bytes of the body, without chunk framing, as soon as they are there."""

    def reply_end(self) -> None:
        """The reply is complete: this was the engine's last byte."""

    def reply_lost(self, reason: str) -> None:
        """The reply cannot be completed; the reason is for a log line or an error body."""


class BadReply(Exception):
    """What the engine sent, or the end of its bytes, does not make a reply that we accept."""


class ReplyParser:
    """Decodes the reply to one request; `feed()` it the bytes of the connection."""

    __slots__ = (
        "_head_bytes",
        "_head_only",
        "_head_seen",
        "_headers",
        "_keep_alive",
        "_live",
        "_message_complete",
        "_parser",
        "_reason",
        "_silent_bytes",
        "_sink",
        "_surplus",
        "_until_eof",
        "ended",
        "keep_alive_seconds",
    )

    def __init__(self, sink: ReplySink, *, method: str) -> None:
        self._sink = sink
        self._head_only = method == "HEAD"
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._silent_bytes = 0
        self._head_seen = False
        self._until_eof = True
        self._keep_alive = False
        self._message_complete = False
        self._surplus = False
        # True while the sink may be called: neither ended nor muted.
        self._live = True
        # True once the last byte of the reply was seen. `reply_end` is the caller's to call.
        self.ended = False
        # The engine's own `Keep-Alive: timeout`, if it named one.
        self.keep_alive_seconds: float | None = None
        self._parser = httptools.HttpResponseParser(self)

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request: the reply says so and nothing came after it."""
        return self._message_complete and self._keep_alive and not self._surplus

    def feed(self, data: bytes) -> None:
        """Decode what arrived, calling the sink's head and data on the way.

        Raises `BadReply`; whatever the sink raises passes through unchanged. Bytes after the end are no error of the
        reply: they only make the connection not `reusable`.
        """
        self._silent_bytes += len(data)
        failure: BaseException | None = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            # httptools keeps what a callback raised as the context of its own error.
            failure = error.__context__ or error
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._surplus = True
            failure = BadReply(f"the engine's reply is malformed: {error}") if self._live else None
        if failure is not None:
            raise failure
        # Heads, trailers and chunk extensions that never end would otherwise be collected without a bound.
        if self._silent_bytes > MAX_HEAD_BYTES and self._live:
            raise BadReply(f"the engine sent more than {MAX_HEAD_BYTES} bytes of head or framing")

    def feed_eof(self) -> None:
        """The engine has closed its side: the end of a reply without a length, else `BadReply`."""
        if not self._head_seen:
            raise BadReply("the engine closed the connection before it replied")
        if not self._until_eof:
            raise BadReply("the engine closed the connection in the middle of its reply")
        self._end()

    def mute(self) -> None:
        """Make no more callbacks, also when called from within one."""
        self._live = False
        # The parser holds our bound methods: without this cut only the cycle collector would free the two.
        del self._parser

    def on_message_begin(self) -> None:
        if not self._live:
            self._surplus = True

    def on_status(self, part: bytes) -> None:
        self._reason += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_seen:
            return
        self._head_bytes += len(name) + len(value) + len(b": \r\n")
        if self._head_bytes > MAX_HEAD_BYTES:
            raise BadReply(f"the head of the engine's reply is larger than {MAX_HEAD_BYTES} bytes")
        if len(self._headers) == MAX_HEADERS:
            raise BadReply(f"the engine's reply has more than {MAX_HEADERS} header fields")
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if not self._live or self._head_seen:
            return
        status = self._parser.get_status_code()
        if status < 100 or status == 101:
            raise BadReply(f"the engine replied with status {status}, which it was not asked for")
        reason, headers = self._reason, self._headers
        self._reason, self._headers = b"", []
        if status < 200:
            return
        self._head_seen = True
        self._read_framing(headers)
        self._keep_alive = self._parser.should_keep_alive()
        self._sink.reply_head(status, reason, headers)
        if self._head_only and self._live:
            self._end()

    def on_body(self, data: bytes) -> None:
        if self._live:
            self._silent_bytes = 0
            self._sink.reply_data(data)
        else:
            self._surplus = True

    def on_message_complete(self) -> None:
        # llhttp also completes interim replies. A reply to HEAD has ended before; it is complete for llhttp too, and
        # its connection in a known state, only when nothing in its head announces a body.
        if self._head_seen:
            self._message_complete = True
            if self._live:
                self._end()

    def _end(self) -> None:
        self.ended = True
        self._live = False

    def _read_framing(self, headers: list[tuple[bytes, bytes]]) -> None:
        for name, value in headers:
            field = name.lower()
            if field == b"content-length":
                self._until_eof = False
            elif field == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    raise BadReply("the engine's reply has a transfer coding other than chunked")
                self._until_eof = False
            elif field == b"keep-alive" and (match := _KEEP_ALIVE_TIMEOUT.search(value)):
                self.keep_alive_seconds = float(match[1])
