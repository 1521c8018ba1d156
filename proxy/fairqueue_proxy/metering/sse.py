"""Server-sent events as bytes: where one ends, and where its data lies.

Nothing here decodes JSON or text, and nothing is changed: the events of a stream and its unfinished rest, put one
after the other, are the stream. An event ends with a blank line, written with \\n or \\r\\n. One splitter serves one
stream; it does no I/O and knows no clock.
"""

import re

EVENT_LIMIT_BYTES = 1024 * 1024

DONE = b"[DONE]"

_BLANK_LINE = re.compile(rb"\n\r?\n")
# The longest blank line is three bytes, so a match that is completed later begins in the last two bytes at most.
_OVERLAP_BYTES = 2


class OpaquePiece(bytes):
    """A piece of an event too long to be held: it goes to the client as it is and is not looked into."""

    __slots__ = ()


class EventSplitter:
    """Cuts a byte stream into events, however the network has cut it.

    An event longer than `limit_bytes` is handed out in `OpaquePiece`s of that size, so that memory stays bounded.
    Where the cuts lie depends on the stream alone, never on the chunks that it came in.
    """

    __slots__ = ("_buffer", "_handed_out", "_limit_bytes", "_searched")

    def __init__(self, limit_bytes: int = EVENT_LIMIT_BYTES) -> None:
        if limit_bytes <= _OVERLAP_BYTES:
            raise ValueError(f"limit_bytes must be above {_OVERLAP_BYTES}, got {limit_bytes}")
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()
        # Inside an overlong event the buffer begins with bytes already handed out: a blank line may begin in them.
        self._handed_out = 0
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, each with its blank line; comments are events too."""
        if self.is_whole(data):
            return [data]
        buffer = self._buffer
        buffer += data
        events: list[bytes] = []
        start = 0
        search_from = self._searched
        while True:
            blank_line = _BLANK_LINE.search(buffer, search_from)
            begin = start + self._handed_out
            limit = begin + self._limit_bytes
            if blank_line is not None and blank_line.end() <= limit:
                start = search_from = blank_line.end()
                events.append(self._piece(begin, start))
                self._handed_out = 0
            elif len(buffer) >= limit:
                events.append(OpaquePiece(buffer[begin:limit]))
                self._handed_out = _OVERLAP_BYTES
                start = search_from = limit - _OVERLAP_BYTES
            else:
                break
        if start:
            del buffer[:start]
        self._searched = max(0, len(buffer) - _OVERLAP_BYTES)
        return events

    def is_whole(self, data: bytes) -> bool:
        """What nearly always comes: exactly one event, after which nothing is left. It need not be fed."""
        size = len(data)
        if self._buffer or size > self._limit_bytes or not data.endswith(b"\n\n"):
            return False
        # Most events are of one line.
        return data.find(b"\n") == size - 2 or (data.find(b"\n\n") == size - 2 and b"\n\r\n" not in data)

    def flush(self) -> bytes:
        """What came after the last complete event; the splitter is empty afterwards."""
        rest = self._piece(self._handed_out, len(self._buffer))
        self._buffer.clear()
        self._handed_out = self._searched = 0
        return rest

    def _piece(self, begin: int, end: int) -> bytes:
        piece = self._buffer[begin:end]
        return OpaquePiece(piece) if self._handed_out else bytes(piece)


def data_span(event: bytes) -> tuple[int, int] | None:
    """Where the value of the event's `data` field lies; None for comments and events without data.

    Several data lines give one span from the first to the last with the field names between them, which is not JSON:
    no engine writes JSON over several lines.
    """
    if event.startswith(b"data:"):
        line_end = event.find(b"\n")
        if line_end == len(event) - 2 and event.endswith(b"\n"):
            return 6 if event.startswith(b" ", 5) else 5, line_end
    return _data_span_of_lines(event)


def _data_span_of_lines(event: bytes) -> tuple[int, int] | None:
    begin, end = -1, -1
    at = 0
    for line in event.splitlines(keepends=True):
        if line.startswith(b"data:"):
            value_begin, end = _value_span(event, at, at + len(line.rstrip(b"\r\n")))
            if begin == -1:
                begin = value_begin
        at += len(line)
    return (begin, end) if begin != -1 else None


def _value_span(event: bytes, line_begin: int, line_end: int) -> tuple[int, int]:
    begin = line_begin + len(b"data:")
    # The format allows one space after the colon; TGI before 2.2 wrote none.
    if event.startswith(b" ", begin):
        begin += 1
    return begin, max(begin, line_end)
