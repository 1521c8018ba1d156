"""The meter for `/v1/responses`.

Its streams have no running count (llama.cpp's have one if asked for), so each delta with text is one token for the
time being. The last event, whichever it is, settles that by its usage; a stream that breaks has none.
"""

import msgspec
from msgspec import Raw

from fairqueue_proxy.metering.chunks import Timings, has_text
from fairqueue_proxy.metering.errors import error_of_object
from fairqueue_proxy.metering.meter import ReplyMeter, UnexpectedShape, without_field
from fairqueue_proxy.metering.token_usage import TokenUsage


class _Response(msgspec.Struct):
    status: str | None = None
    usage: TokenUsage | None = None
    error: Raw = Raw()


class _Event(msgspec.Struct):
    type: str | None = None
    delta: Raw = Raw()
    response: _Response | None = None
    timings: Timings | None = None
    error: Raw = Raw()


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response).decode


class ResponsesMeter(ReplyMeter):
    """`strip_timings`: those of the deltas are there only because the proxy asked; the last event has its own."""

    def __init__(self, *, strip_timings: bool = False) -> None:
        super().__init__()
        self._strip_timings = strip_timings

    def _chunk(self, payload: bytes) -> bytes | None:
        event = _decode_event(payload)
        if event.type is None or event.type == "error" or has_text(event.error):
            self._error_event(payload)
            return None
        if event.type.endswith(".delta"):
            return self._delta(payload, event)
        if event.response is not None:
            self._take(event.response)
        return None

    def _reply(self, body: bytes) -> bytes | None:
        response = _decode_response(body)
        if response.usage is None and not has_text(response.error):
            raise UnexpectedShape("a plain reply without usage")
        self._take(response)
        return None

    def _delta(self, payload: bytes, event: _Event) -> bytes | None:
        timings = event.timings
        replacement = without_field(payload, "timings") if self._strip_timings and timings is not None else None
        if timings is not None:
            self.usage.exact = True
            self._tally.count_up_to(0, timings.predicted_n)
            self._tally.tell_prompt(0, timings.prompt_tokens(), timings.cache_n)
        elif has_text(event.delta):
            self._tally.count(0)
        return replacement

    def _take(self, response: _Response) -> None:
        usage = response.usage
        prompt, output = (usage.prompt(), usage.output()) if usage is not None else (None, None)
        # An engine may show zeros while it works.
        if usage is not None and prompt is not None and output is not None and response.status != "in_progress":
            self._tally.settle_whole(output, prompt, usage.cached())
        if has_text(response.error):
            self._fail(error_of_object(bytes(response.error)))
