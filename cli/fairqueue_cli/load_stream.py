"""Reads one streamed reply as its bytes come: when the first token came, how many there were, whether it was whole.

Pure: no I/O, the time is handed in. One meter serves one reply. The engine's own count at the end (`usage`, TGI's
`details`) replaces the count of events, since an event may carry several tokens.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from fairqueue_cli.load_spec import Api


class Outcome(Enum):
    """How a request ended, seen from the client."""

    COMPLETED = "completed"
    REFUSED = "refused"  # answered with an error before any token
    FAILED = "failed"  # no connection, a broken engine, or a stream that broke off
    UNFINISHED = "unfinished"  # still running when the run ended


@dataclass(slots=True)
class Reply:
    """One request and what came of it. Times are of the run's clock, in seconds."""

    sent_at: float
    ended_at: float
    first_token_at: float | None = None
    prompt_tokens: int | None = None  # None: the engine did not tell
    output_tokens: int = 0
    outcome: Outcome = Outcome.UNFINISHED
    detail: str = ""  # of a refusal or failure: a status or a cause, a few words
    retry_after_seconds: float | None = None

    @property
    def ttft_seconds(self) -> float | None:
        return None if self.first_token_at is None else self.first_token_at - self.sent_at

    def end(self, outcome: Outcome, detail: str = "") -> None:
        self.outcome = outcome
        self.detail = detail


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
        reply = self.reply
        if self._error:
            began = reply.first_token_at is not None
            reply.end(Outcome.FAILED if began else Outcome.REFUSED, f"{self._error} in the stream")
        elif self._whole:
            reply.end(Outcome.COMPLETED)
        elif reply.first_token_at is None:
            reply.end(Outcome.FAILED, "no event stream")
        else:
            reply.end(Outcome.FAILED, "stream broke off")

    def _read_chat(self, payload: bytes, now: float) -> None:
        if payload == b"[DONE]":
            self._whole = True
            return
        event = _chat_decoder.decode(payload)
        if event.error is not None:
            self._error = _name_of(event.error)
            return
        for choice in event.choices:
            delta = choice.delta
            if delta and (delta.content or delta.reasoning_content or delta.tool_calls):
                self._count_token(now)
            # transformers' server sends no [DONE].
            self._whole = self._whole or choice.finish_reason is not None
        if event.usage is not None:
            self._settle(event.usage.completion_tokens, event.usage.prompt_tokens)

    def _read_generate(self, payload: bytes, now: float) -> None:
        event = _generate_decoder.decode(payload)
        if event.error is not None:
            self._error = event.error_type or _name_of(event.error)
            return
        if event.token is not None:
            self._count_token(now)
        self._whole = self._whole or event.generated_text is not None
        if event.details is not None:
            self._settle(event.details.generated_tokens, event.details.input_length)

    def _count_token(self, now: float) -> None:
        if self.reply.first_token_at is None:
            self.reply.first_token_at = now
        self.reply.output_tokens += 1

    def _settle(self, output_tokens: int, prompt_tokens: int | None) -> None:
        self.reply.output_tokens = output_tokens
        self.reply.prompt_tokens = prompt_tokens


def _name_of(error: Any) -> str:
    """A status if the error event has one, else its kind: never its message, which may quote a prompt."""
    if isinstance(error, dict):
        for field in ("code", "http_status_code", "type"):
            if error.get(field):
                return str(error[field])[:40]
    return "error"
