"""The meter for Anthropic's `/v1/messages`.

Its streams tell the input at their beginning and the output at their end; in between each delta with text is one token
for the time being.
"""

import msgspec
from msgspec import Raw

from fairqueue_proxy.metering.chunks import has_text
from fairqueue_proxy.metering.meter import ReplyMeter, UnexpectedShape
from fairqueue_proxy.metering.token_usage import TokenUsage


class _Delta(msgspec.Struct):
    text: Raw = Raw()
    thinking: Raw = Raw()
    partial_json: Raw = Raw()

    def has_text(self) -> bool:
        return any(has_text(raw) for raw in (self.text, self.thinking, self.partial_json))


class _Message(msgspec.Struct):
    usage: TokenUsage | None = None


class _Event(msgspec.Struct):
    type: str | None = None
    delta: _Delta | None = None
    message: Raw = Raw()
    usage: TokenUsage | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_message = msgspec.json.Decoder(_Message).decode


class MessagesMeter(ReplyMeter):
    """One message, streamed or plain."""

    def _chunk(self, payload: bytes) -> bytes | None:
        event = _decode_event(payload)
        if event.type is None or event.type == "error":
            self._error_event(payload)
        elif event.type == "message_start":
            started = _decode_message(event.message).usage
            if started is not None:
                self._tell_prompt(started)
        elif event.type == "content_block_delta" and event.delta is not None and event.delta.has_text():
            self._tally.count(0)
        elif event.type == "message_delta" and event.usage is not None:
            self._settle(event.usage)
        elif event.type == "message_stop":
            self._end_of_stream()
        return None

    def _reply(self, body: bytes) -> bytes | None:
        usage = _decode_message(body).usage
        prompt, output = (usage.prompt(), usage.output()) if usage is not None else (None, None)
        if usage is None or prompt is None or output is None:
            raise UnexpectedShape("a plain reply without usage")
        self._tally.settle_whole(output, prompt, usage.cached())
        return None

    def _tell_prompt(self, usage: TokenUsage) -> None:
        prompt = usage.prompt()
        if prompt:
            self._tally.tell_prompt(0, prompt, usage.cached())

    def _settle(self, usage: TokenUsage) -> None:
        self._tell_prompt(usage)
        output = usage.output()
        if output is not None:
            self._tally.settle(0, output)
