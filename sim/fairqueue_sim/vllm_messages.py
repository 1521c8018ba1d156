"""vLLM's POST /v1/messages and /v1/messages/count_tokens, Anthropic's API.

The prompt's tokens are in `message_start`, the output's only in `message_delta`, and tokens without text have no event.
"""

from dataclasses import dataclass

import msgspec
from pydantic import field_validator

from fairqueue_sim.asgi import event_lines, json_lines, reply_json
from fairqueue_sim.engine import Choice
from fairqueue_sim.generation import FinishReason
from fairqueue_sim.jobs import Job
from fairqueue_sim.lax_bodies import LaxModel
from fairqueue_sim.live_text import LiveText, final_text
from fairqueue_sim.openai_bodies import ContentPart, Message, message_text
from fairqueue_sim.prompts import Prompt, chat_prompt
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.sessions import Event
from fairqueue_sim.vllm_engine import ENGINE_DEAD, VARY, VllmEngine
from fairqueue_sim.wire import Exchange

__all__ = ["count_tokens", "messages"]

encode = msgspec.json.encode
Fields = dict[str, object]
# The chat stream's error event is no chunk, and pydantic says so.
STREAM_FAILURE = "2 validation errors for ChatCompletionStreamResponse" + "".join(
    f"\n{field}\n  Field required [type=missing, input_value={{'error': {{'message': 'En...am': None, 'code': 500}}}}, "
    "input_type=dict]\n    For further information visit https://errors.pydantic.dev/2.14/v/missing"
    for field in ("model", "choices")
)


class ConversationBody(LaxModel):
    """What is sent to be counted."""

    messages: list[Message]
    model: str | None = None
    system: str | list[ContentPart] | None = None

    def prompt(self) -> Prompt:
        """What the model gets."""
        system = [] if self.system is None else [message_text(self.system)]
        return chat_prompt(system + [message_text(message.content) for message in self.messages])


class MessagesBody(ConversationBody):
    """POST /v1/messages."""

    max_tokens: int
    stop_sequences: list[str] | None = None
    stream: bool | None = False
    ignore_eos: bool = False

    @field_validator("max_tokens")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value <= 0:
            raise ValueError("max_tokens must be positive")
        return value


def messages(engine: VllmEngine, exchange: Exchange) -> None:
    """POST /v1/messages."""
    body = engine.body(exchange, MessagesBody)
    if body is None:
        return
    record = engine.arrived(exchange.request)
    prompt = body.prompt()
    try:
        engine.check_model(body.model)
        engine.check_size([prompt], body.max_tokens, name="max_completion_tokens")
        places = engine.take_places(1)
    except Refusal as refusal:
        engine.refused(record)
        _reply_error(exchange, refusal)
        return
    choices = engine.choices([prompt], 1, body.max_tokens, body.stop_sequences or (), ignore_end=body.ignore_eos)
    message_id = f"chatcmpl-{engine.request_id(record)}"
    job = Job(engine, exchange, record, message_id, choices, places)
    if body.stream:
        job.stream(MessagesStreamShape(message_id, engine.model_id, prompt.tokens))
    else:
        job.answer(MessagesPlainShape(message_id, engine.model_id))


def count_tokens(engine: VllmEngine, exchange: Exchange) -> None:
    """POST /v1/messages/count_tokens."""
    body = engine.body(exchange, ConversationBody)
    if body is not None:
        tokens = body.prompt().tokens
        counted = {"input_tokens": tokens, "context_management": {"original_input_tokens": tokens}}
        reply_json(exchange, 200, counted, VARY)


@dataclass(slots=True)
class MessagesStreamShape:
    """With `stream`."""

    id: str
    model: str
    input_tokens: int
    _text: LiveText | None = None
    _block_begun: bool = False

    def head(self) -> bytes:
        return event_lines(VARY)

    def tokens(self, choice: Choice, numbers: list[int], reason: FinishReason | None) -> list[Event]:
        events: list[Event] = []
        if self._text is None:
            self._text = LiveText(choice, only_text=True)
            events.append(self._message_start())
        chunk = self._text.push(numbers, reason)
        if chunk is None:
            return events
        if chunk.text:
            if not self._block_begun:
                self._block_begun = True
                block = {"content_block": {"type": "text", "text": ""}, "index": 0}
                events.append(_event("content_block_start", block))
            delta = {"delta": {"type": "text_delta", "text": chunk.text}, "index": 0}
            events.append(_event("content_block_delta", delta))
        if reason is not None:
            events += self._end(choice, reason)
        return [*events[:-1], events[-1]._replace(tokens=len(chunk.numbers))]

    def _message_start(self) -> Event:
        message: Fields = {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self.model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self.input_tokens, "output_tokens": 0},
        }
        return _event("message_start", {"message": message})

    def _end(self, choice: Choice, reason: FinishReason) -> list[Event]:
        stop = self._text.matched_stop if self._text is not None else None
        delta = {"delta": {"stop_reason": _stop_reason(reason, stop), "stop_sequence": stop}, "usage": _usage(choice)}
        ends = [_event("message_delta", delta), _event("message_stop", {})]
        return [_event("content_block_stop", {"index": 0}), *ends] if self._block_begun else ends

    def failure(self, refusal: Refusal) -> Event:
        return _event("error", {"error": {"type": "internal_error", "message": STREAM_FAILURE}})

    def closing(self) -> list[Event]:
        return []


@dataclass(slots=True)
class MessagesPlainShape:
    """Without `stream`."""

    id: str
    model: str

    def reply(self, choices: list[tuple[Choice, FinishReason]]) -> tuple[bytes, bytes]:
        ((choice, reason),) = choices
        text, stop = final_text(choice, reason)
        message: Fields = {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": text}],
            "model": self.model,
            "stop_reason": _stop_reason(reason, stop),
        }
        if stop is not None:
            message["stop_sequence"] = stop
        return json_lines(VARY), encode(message | {"usage": _usage(choice)})

    def failure(self, refusal: Refusal) -> tuple[int, bytes, bytes]:
        return ENGINE_DEAD.status, json_lines(VARY), encode(_error(ENGINE_DEAD))


def _event(name: str, fields: Fields) -> Event:
    return Event(b"event: %b\ndata: %b\n\n" % (name.encode(), encode({"type": name} | fields)))


def _stop_reason(reason: FinishReason, stop: str | None) -> str:
    if reason is FinishReason.LENGTH:
        return "max_tokens"
    return "end_turn" if stop is None else "stop_sequence"


def _usage(choice: Choice) -> Fields:
    return {"input_tokens": choice.prompt_tokens, "output_tokens": choice.generation.generated_tokens}


def _error(refusal: Refusal) -> Fields:
    return {"type": "error", "error": {"type": refusal.error_type, "message": refusal.message}}


def _reply_error(exchange: Exchange, refusal: Refusal) -> None:
    reply_json(exchange, refusal.status, _error(refusal), VARY)
