"""Meters for the routes of Text Generation Inference 2.x and 3.x.

TGI writes one event per token, whatever its text, so a stream is counted exactly as it passes; the engine's own counts
come at its end, or in the headers of a plain reply. Chat with tools is the exception: events are held back while a call
is being written, so the count is provisional there, and the first of two generations (the model chose no tool) shows in
no stream at all.
"""

from collections.abc import Mapping

import msgspec

from fairqueue_proxy.metering.chunks import Count, UsageField, decode_chunk, has_text
from fairqueue_proxy.metering.meter import ReplyMeter, UnexpectedShape, with_null, without_field


class _Sequence(msgspec.Struct):
    generated_tokens: Count


class _Details(msgspec.Struct):
    generated_tokens: Count
    input_length: Count | None = None
    best_of_sequences: list[_Sequence] | None = None


class _Token(msgspec.Struct):
    """That there is one is all that counts."""


class _NativeEvent(msgspec.Struct):
    token: _Token | None = None
    details: _Details | None = None
    error: msgspec.Raw = msgspec.Raw()


class _NativeReply(msgspec.Struct):
    generated_text: msgspec.Raw
    details: _Details | None = None


_decode_event = msgspec.json.Decoder(_NativeEvent).decode
_decode_replies = msgspec.json.Decoder(list[_NativeReply]).decode
_decode_reply = msgspec.json.Decoder(_NativeReply).decode
_decode_objects = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _TgiMeter(ReplyMeter):
    """Reads the counts that TGI puts into the headers of every plain reply."""

    def __init__(self, sequences: int = 1) -> None:
        super().__init__(sequences)
        self._header_tokens: tuple[int, int] | None = None

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        super().head(status, headers)
        prompt = _header_count(headers.get("x-prompt-tokens"))
        generated = _header_count(headers.get("x-generated-tokens"))
        if status < 400 and prompt is not None and generated is not None:
            self._header_tokens = prompt, generated
            self._tally.settle_whole(generated, prompt)
            self.usage.counted_tokens = generated


class TgiNativeMeter(_TgiMeter):
    """`/generate`, `/generate_stream` and `/`.

    `best_of` sequences are made for one reply, which is about the best of them: the headers count that one, the details
    all. `strip_details`: they are there only because the proxy asked.
    """

    def __init__(self, *, best_of: int = 1, strip_details: bool = False) -> None:
        super().__init__()
        self._best_of = best_of
        self._strip_details = strip_details

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        super().head(status, headers)
        if self._best_of > 1 and self._header_tokens is not None:
            prompt, generated = self._header_tokens
            # Until the details tell, the other sequences are taken to be as long as the best.
            self._tally.settle_whole(generated * self._best_of, prompt * self._best_of)
            self.usage.final = self.usage.exact = False

    def _chunk(self, payload: bytes) -> bytes | None:
        event = _decode_event(payload)
        if len(event.error) and has_text(event.error):
            self._error_event(payload)
            return None
        if event.token is None:
            raise UnexpectedShape("neither a token nor an error")
        strip = self._strip_details and event.details is not None
        replacement = with_null(payload, "details") if strip else None
        self.usage.exact = True
        self._tally.count(0)
        if event.details is None:
            return None
        self._tally.settle(0, event.details.generated_tokens)
        if event.details.input_length is not None:
            self._tally.tell_prompt(0, event.details.input_length)
        return replacement

    def _reply(self, body: bytes) -> bytes | None:
        is_list = body.lstrip()[:1] == b"["
        replies = _decode_replies(body) if is_list else [_decode_reply(body)]
        replacement = self._without_details(body, is_list) if self._strip_details else None
        details = [reply.details for reply in replies if reply.details is not None]
        if details:
            self._settle_details(details)
        elif self._header_tokens is None:
            raise UnexpectedShape("neither headers nor details tell the tokens")
        return replacement

    def _settle_details(self, details: list[_Details]) -> None:
        generated = sum(
            own.generated_tokens + sum(other.generated_tokens for other in own.best_of_sequences or ())
            for own in details
        )
        self.usage.exact = True
        if self._header_tokens is not None:
            self._tally.settle_whole(generated, self._header_tokens[0] * self._best_of)
        else:
            self._tally.settle(0, generated)

    def _without_details(self, body: bytes, is_list: bool) -> bytes:
        if not is_list:
            return without_field(body, "details")
        replies = [msgspec.Raw(without_field(bytes(reply), "details")) for reply in _decode_objects(body)]
        return msgspec.json.encode(replies)


class TgiChatMeter(_TgiMeter):
    """`/v1/chat/completions`. `strip_usage`: the stream's usage chunk is there only because the proxy asked."""

    def __init__(self, *, tools: bool = False, strip_usage: bool = False) -> None:
        super().__init__()
        self._tools = tools
        self._strip_usage = strip_usage

    def _chunk(self, payload: bytes) -> bytes | None:
        chunk = decode_chunk(payload)
        if has_text(chunk.error):
            self._error_event(payload)
            return None
        if chunk.choices:
            self.usage.exact = not self._tools
            self._tally.count(0)
        elif chunk.usage is None:
            raise UnexpectedShape("neither a choice nor usage")
        if chunk.usage is None:
            return None
        self._tally.settle_whole(chunk.usage.completion_tokens, chunk.usage.prompt_tokens)
        return b"" if self._strip_usage and not chunk.choices else None

    def _reply(self, body: bytes) -> bytes | None:
        usage = _usage_of(body)
        if self._header_tokens is None:
            self._tally.settle_whole(usage.completion_tokens, usage.prompt_tokens)
        elif usage.completion_tokens != self._header_tokens[1]:
            # The model chose no tool and the router generated again: usage counts the first run, the headers the
            # second. Both were made. The prompt of the first run is told nowhere.
            self._tally.settle_whole(usage.completion_tokens + self._header_tokens[1], self._header_tokens[0])
        return None


class TgiCompletionsMeter(_TgiMeter):
    """`/v1/completions`: one sequence per prompt, each with its usage in its own last chunk, asked or not."""

    def __init__(self, *, prompts: int = 1) -> None:
        super().__init__(prompts)

    def _chunk(self, payload: bytes) -> bytes | None:
        chunk = decode_chunk(payload)
        if has_text(chunk.error):
            self._error_event(payload)
            return None
        if not chunk.choices:
            raise UnexpectedShape("neither a choice nor an error")
        index = chunk.choices[0].index
        self.usage.exact = True
        self._tally.count(index)
        if chunk.usage is not None:
            self._tally.settle(index, chunk.usage.completion_tokens)
            self._tally.tell_prompt(index, chunk.usage.prompt_tokens)
        return None

    def _reply(self, body: bytes) -> bytes | None:
        usage = _usage_of(body)
        self._tally.settle_whole(usage.completion_tokens, usage.prompt_tokens)
        return None


def _usage_of(body: bytes) -> UsageField:
    usage = decode_chunk(body).usage
    if usage is None:
        raise UnexpectedShape("a plain reply without usage")
    return usage


def _header_count(value: str | None) -> int | None:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 12:
        return None
    return int(value)
