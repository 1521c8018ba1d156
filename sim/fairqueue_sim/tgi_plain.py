"""Whole replies of Text Generation Inference's routes, with their x-* headers."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from fairqueue_sim.engine import Choice
from fairqueue_sim.generation import FinishReason
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.tgi_shapes import (
    COMPUTE_TYPE_LINE,
    CORS_LINES,
    JSON_LINE,
    ReplyPrefix,
    chat_logprobs,
    native_error,
    native_token,
    seed_json,
    top_tokens,
    usage,
)
from fairqueue_sim.tokenizer import START_TOKEN, tokenize

__all__ = ["ChatShape", "CompletionShape", "NativeShape", "Timing"]


@dataclass(slots=True)
class Timing:
    """What the timing headers are made of; `now` is the clock of the choices' times."""

    arrived_at: float
    now: Callable[[], float]
    characters: int

    def head(self, choices: list[Choice], *, compute_time: bool) -> bytes:
        """Header lines of a whole reply; with several choices times and tokens are summed."""
        now = self.now()
        total = queued = inference = per_token = 0
        for choice in choices:
            started_at = choice.submitted_at if choice.started_at is None else choice.started_at
            total += _milliseconds(now - self.arrived_at)
            queued += _milliseconds(started_at - choice.submitted_at)
            inference += _milliseconds(now - started_at)
            per_token += _milliseconds((now - started_at) / max(choice.generation.generated_tokens, 1))
        seconds = b"x-compute-time: %.9f\r\n" % (now - self.arrived_at) if compute_time else b""
        return (
            JSON_LINE
            + COMPUTE_TYPE_LINE
            + seconds
            + b"x-compute-characters: %d\r\nx-total-time: %d\r\nx-validation-time: 0\r\nx-queue-time: %d\r\n"
            b"x-inference-time: %d\r\nx-time-per-token: %d\r\nx-prompt-tokens: %d\r\nx-generated-tokens: %d\r\n"
            % (
                self.characters,
                total,
                queued,
                inference,
                per_token,
                sum(choice.prompt_tokens for choice in choices),
                sum(choice.generation.generated_tokens for choice in choices),
            )
            + CORS_LINES
        )


def _milliseconds(seconds: float) -> int:
    return math.floor(seconds * 1000)


class _PlainErrors:
    """Errors of whole replies are the same on every route."""

    __slots__ = ()

    def failure(self, refusal: Refusal) -> tuple[int, bytes, bytes]:
        return refusal.status, JSON_LINE + CORS_LINES, native_error(refusal)


@dataclass(slots=True)
class NativeShape(_PlainErrors):
    """POST /generate, and POST / where the reply is an array of one."""

    timing: Timing
    prompt: str
    details: bool
    prefill_details: bool
    seed: bool
    top_n: int
    full_text: bool
    in_array: bool

    def reply(self, choices: list[tuple[Choice, FinishReason]]) -> tuple[bytes, bytes]:
        (best, reason), *others = sorted(choices, key=lambda pair: pair[0].index)
        body = b'{"generated_text":%b' % self._text(best)
        if self.details or self.prefill_details:
            sequences = b""
            if others:
                copies = [self._sequence(choice, why) for choice, why in others]
                sequences = b',"best_of_sequences":[%b]' % b",".join(copies)
            body += b',"details":{%b%b%b}' % (self._details(best, reason), sequences, self._top(best))
        body += b"}"
        head = self.timing.head([best], compute_time=True)
        return head, b"[%b]" % body if self.in_array else body

    def _text(self, choice: Choice) -> bytes:
        text = choice.output.text(choice.generation.generated_tokens)
        return msgspec.json.encode(self.prompt + text if self.full_text else text)

    def _sequence(self, choice: Choice, reason: FinishReason) -> bytes:
        return b'{"generated_text":%b,%b%b}' % (self._text(choice), self._details(choice, reason), self._top(choice))

    def _details(self, choice: Choice, reason: FinishReason) -> bytes:
        made = choice.generation.generated_tokens
        tokens = b",".join(native_token(choice, choice.output.token(number)) for number in range(1, made + 1))
        return b'"finish_reason":"%b","generated_tokens":%d,"seed":%b,"prefill":[%b],"tokens":[%b]' % (
            reason.value.encode(),
            made,
            seed_json(choice, self.seed),
            self._prefill() if self.prefill_details else b"",
            tokens,
        )

    def _prefill(self) -> bytes:
        start = b'{"id":0,"text":"%b","logprob":null}' % START_TOKEN.encode()
        others = (
            b'{"id":%d,"text":%b,"logprob":-1.5}' % (token.id, msgspec.json.encode(token.text))
            for token in tokenize(self.prompt)
        )
        return b",".join((start, *others))

    def _top(self, choice: Choice) -> bytes:
        if not self.top_n:
            return b""
        numbers = range(1, choice.generation.generated_tokens + 1)
        return b',"top_tokens":[%b]' % b",".join(
            top_tokens(choice, choice.output.token(number), self.top_n) for number in numbers
        )


@dataclass(slots=True)
class ChatShape(_PlainErrors):
    """POST /v1/chat/completions."""

    timing: Timing
    prefix: ReplyPrefix
    logprobs: bool
    top_logprobs: int

    def reply(self, choices: list[tuple[Choice, FinishReason]]) -> tuple[bytes, bytes]:
        choice, reason = choices[0]
        made = choice.generation.generated_tokens
        tokens = [choice.output.token(number) for number in range(1, made + 1)]
        body = (
            b'%b,%b,"choices":[{"index":0,"message":{"role":"assistant","content":%b},'
            b'"logprobs":%b,"finish_reason":%b}],"usage":%b}'
            % (
                self.prefix(),
                self.prefix.model,
                msgspec.json.encode(choice.output.text(made)),
                chat_logprobs(choice, tokens, self.top_logprobs) if self.logprobs else b"null",
                _openai_reason(reason),
                usage(choice.prompt_tokens, made),
            )
        )
        return self.timing.head([choice], compute_time=True), body


@dataclass(slots=True)
class CompletionShape(_PlainErrors):
    """POST /v1/completions; choices stand in the order in which they were completed."""

    timing: Timing
    prefix: ReplyPrefix

    def reply(self, choices: list[tuple[Choice, FinishReason]]) -> tuple[bytes, bytes]:
        parts = [
            b'{"index":%d,"text":%b,"logprobs":null,"finish_reason":%b}'
            % (
                choice.index,
                msgspec.json.encode(choice.output.text(choice.generation.generated_tokens)),
                _openai_reason(reason),
            )
            for choice, reason in choices
        ]
        outputs = [choice for choice, _ in choices]
        total = usage(
            sum(choice.prompt_tokens for choice in outputs),
            sum(choice.generation.generated_tokens for choice in outputs),
        )
        body = b'%b,%b,"choices":[%b],"usage":%b}' % (self.prefix(), self.prefix.model, b",".join(parts), total)
        return self.timing.head(outputs, compute_time=False), body


def _openai_reason(reason: FinishReason) -> bytes:
    return b'"stop"' if reason is FinishReason.EOS else b'"%b"' % reason.value.encode()
