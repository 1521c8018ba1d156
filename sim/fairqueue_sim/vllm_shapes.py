"""The bytes of vLLM's chat and completions replies, streamed and whole (0.32.0).

Unlike OpenAI's: the finish reason is in the chunk of the last token, `usage` is only where it was asked for, and then
each chunk's is that of its own output, the sum being in a last chunk without choices.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from fairqueue_sim.asgi import event_lines, json_lines
from fairqueue_sim.engine import Choice
from fairqueue_sim.generation import FinishReason
from fairqueue_sim.live_shapes import LiveStreamShape, finish_reason
from fairqueue_sim.live_text import LiveText, TextChunk, final_text
from fairqueue_sim.model_output import OutputToken
from fairqueue_sim.openai_shapes import DONE_EVENT, Reply
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.sessions import Event
from fairqueue_sim.vllm_engine import ENGINE_DEAD, FINGERPRINT, VARY, error_body

__all__ = ["Extras", "VllmPlainShape", "VllmStreamShape", "stream_failure"]

LOGPROB = -0.25
_FINGERPRINT = b',"system_fingerprint":"%b"' % FINGERPRINT.encode()
encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Extras:
    """What a request wants besides text. `logprobs_of` is how many candidates a place; None: no log probabilities.

    `prompt_ids` are those of one prompt by its number, if token ids are wanted; `echo` is its text in front of the
    output's.
    """

    include_usage: bool = False
    continuous_usage: bool = False
    token_ids: bool = False
    logprobs_of: int | None = None
    prompt_ids: Callable[[int], list[int]] | None = None
    echo: Callable[[int], str] = lambda _: ""


@dataclass(slots=True)
class VllmStreamShape(LiveStreamShape):
    """Chat and completions with `stream`; `copies` is how many outputs each prompt gets."""

    extras: Extras
    copies: int

    def head(self) -> bytes:
        return event_lines(VARY)

    def tokens(self, choice: Choice, numbers: list[int], reason: FinishReason | None) -> list[Event]:
        events: list[Event] = []
        if self.reply.kind == "chat" and not self.texts:
            # The first token of any choice brings the role of all of them.
            events = [self._role_chunk(choice, index) for index in range(self.copies)]
        is_first = choice.index not in self.texts
        text = self.texts.setdefault(choice.index, LiveText(choice))
        chunk = text.push(numbers, reason)
        if chunk is None:
            return events
        content = self._chat_content if self.reply.kind == "chat" else self._completion_content
        end = b"}]%b" % self._usage_so_far(choice, text.sent_tokens, b"" if self.reply.kind == "completion" else None)
        if reason is not None and not self.extras.include_usage:
            end += _FINGERPRINT
        data = b'data: %b,"choices":[{"index":%d,%b%b}\n\n' % (
            self.opening,
            choice.index,
            content(choice, chunk, text, is_first),
            end,
        )
        return [*events, Event(data, len(chunk.numbers))]

    def _role_chunk(self, choice: Choice, index: int) -> Event:
        ids = self.extras.prompt_ids
        return Event(
            b'data: %b,"choices":[{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,'
            b'"finish_reason":null}]%b,"prompt_token_ids":%b,"prompt_text":null}\n\n'
            % (
                self.opening,
                index,
                self._usage_so_far(choice, 0, None),
                encode(None if ids is None else ids(0)),
            )
        )

    def _usage_so_far(self, choice: Choice, completion_tokens: int, details: bytes | None) -> bytes:
        if not self.extras.continuous_usage:
            return b""
        if details is None:
            details = b',"completion_tokens_details":null'
        return _usage(choice.prompt_tokens, completion_tokens, details)

    def _chat_content(self, choice: Choice, chunk: TextChunk, text: LiveText, is_first: bool) -> bytes:
        delta = b'{"content":%b}' % encode(chunk.text) if chunk.numbers or chunk.text else b"{}"
        finish = b'"finish_reason":%b' % finish_reason(chunk.reason)
        if chunk.reason is not None:
            finish += b',"stop_reason":%b' % encode(text.matched_stop)
        return b'"delta":%b,"logprobs":%b,%b,"token_ids":%b' % (
            delta,
            _chat_logprobs(_tokens(choice, chunk.numbers), self.extras.logprobs_of),
            finish,
            _token_ids(choice, chunk.numbers, self.extras),
        )

    def _completion_content(self, choice: Choice, chunk: TextChunk, text: LiveText, is_first: bool) -> bytes:
        prompt = choice.index // self.copies
        ids = self.extras.prompt_ids if is_first else None
        before = self.extras.echo(prompt) if is_first else ""
        return b'"text":%b,"logprobs":%b,"finish_reason":%b,"stop_reason":%b,"prompt_token_ids":%b,"token_ids":%b' % (
            encode(before + chunk.text),
            _completion_logprobs(choice, chunk.numbers, self.extras.logprobs_of),
            finish_reason(chunk.reason),
            encode(text.matched_stop),
            encode(None if ids is None else ids(prompt)),
            _token_ids(choice, chunk.numbers, self.extras),
        )

    def failure(self, refusal: Refusal) -> Event:
        self.has_failed = True
        return stream_failure(refusal)

    def closing(self) -> list[Event]:
        if self.has_failed or not self.extras.include_usage:
            return [DONE_EVENT]
        usage = _usage(self.prompt_tokens, self.sent_tokens, b"")
        return [Event(b'data: %b,"choices":[]%b%b}\n\n' % (self.opening, usage, _FINGERPRINT)), DONE_EVENT]


@dataclass(slots=True)
class VllmPlainShape:
    """Chat and completions as a whole."""

    reply_fields: Reply
    extras: Extras
    prompt_tokens: int
    copies: int

    def reply(self, choices: list[tuple[Choice, FinishReason]]) -> tuple[bytes, bytes]:
        choices = sorted(choices, key=lambda pair: pair[0].index)
        content = self._chat_content if self.reply_fields.kind == "chat" else self._completion_content
        parts = b",".join(b'{"index":%d,%b}' % (choice.index, content(choice, reason)) for choice, reason in choices)
        made = sum(choice.generation.generated_tokens for choice, _ in choices)
        details = b',"prompt_tokens_details":null,"completion_tokens_details":null'
        ids = self.extras.prompt_ids
        prompt = b""
        if self.reply_fields.kind == "chat":
            prompt_ids = encode(None if ids is None else ids(0))
            prompt = b',"prompt_logprobs":null,"prompt_token_ids":%b,"prompt_text":null' % prompt_ids
        body = b'%b,"choices":[%b],"service_tier":null%b%b%b%b}' % (
            self.reply_fields.opening(chunk=False),
            parts,
            _FINGERPRINT,
            _usage(self.prompt_tokens, made, details),
            prompt,
            b',"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null',
        )
        return json_lines(VARY), body

    def _chat_content(self, choice: Choice, reason: FinishReason) -> bytes:
        text, stop = final_text(choice, reason)
        numbers = _all_numbers(choice)
        return (
            b'"message":{"role":"assistant","content":%b,"refusal":null,"annotations":null,"audio":null,'
            b'"function_call":null,"reasoning":null},"logprobs":%b,"finish_reason":%b,"stop_reason":%b,"token_ids":%b,'
            b'"routed_experts":null'
            % (
                encode(text),
                _chat_logprobs(_tokens(choice, numbers), self.extras.logprobs_of),
                finish_reason(reason),
                encode(stop),
                _token_ids(choice, numbers, self.extras),
            )
        )

    def _completion_content(self, choice: Choice, reason: FinishReason) -> bytes:
        text, stop = final_text(choice, reason)
        numbers, prompt = _all_numbers(choice), choice.index // self.copies
        ids = self.extras.prompt_ids
        return (
            b'"text":%b,"logprobs":%b,"finish_reason":%b,"stop_reason":%b,"token_ids":%b,"prompt_logprobs":null,'
            b'"prompt_token_ids":%b,"routed_experts":null'
            % (
                encode(self.extras.echo(prompt) + text),
                _completion_logprobs(choice, numbers, self.extras.logprobs_of),
                finish_reason(reason),
                encode(stop),
                _token_ids(choice, numbers, self.extras),
                encode(None if ids is None else ids(prompt)),
            )
        )

    def failure(self, refusal: Refusal) -> tuple[int, bytes, bytes]:
        return ENGINE_DEAD.status, json_lines(VARY), encode(error_body(ENGINE_DEAD))


def stream_failure(refusal: Refusal) -> Event:
    """The event of an error: what a stream could not get before it began, or that the engine died."""
    error = refusal if refusal.status == 503 else ENGINE_DEAD
    return Event(b"data: %b\n\n" % json.dumps(error_body(error)).encode())


def _usage(prompt_tokens: int, completion_tokens: int, details: bytes) -> bytes:
    total = prompt_tokens + completion_tokens
    usage = b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d%b}'
    return usage % (prompt_tokens, total, completion_tokens, details)


def _all_numbers(choice: Choice) -> list[int]:
    return list(range(1, choice.generation.generated_tokens + 1))


def _tokens(choice: Choice, numbers: list[int]) -> list[OutputToken]:
    return [choice.output.token(number) for number in numbers]


def _token_ids(choice: Choice, numbers: list[int], extras: Extras) -> bytes:
    return encode([token.id for token in _tokens(choice, numbers)] if extras.token_ids else None)


def _chat_logprobs(tokens: list[OutputToken], top: int | None) -> bytes:
    if top is None or not tokens:
        return b"null"
    content = [
        _candidate(token.text, 0) | {"top_logprobs": [_candidate(token.text, rank) for rank in range(top)]}
        for token in tokens
    ]
    return encode({"content": content})


def _candidate(text: str, rank: int) -> dict[str, object]:
    text += "~" * rank
    return {"token": text, "logprob": LOGPROB - rank, "bytes": list(text.encode())}


def _completion_logprobs(choice: Choice, numbers: list[int], top: int | None) -> bytes:
    if top is None or not numbers:
        return b"null"
    tokens = _tokens(choice, numbers)
    offset = len(choice.output.text(numbers[0] - 1))
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return encode(
        {
            "text_offset": offsets,
            "token_logprobs": [LOGPROB] * len(tokens),
            "tokens": [token.text for token in tokens],
            "top_logprobs": [{token.text + "~" * rank: LOGPROB - rank for rank in range(top)} for token in tokens],
        }
    )
