"""SGLang's POST /v1/chat/completions and /v1/completions, by its source (0.5.23).

In chat a token without text has no chunk, and the finish reason has one of its own that stands for those that are left.
"""

from dataclasses import dataclass
from typing import Literal

import msgspec

from fairqueue_sim.asgi import event_lines, json_lines
from fairqueue_sim.engine import Choice
from fairqueue_sim.generation import FinishReason
from fairqueue_sim.jobs import Job
from fairqueue_sim.live_shapes import LiveStreamShape, finish_reason
from fairqueue_sim.live_text import LiveText, final_text
from fairqueue_sim.openai_bodies import ChatBody, CompletionBody, SamplingBody
from fairqueue_sim.openai_shapes import DONE_EVENT, Reply
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.sessions import Event
from fairqueue_sim.sglang_engine import ENGINE_FAILED, QUEUE_FULL, SglangEngine, error_event, flat_error
from fairqueue_sim.wire import Exchange

__all__ = ["chat_completions", "completions"]

Body = ChatBody | CompletionBody
encode = msgspec.json.encode


def chat_completions(engine: SglangEngine, exchange: Exchange) -> None:
    """POST /v1/chat/completions."""
    _serve(engine, exchange, ChatBody, "chat")


def completions(engine: SglangEngine, exchange: Exchange) -> None:
    """POST /v1/completions."""
    _serve(engine, exchange, CompletionBody, "completion")


def _serve(
    engine: SglangEngine, exchange: Exchange, body_type: type[Body], kind: Literal["chat", "completion"]
) -> None:
    body = engine.body(exchange, body_type)
    if body is None:
        return
    record = engine.arrived(exchange.request)
    prompts = body.prompts()
    try:
        engine.check_size(prompts, body.limit)
        places = engine.take_places_for(len(prompts) * body.copies, streamed=bool(body.stream))
    except Refusal as refusal:
        engine.refuse(exchange, record, refusal)
        return
    request_id = body.rid or engine.request_id(record)
    reply = Reply(kind, request_id, int(engine.wall_clock()), body.model or engine.model_id)
    prompt_tokens = sum(prompt.tokens for prompt in prompts)
    choices = engine.choices(prompts, body.copies, body.limit, body.stop_sequences, ignore_end=body.ignore_eos)
    job = Job(engine, exchange, record, request_id, choices, places)
    if body.stream:
        job.stream(SglangStreamShape(reply, prompt_tokens, body))
    else:
        job.answer(SglangPlainShape(reply, prompt_tokens))


@dataclass(slots=True)
class SglangStreamShape(LiveStreamShape):
    """With `stream`."""

    body: SamplingBody

    def head(self) -> bytes:
        return event_lines()

    def tokens(self, choice: Choice, numbers: list[int], reason: FinishReason | None) -> list[Event]:
        is_chat = self.reply.kind == "chat"
        events: list[Event] = []
        text = self.texts.get(choice.index)
        if text is None:
            text = self.texts[choice.index] = LiveText(choice, only_text=is_chat)
            if is_chat:
                events.append(self._chunk(choice, _delta("assistant", ""), None, text, 0))
        chunk = text.push(numbers, reason)
        if chunk is None:
            return events
        if not is_chat:
            content = b'"text":%b' % encode(chunk.text)
            return [self._chunk(choice, content, reason, text, len(chunk.numbers))]
        left = len(chunk.numbers)
        if chunk.text:
            events.append(self._chunk(choice, _delta(None, chunk.text), None, text, left))
            left = 0
        if reason is not None:
            events.append(self._chunk(choice, _delta(None, None), reason, None, left))
        return events

    def _chunk(
        self, choice: Choice, content: bytes, reason: FinishReason | None, text: LiveText | None, tokens: int
    ) -> Event:
        usage = b"null"
        if self.body.continuous_usage and text is not None:
            usage = _usage(choice.prompt_tokens, text.sent_tokens)
        stop = self.texts[choice.index].matched_stop
        data = (
            b'data: %b,"choices":[{"index":%d,%b,"logprobs":null,"finish_reason":%b,"matched_stop":%b}],"usage":%b}\n\n'
        )
        ends = (finish_reason(reason), encode(stop if reason is not None else None), usage)
        return Event(data % (self.opening, choice.index, content, *ends), tokens)

    def failure(self, refusal: Refusal) -> Event:
        self.has_failed = True
        return error_event(refusal if refusal is QUEUE_FULL else ENGINE_FAILED)

    def closing(self) -> list[Event]:
        if self.has_failed or not self.body.include_usage:
            return [DONE_EVENT]
        usage = _usage(self.prompt_tokens, self.sent_tokens)
        return [Event(b'data: %b,"choices":[],"usage":%b}\n\n' % (self.opening, usage)), DONE_EVENT]


@dataclass(slots=True)
class SglangPlainShape:
    """Without `stream`."""

    reply_fields: Reply
    prompt_tokens: int

    def reply(self, choices: list[tuple[Choice, FinishReason]]) -> tuple[bytes, bytes]:
        parts = [self._choice(*pair) for pair in sorted(choices, key=lambda pair: pair[0].index)]
        usage = _usage(self.prompt_tokens, sum(choice.generation.generated_tokens for choice, _ in choices))
        opening = self.reply_fields.opening(chunk=False)
        end = b'"metadata":{"weight_version":"default"}}'
        return json_lines(), b'%b,"choices":[%b],"usage":%b,%b' % (opening, b",".join(parts), usage, end)

    def _choice(self, choice: Choice, reason: FinishReason) -> bytes:
        text, stop = final_text(choice, reason)
        content = b'"text":%b' % encode(text)
        if self.reply_fields.kind == "chat":
            message = b'{"role":"assistant","content":%b,"reasoning_content":null,"tool_calls":null}'
            content = b'"message":%b' % (message % encode(text))
        ends = (finish_reason(reason), encode(stop))
        return b'{"index":%d,%b,"logprobs":null,"finish_reason":%b,"matched_stop":%b}' % (choice.index, content, *ends)

    def failure(self, refusal: Refusal) -> tuple[int, bytes, bytes]:
        return ENGINE_FAILED.status, json_lines(), encode(flat_error(ENGINE_FAILED))


def _delta(role: str | None, content: str | None) -> bytes:
    delta = {"role": role, "content": content, "reasoning_content": None, "tool_calls": None}
    return b'"delta":%b' % encode(delta)


def _usage(prompt_tokens: int, completion_tokens: int) -> bytes:
    return b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,"reasoning_tokens":0}' % (
        prompt_tokens,
        prompt_tokens + completion_tokens,
        completion_tokens,
    )
