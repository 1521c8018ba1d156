"""What a meter is, and what all meters do the same way.

A meter watches one reply of one engine for one request: it counts tokens, recognises errors, and takes out of the reply
what the proxy had asked the engine to put in. What it does not understand it passes on untouched and counts; it never
raises. It does no I/O, and each retry of a request gets a meter of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Protocol

import msgspec

from fairqueue_proxy.metering.errors import error_of_body, error_of_json, kind_of_status
from fairqueue_proxy.metering.reply_tail import object_in_tail
from fairqueue_proxy.metering.sse import DONE, OpaquePiece, data_span
from fairqueue_proxy.metering.tally import Tally
from fairqueue_proxy.metering.token_usage import decode_usage
from fairqueue_proxy.metering.usage import EngineError, ErrorKind, Usage

# msgspec's errors are ValueErrors; nesting beyond Python's limit is a RecursionError.
MALFORMED = (ValueError, RecursionError)

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any = msgspec.json.Decoder(msgspec.Raw)


class Meter(Protocol):
    """Counts one reply. Call `head` first; then `event` for each event of a stream, or `body` once."""

    usage: Usage

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Takes the head of the engine's response; header names are lower-case."""
        ...

    def event(self, event: bytes) -> bytes:
        """Counts one event and returns what the client gets instead: the same bytes, fewer fields, or nothing."""
        ...

    def body(self, body: bytes) -> bytes:
        """Counts a whole plain reply (an error's too) and returns what the client gets instead."""
        ...

    def tail(self, tail: bytes) -> None:
        """Counts a plain reply that was too long to be held, by its last bytes."""
        ...

    def rest(self) -> bytes:
        """What was still held back when the stream ended; to be asked once, at its end, whatever the end."""
        ...

    def is_first_token(self) -> bool:
        """Whether the last `event` was the first that carried a token."""
        ...


class UnexpectedShape(ValueError):
    """JSON that is no chunk, no error and no usage."""


class ReplyMeter(ABC):
    """The frame of a meter: an engine's meter fills in `_chunk` and `_reply`, and extends `head` if it counts."""

    def __init__(self, sequences: int = 1) -> None:
        self.usage = Usage()
        self._tally = Tally(self.usage, sequences)
        self._status = 200
        # Before the last event; None if there was none.
        self._counted_before: int | None = None

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self._status = status
        if status >= 400:
            self._fail(EngineError(kind_of_status(status), f"HTTP status {status}"))

    def event(self, event: bytes) -> bytes:
        usage = self.usage
        self._counted_before = usage.counted_tokens
        if isinstance(event, OpaquePiece):
            usage.malformed_events += 1
            return event
        span = data_span(event)
        if span is None:
            return event
        begin, end = span
        payload = event[begin:end]
        if payload == DONE:
            self._end_of_stream()
            return event
        # llama.cpp opens the stream of a list of prompts with `data: null`.
        if payload == b"null":
            return event
        try:
            replacement = self._chunk(payload)
        except MALFORMED:
            usage.malformed_events += 1
            return event
        if usage.error is not None:
            self._check_error(usage.error)
        if replacement is None:
            return event
        return event[:begin] + replacement + event[end:] if replacement else b""

    def body(self, body: bytes) -> bytes:
        self._counted_before = None
        if self._status >= 400:
            self.usage.error = None
            self._fail(error_of_body(self._status, body))
            return body
        try:
            replacement = self._reply(body)
        except MALFORMED:
            self.usage.malformed_events += 1
            return body
        self.usage.counted_tokens = self.usage.output_tokens
        return body if replacement is None else replacement

    def tail(self, tail: bytes) -> None:
        if self._status >= 400 or self.usage.final:
            return
        counts = self._counts_in_tail(tail)
        if counts is None:
            self.usage.malformed_events += 1
            return
        output, prompt, cached = counts
        self._tally.settle_whole(output, prompt, cached)
        self.usage.counted_tokens = output

    def rest(self) -> bytes:
        return b""

    def is_first_token(self) -> bool:
        return self._counted_before == 0 < self.usage.counted_tokens

    @abstractmethod
    def _chunk(self, payload: bytes) -> bytes | None:
        """Counts the JSON of one event; returns what replaces it: None the same, b"" nothing at all.

        Raises one of MALFORMED, before anything is counted, for what it does not understand.
        """

    @abstractmethod
    def _reply(self, body: bytes) -> bytes | None:
        """Counts the JSON of a plain reply; returns what replaces it, None the same. Raises as `_chunk` does."""

    def _counts_in_tail(self, tail: bytes) -> tuple[int, int, int] | None:
        """Output, prompt and cached tokens of all sequences, by the usage in the last bytes; None if it tells less."""
        usage = object_in_tail(tail, "usage", decode_usage)
        prompt, output = (usage.prompt(), usage.output()) if usage is not None else (None, None)
        if usage is None or prompt is None or output is None:
            return None
        return output, prompt, usage.cached()

    def _end_of_stream(self) -> None:
        """The engine said [DONE]."""
        self._tally.close()

    def _error_event(self, payload: bytes) -> None:
        self._fail(error_of_json(payload))

    def _fail(self, error: EngineError) -> None:
        present = self.usage.error
        if present is None or (error.kind is ErrorKind.FAILED and present.kind is not ErrorKind.FAILED):
            self.usage.error = error

    def _check_error(self, error: EngineError) -> None:
        if error.kind is not ErrorKind.FAILED and self.usage.output_tokens:
            self.usage.error = EngineError(ErrorKind.FAILED, error.message)


def fields_of(payload: bytes) -> dict[str, msgspec.Raw]:
    """The fields of a JSON object, their values as they were written. Raises one of MALFORMED."""
    return _fields.decode(payload)


def without_field(payload: bytes, name: str) -> bytes:
    """The JSON object without one field; every other value keeps its bytes."""
    # Engines write what only the proxy asked for at the end: then it is cut off, which is three times as fast.
    mark = _mark(name)
    before = payload.rfind(mark)
    if before != -1 and _is_last_value(payload, before + len(mark)):
        return payload[:before] + b"}"
    fields = fields_of(payload)
    fields.pop(name, None)
    return msgspec.json.encode(fields)


@cache
def _mark(name: str) -> bytes:
    """How a field that is not the first begins; asked for a handful of names."""
    return b',"%s":' % name.encode()


def _is_last_value(payload: bytes, begin: int) -> bool:
    """Whether a value begins here after which the JSON object ends: then it is the object's own, as what is in others
    is followed by more than one bracket."""
    try:
        _any.decode(payload[begin:-1])
    except MALFORMED:
        return False
    return payload.endswith(b"}")


def without_fields(payload: bytes, names: tuple[str, ...]) -> bytes:
    """The JSON object without several fields; every other value keeps its bytes."""
    return msgspec.json.encode({name: value for name, value in fields_of(payload).items() if name not in names})


def with_field(payload: bytes, name: str, value: msgspec.Raw) -> bytes:
    """The JSON object with one more field at its end; every other value keeps its bytes."""
    fields = fields_of(payload)
    fields[name] = value
    return msgspec.json.encode(fields)


def with_null(payload: bytes, name: str) -> bytes:
    """The JSON object with one of its fields set to null; every other value keeps its bytes."""
    return with_field(payload, name, msgspec.Raw(b"null"))
