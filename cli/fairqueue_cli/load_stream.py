"""Reads one streamed reply as its bytes come: when the first token came, how many there were, whether it was whole.

Pure: no I/O, the time is handed in. One meter serves one reply. The engine's own count at the end (`usage`, TGI's
`details`) replaces the count of events, since an event may carry several tokens.
"""

from typing import Any

import msgspec

from fairqueue_cli.load_reply import Reply, name_of, reason_in
from fairqueue_cli.load_spec import Api


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: Any = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _ChatEvent(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class _Details(msgspec.Struct):
    generated_tokens: int = 0
    input_length: int | None = None


class _GenerateEvent(msgspec.Struct):
    token: Any = None
    generated_text: str | None = None
    details: _Details | None = None
    error: Any = None
    error_type: str | None = None
    reason: Any = None


_chat_decoder = msgspec.json.Decoder(_ChatEvent)
_generate_decoder = msgspec.json.Decoder(_GenerateEvent)


class StreamMeter:
    """Takes the bytes of one server-sent event stream and keeps its `Reply` up to date."""

    def __init__(self, api: Api, reply: Reply) -> None:
        self.reply = reply
        self._read_event = self._read_generate if api == "tgi" else self._read_chat
        self._rest = b""
        self._whole = False
        self._error = ""

    def feed(self, data: bytes, now: float) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and not self._error:
                try:
                    self._read_event(line[5:].strip(), now)
                except msgspec.DecodeError:
                    self._error = "unreadable event"

    def close(self) -> None:
        """The stream is at its end: settle how it ended."""
        self.reply.end_stream(whole=self._whole, error=self._error)

    def _read_chat(self, payload: bytes, now: float) -> None:
        if payload == b"[DONE]":
            self._whole = True
            return
        event = _chat_decoder.decode(payload)
        if event.error is not None:
            self._error = name_of(event.error)
            self.reply.reason = reason_in(event.error)
            return
        for choice in event.choices:
            delta = choice.delta
            if delta and (delta.content or delta.reasoning_content or delta.tool_calls):
                self.reply.count_token(now)
            # transformers' server sends no [DONE].
            self._whole = self._whole or choice.finish_reason is not None
        if event.usage is not None:
            self.reply.settle(event.usage.completion_tokens, event.usage.prompt_tokens)

    def _read_generate(self, payload: bytes, now: float) -> None:
        event = _generate_decoder.decode(payload)
        if event.error is not None:
            self._error = event.error_type or name_of(event.error)
            self.reply.reason = reason_in({"reason": event.reason})
            return
        if event.token is not None:
            self.reply.count_token(now)
        self._whole = self._whole or event.generated_text is not None
        if event.details is not None:
            self.reply.settle(event.details.generated_tokens, event.details.input_length)
