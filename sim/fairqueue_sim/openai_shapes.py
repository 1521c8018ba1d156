"""The bytes of a plain OpenAI-compatible engine's replies: the fields of OpenAI's API reference, and no others.

Streams differ from TGI's: a role-only chunk comes first in chat, `finish_reason` has a chunk of its own, `usage` is in
the last chunk, which has no choices, and only when asked for. The end-of-sequence token has no chunk of its own.
With `[[merge=4]]` four tokens share a chunk; with `[[empty=1]]` the text of every second chunk comes with the next.
"""

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from fairqueue_sim.engine import Choice
from fairqueue_sim.generation import FinishReason
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.sessions import Event

__all__ = ["DONE_EVENT", "JSON_LINE", "OpenAIPlainShape", "OpenAIStreamShape", "Reply", "openai_error"]

JSON_LINE = b"content-type: application/json\r\n"
EVENT_LINE = b"content-type: text/event-stream; charset=utf-8\r\n"
DONE_EVENT = Event(b"data: [DONE]\n\n")
_ERROR_TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def openai_error(refusal: Refusal) -> bytes:
    """The JSON of an error."""
    error = {
        "message": refusal.message,
        "type": _ERROR_TYPES.get(refusal.status, "server_error"),
        "param": None,
        "code": refusal.error_type,
    }
    return msgspec.json.encode({"error": error})


@dataclass(frozen=True, slots=True)
class Reply:
    """What all chunks of a reply share."""

    kind: Literal["chat", "completion"]
    id: str
    created: int
    model: str

    def opening(self, *, chunk: bool) -> bytes:
        """The first fields of an object, without its closing brace."""
        name = "text_completion"
        if self.kind == "chat":
            name = "chat.completion.chunk" if chunk else "chat.completion"
        fields = {"id": self.id, "object": name, "created": self.created, "model": self.model}
        return msgspec.json.encode(fields)[:-1]


@dataclass(slots=True)
class OpenAIStreamShape:
    """Chat and completions with `stream`."""

    reply: Reply
    include_usage: bool
    prompt_tokens: int
    completion_tokens: int = 0
    _opening: bytes = b""
    _usage: bytes = b""
    _unsent: dict[int, list[int]] = field(default_factory=dict)
    _held_back: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._opening = self.reply.opening(chunk=True)
        self._usage = b',"usage":null' if self.include_usage else b""

    def head(self) -> bytes:
        return EVENT_LINE

    def tokens(self, choice: Choice, numbers: list[int], reason: FinishReason | None) -> list[Event]:
        self.completion_tokens += len(numbers)
        events: list[Event] = []
        if numbers[0] == 1 and self.reply.kind == "chat":
            events.append(self._chunk(choice, b'"delta":{"role":"assistant","content":""}', b"null", 0))
        unsent = self._unsent.setdefault(choice.index, [])
        unsent.extend(numbers)
        merge = choice.output.steering.merge
        while len(unsent) >= merge or (reason is not None and unsent):
            events.extend(self._text_chunk(choice, unsent[:merge]))
            del unsent[:merge]
        if reason is not None:
            finish = b'"length"' if reason is FinishReason.LENGTH else b'"stop"'
            tokens = int(choice.output.token(numbers[-1]).special)
            text = self._held_back.pop(choice.index, "")
            content = b'"delta":{}' if self.reply.kind == "chat" and not text else self._content(text)
            events.append(self._chunk(choice, content, finish, tokens))
        return events

    def _text_chunk(self, choice: Choice, numbers: list[int]) -> list[Event]:
        tokens = [token for token in map(choice.output.token, numbers) if not token.special]
        if not tokens:
            return []
        text = self._held_back.pop(choice.index, "") + "".join(token.text for token in tokens)
        if choice.output.steering.empty and numbers[0] % 2:
            self._held_back[choice.index], text = text, ""
        return [self._chunk(choice, self._content(text), b"null", len(tokens))]

    def _content(self, text: str) -> bytes:
        encoded = msgspec.json.encode(text)
        return b'"delta":{"content":%b}' % encoded if self.reply.kind == "chat" else b'"text":%b' % encoded

    def _chunk(self, choice: Choice, content: bytes, finish: bytes, tokens: int) -> Event:
        data = b'data: %b,"choices":[{"index":%d,%b,"logprobs":null,"finish_reason":%b}]%b}\n\n'
        return Event(data % (self._opening, choice.index, content, finish, self._usage), tokens)

    def failure(self, refusal: Refusal) -> Event:
        self.include_usage = False
        return Event(b"data: %b\n\n" % openai_error(refusal))

    def closing(self) -> list[Event]:
        if not self.include_usage:
            return [DONE_EVENT]
        usage = _usage(self.prompt_tokens, self.completion_tokens)
        return [Event(b'data: %b,"choices":[],"usage":%b}\n\n' % (self._opening, usage)), DONE_EVENT]


@dataclass(slots=True)
class OpenAIPlainShape:
    """Chat and completions as a whole."""

    reply_fields: Reply
    prompt_tokens: int

    def reply(self, choices: list[tuple[Choice, FinishReason]]) -> tuple[bytes, bytes]:
        parts = []
        for choice, reason in sorted(choices, key=lambda pair: pair[0].index):
            text = msgspec.json.encode(choice.output.text(choice.generation.generated_tokens))
            content = b'"text":%b' % text
            if self.reply_fields.kind == "chat":
                content = b'"message":{"role":"assistant","content":%b}' % text
            finish = b"length" if reason is FinishReason.LENGTH else b"stop"
            part = b'{"index":%d,%b,"logprobs":null,"finish_reason":"%b"}'
            parts.append(part % (choice.index, content, finish))
        usage = _usage(self.prompt_tokens, sum(choice.generation.generated_tokens for choice, _ in choices))
        opening = self.reply_fields.opening(chunk=False)
        return JSON_LINE, b'%b,"choices":[%b],"usage":%b}' % (opening, b",".join(parts), usage)

    def failure(self, refusal: Refusal) -> tuple[int, bytes, bytes]:
        # Engines of this kind answer 500, not TGI's 424.
        failed = Refusal(500, refusal.message, refusal.error_type)
        return 500, JSON_LINE, openai_error(failed)


def _usage(prompt_tokens: int, completion_tokens: int) -> bytes:
    total = prompt_tokens + completion_tokens
    return msgspec.json.encode(
        {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}
    )
