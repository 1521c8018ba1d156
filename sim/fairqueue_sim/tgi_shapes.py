"""The bytes of Text Generation Inference's replies (router 3.3.6), one class per route and kind of reply.

Field order, nulls and spacing are the router's own; nothing here knows about sockets or time other than what it is
given. Events are built from templates, because a busy engine sends thousands of them a second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from fairqueue_sim.engine import Choice
from fairqueue_sim.generation import FinishReason
from fairqueue_sim.model_output import OutputToken
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.sessions import Event

__all__ = [
    "COMPUTE_TYPE_LINE",
    "CORS_LINES",
    "JSON_LINE",
    "STREAM_LINES",
    "ChatStreamShape",
    "CompletionStreamShape",
    "NativeStreamShape",
    "ReplyPrefix",
    "chat_logprobs",
    "model_fields",
    "native_error",
    "native_token",
    "openai_error",
    "seed_json",
    "stream_head",
    "top_tokens",
    "usage",
]

COMPUTE_TYPE_LINE = b"x-compute-type: gpu+optimized\r\n"
JSON_LINE = b"content-type: application/json\r\n"
CORS_LINES = (
    b"vary: origin, access-control-request-method, access-control-request-headers\r\naccess-control-allow-origin: *\r\n"
)
STREAM_LINES = b"content-type: text/event-stream\r\ncache-control: no-cache\r\n" + COMPUTE_TYPE_LINE
DONE_EVENT = Event(b"data: [DONE]\n\n")
LOGPROB = -0.25
FINGERPRINT = b"3.3.6-dev0-sha-db931fc"


def stream_head(characters: int) -> bytes:
    """Header lines of a streamed reply."""
    return STREAM_LINES + b"x-compute-characters: %d\r\nx-accel-buffering: no\r\n" % characters + CORS_LINES


def native_error(refusal: Refusal) -> bytes:
    """The JSON of an error, as the native routes and all plain replies have it."""
    return msgspec.json.encode({"error": refusal.message, "error_type": refusal.error_type})


def openai_error(refusal: Refusal) -> bytes:
    """The JSON of an error in a chat or completions stream: the status is 422 there whatever happened."""
    return msgspec.json.encode({"error": {"message": refusal.message, "http_status_code": 422}})


def _logprob(choice: Choice) -> bytes:
    return b"null" if choice.output.steering.nan else b"-0.25"


def native_token(choice: Choice, token: OutputToken) -> bytes:
    """The JSON of one token."""
    special = b"true" if token.special else b"false"
    return b'{"id":%d,"text":%b,"logprob":%b,"special":%b}' % (token.id, token.json, _logprob(choice), special)


def top_tokens(choice: Choice, token: OutputToken, count: int) -> bytes:
    """The JSON list of the likeliest tokens: the token itself, and made-up ones."""
    parts = [native_token(choice, token)]
    for rank in range(1, count):
        text = msgspec.json.encode(token.text + "~" * rank)
        parts.append(
            b'{"id":%d,"text":%b,"logprob":%b,"special":false}' % (token.id + rank, text, b"%.2f" % (LOGPROB - rank))
        )
    return b"[" + b",".join(parts) + b"]"


def chat_logprobs(choice: Choice, tokens: Sequence[OutputToken], top: int) -> bytes:
    """`logprobs` of a chat choice."""
    return msgspec.json.encode(
        {
            "content": [
                {
                    "token": token.text,
                    "logprob": LOGPROB,
                    "top_logprobs": [
                        {"token": token.text + "~" * rank, "logprob": LOGPROB - rank} for rank in range(top)
                    ],
                }
                for token in tokens
            ]
        }
    )


def usage(prompt_tokens: int, completion_tokens: int) -> bytes:
    """The JSON of `usage`."""
    return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
        prompt_tokens,
        completion_tokens,
        prompt_tokens + completion_tokens,
    )


@dataclass(slots=True)
class ReplyPrefix:
    """The fields with which every OpenAI-like object begins; `created` is the second in which it is made."""

    kind: str
    model: bytes
    wall_clock: Callable[[], float]
    _second: int = -1
    _bytes: bytes = b""

    def __call__(self) -> bytes:
        second = int(self.wall_clock())
        if second != self._second:
            self._second = second
            self._bytes = b'{"object":"%b","id":"","created":%d' % (self.kind.encode(), second)
        return self._bytes


def model_fields(model: str) -> bytes:
    """`model` and `system_fingerprint` of an OpenAI-like object."""
    return b'"model":%b,"system_fingerprint":"%b"' % (msgspec.json.encode(model), FINGERPRINT)


@dataclass(slots=True)
class NativeStreamShape:
    """POST /generate_stream and POST / with `stream`."""

    characters: int
    details: bool
    seed: bool
    top_n: int
    full_text_prefix: str

    def head(self) -> bytes:
        return stream_head(self.characters)

    def tokens(self, choice: Choice, numbers: list[int], reason: FinishReason | None) -> list[Event]:
        events = [
            Event(
                b'data: {"index":%d,"token":%b%b,"generated_text":null,"details":null}\n\n'
                % (number, native_token(choice, token := choice.output.token(number)), self._top(choice, token)),
                1,
            )
            for number in numbers
        ]
        if reason is not None:
            events[-1] = Event(self._last(choice, numbers[-1], reason), 1)
        return events

    def _last(self, choice: Choice, number: int, reason: FinishReason) -> bytes:
        token = choice.output.token(number)
        details = b"null"
        if self.details:
            details = b'{"finish_reason":"%b","generated_tokens":%d,"seed":%b,"input_length":%d}' % (
                reason.value.encode(),
                number,
                seed_json(choice, self.seed),
                choice.prompt_tokens,
            )
        text = msgspec.json.encode(self.full_text_prefix + choice.output.text(number))
        return b'data: {"index":%d,"token":%b%b,"generated_text":%b,"details":%b}\n\n' % (
            number,
            native_token(choice, token),
            self._top(choice, token),
            text,
            details,
        )

    def _top(self, choice: Choice, token: OutputToken) -> bytes:
        return b',"top_tokens":%b' % top_tokens(choice, token, self.top_n) if self.top_n else b""

    def failure(self, refusal: Refusal) -> Event:
        return Event(b"data: %b\n\n" % native_error(refusal))

    def closing(self) -> list[Event]:
        return []


def seed_json(choice: Choice, sampled: bool) -> bytes:
    """`seed` of the details: only a sampled output has one."""
    return b"%d" % choice.seed if sampled and choice.seed is not None else b"null"


@dataclass(slots=True)
class ChatStreamShape:
    """POST /v1/chat/completions with `stream`."""

    characters: int
    prefix: ReplyPrefix
    include_usage: bool
    logprobs: bool
    top_logprobs: int
    prompt_tokens: int
    completion_tokens: int = 0

    def head(self) -> bytes:
        return stream_head(self.characters)

    def tokens(self, choice: Choice, numbers: list[int], reason: FinishReason | None) -> list[Event]:
        self.completion_tokens += len(numbers)
        events: list[Event] = []
        for number in numbers:
            token = choice.output.token(number)
            finish = b"null"
            if reason is not None and number == numbers[-1]:
                finish = b'"stop"' if reason is FinishReason.EOS else b'"%b"' % reason.value.encode()
            logprobs = chat_logprobs(choice, [token], self.top_logprobs) if self.logprobs else b"null"
            events.append(
                Event(
                    b'data: %b,%b,"choices":[{"index":0,"delta":{"role":"assistant","content":%b},'
                    b'"logprobs":%b,"finish_reason":%b}],"usage":null}\n\n'
                    % (
                        self.prefix(),
                        self.prefix.model,
                        b'""' if token.special else token.json,
                        logprobs,
                        finish,
                    ),
                    1,
                )
            )
        return events

    def failure(self, refusal: Refusal) -> Event:
        self.include_usage = False
        return Event(b"data: %b\n\n" % openai_error(refusal))

    def closing(self) -> list[Event]:
        if not self.include_usage:
            return [DONE_EVENT]
        total = usage(self.prompt_tokens, self.completion_tokens)
        last = b'data: %b,%b,"choices":[],"usage":%b}\n\n' % (self.prefix(), self.prefix.model, total)
        return [Event(last), DONE_EVENT]


@dataclass(slots=True)
class CompletionStreamShape:
    """POST /v1/completions with `stream`. The fields of the last chunk of a prompt stand in another order."""

    characters: int
    prefix: ReplyPrefix

    def head(self) -> bytes:
        return stream_head(self.characters)

    def tokens(self, choice: Choice, numbers: list[int], reason: FinishReason | None) -> list[Event]:
        events = [
            Event(
                b'data: %b,"choices":[{"index":%d,"text":%b,"logprobs":null,"finish_reason":""}],%b}\n\n'
                % (self.prefix(), choice.index, choice.output.token(number).json, self.prefix.model),
                1,
            )
            for number in numbers
        ]
        if reason is not None:
            last = (
                b'data: %b,%b,"choices":[{"index":%d,"text":%b,"logprobs":null,"finish_reason":"%b"}],"usage":%b}\n\n'
            )
            text, number = choice.output.token(numbers[-1]).json, numbers[-1]
            total = usage(choice.prompt_tokens, number)
            prefix, model = self.prefix(), self.prefix.model
            events[-1] = Event(last % (prefix, model, choice.index, text, reason.value.encode(), total), 1)
        return events

    def failure(self, refusal: Refusal) -> Event:
        return Event(b"data: %b\n\n" % openai_error(refusal))

    def closing(self) -> list[Event]:
        return [DONE_EVENT]
