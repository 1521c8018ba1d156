"""vLLM's POST /v1/responses: text comes in deltas, and the count only with the last event.

A token without text has no event. When the engine fails, a stream is closed without a last chunk.
"""

from dataclasses import dataclass, field

import msgspec

from fairqueue_sim.asgi import event_lines, json_lines
from fairqueue_sim.engine import Choice
from fairqueue_sim.generation import FinishReason
from fairqueue_sim.jobs import Job
from fairqueue_sim.lax_bodies import LaxModel
from fairqueue_sim.live_text import LiveText, final_text
from fairqueue_sim.openai_bodies import Message, message_text
from fairqueue_sim.prompts import Prompt, chat_prompt
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.sessions import Event
from fairqueue_sim.vllm_engine import ENGINE_DEAD, VARY, VllmEngine, error_body
from fairqueue_sim.wire import Exchange

__all__ = ["responses"]

NO_STORE = Refusal(
    400,
    "This vLLM engine does not support `store=True` and therefore does not support the background mode. To enable "
    "these features, set the environment variable `VLLM_ENABLE_RESPONSES_API_STORE=1` when launching the vLLM server.",
    "invalid_request_error",
    "background",
)
encode = msgspec.json.encode
Fields = dict[str, object]


class ResponsesBody(LaxModel):
    """Its body; of the input only text counts."""

    input: str | list[Message]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = False
    background: bool | None = False
    previous_response_id: str | None = None
    request_id: str | None = None
    ignore_eos: bool = False

    def prompt(self) -> Prompt:
        """What the model gets."""
        given = [Message(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        texts = [message_text(message.content) for message in given]
        return chat_prompt([self.instructions, *texts] if self.instructions else texts)


def responses(engine: VllmEngine, exchange: Exchange) -> None:
    """POST /v1/responses."""
    body = engine.body(exchange, ResponsesBody)
    if body is None:
        return
    record = engine.arrived(exchange.request)
    prompt = body.prompt()
    try:
        engine.check_model(body.model)
        _check_store(body)
        engine.check_size([prompt], body.max_output_tokens)
        places = engine.take_places(1)
    except Refusal as refusal:
        engine.refuse(exchange, record, refusal)
        return
    limit = body.max_output_tokens or engine.limits.max_total_tokens - prompt.tokens
    choices = engine.choices([prompt], 1, limit, (), ignore_end=body.ignore_eos)
    number = engine.request_id(record, body.request_id)
    shape = _Shape(f"resp_{number}", f"msg_{number}", int(engine.wall_clock()), engine.model_id, body, limit)
    job = Job(engine, exchange, record, shape.id, choices, places)
    if body.stream:
        events = ResponsesStreamShape(shape)
        job.stream(events, opening=events.opening(), cut_by_failure=True)
    else:
        job.answer(ResponsesPlainShape(shape))


def _check_store(body: ResponsesBody) -> None:
    if body.background:
        raise NO_STORE
    if body.previous_response_id is not None:
        message = f"Response with id '{body.previous_response_id}' not found."
        raise Refusal(404, message, "invalid_request_error", "response_id")


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the objects of one reply share."""

    id: str
    item_id: str
    created_at: int
    model: str
    body: ResponsesBody
    limit: int

    def response(self, choice: Choice | None, reason: FinishReason | None, text: str) -> Fields:
        """The response object, at its beginning (no reason) or at its end."""
        cut = {FinishReason.LENGTH: "max_output_tokens", FinishReason.ABORT: "abort"}
        status = "in_progress" if reason is None else "incomplete" if reason in cut else "completed"
        return {
            "id": self.id,
            "created_at": self.created_at,
            "incomplete_details": {"reason": cut[reason]} if reason in cut else None,
            "instructions": self.body.instructions,
            "metadata": None,
            "model": self.model,
            "object": "response",
            "output": [self.item(text)] if text else [],
            "parallel_tool_calls": True,
            "temperature": 1.0 if self.body.temperature is None else self.body.temperature,
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0 if self.body.top_p is None else self.body.top_p,
            "background": False,
            "max_output_tokens": self.limit,
            **dict.fromkeys(("max_tool_calls", "previous_response_id", "prompt", "reasoning")),
            "service_tier": "auto",
            "status": status,
            **dict.fromkeys(("text", "top_logprobs")),
            "truncation": "disabled",
            "usage": None if choice is None else _usage(choice),
            "user": None,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            **dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "input_messages", "output_messages")),
        }

    def item(self, text: str | None) -> Fields:
        """The output item; None: it has only begun."""
        return {
            "id": self.item_id,
            "content": [] if text is None else [_part(text, None)],
            "role": "assistant",
            "status": "in_progress" if text is None else "completed",
            "type": "message",
            "phase": None,
        }


@dataclass(slots=True)
class ResponsesStreamShape:
    """With `stream`; the first two events come before the first token."""

    shape: _Shape
    _text: LiveText | None = None
    _sent: list[str] = field(default_factory=list)
    _sequence: int = 0

    def head(self) -> bytes:
        return event_lines(VARY)

    def opening(self) -> list[Event]:
        begun = self.shape.response(None, None, "")
        return [self._event(f"response.{name}", {"response": begun}) for name in ("created", "in_progress")]

    def tokens(self, choice: Choice, numbers: list[int], reason: FinishReason | None) -> list[Event]:
        if self._text is None:
            self._text = LiveText(choice, only_text=True)
        chunk = self._text.push(numbers, reason)
        if chunk is None:
            return []
        events: list[Event] = []
        if chunk.text:
            if not self._sent:
                events = self._item_begins()
            self._sent.append(chunk.text)
            events.append(self._in_part("output_text.delta", delta=chunk.text, logprobs=[]))
        if reason is not None:
            events += self._item_ends(choice, reason)
        return [*events[:-1], events[-1]._replace(tokens=len(chunk.numbers))]

    def _item_begins(self) -> list[Event]:
        return [
            self._event("response.output_item.added", {"item": self.shape.item(None), "output_index": 0}),
            self._in_part("content_part.added", part=_part("", [])),
        ]

    def _item_ends(self, choice: Choice, reason: FinishReason) -> list[Event]:
        text = "".join(self._sent)
        events: list[Event] = []
        if text:
            events = [
                self._in_part("output_text.done", logprobs=[], text=text),
                self._in_part("content_part.done", part=_part(text, None)),
                self._event("response.output_item.done", {"item": self.shape.item(text), "output_index": 0}),
            ]
        done = self.shape.response(choice, reason, text)
        return [*events, self._event("response.completed", {"response": done})]

    def _in_part(self, name: str, **fields: object) -> Event:
        places = {"content_index": 0, "item_id": self.shape.item_id, "output_index": 0}
        return self._event(f"response.{name}", fields | places)

    def _event(self, name: str, fields: Fields) -> Event:
        # The fields of an event stand in the order of the alphabet.
        data = dict(sorted((fields | {"sequence_number": self._sequence, "type": name}).items()))
        self._sequence += 1
        return Event(b"event: %b\ndata: %b\n\n" % (name.encode(), encode(data)))

    def failure(self, refusal: Refusal) -> Event:
        raise AssertionError("a failure closes the connection")

    def closing(self) -> list[Event]:
        return []


@dataclass(slots=True)
class ResponsesPlainShape:
    """Without `stream`."""

    shape: _Shape

    def reply(self, choices: list[tuple[Choice, FinishReason]]) -> tuple[bytes, bytes]:
        ((choice, reason),) = choices
        text, _ = final_text(choice, reason)
        return json_lines(VARY), encode(self.shape.response(choice, reason, text))

    def failure(self, refusal: Refusal) -> tuple[int, bytes, bytes]:
        return ENGINE_DEAD.status, json_lines(VARY), encode(error_body(ENGINE_DEAD))


def _part(text: str, logprobs: list[object] | None) -> Fields:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}


def _usage(choice: Choice) -> Fields:
    made = choice.generation.generated_tokens
    return {
        "input_tokens": choice.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            "input_tokens_per_turn": [],
            "cached_tokens_per_turn": [],
        },
        "output_tokens": made,
        "output_tokens_details": {
            "reasoning_tokens": 0,
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [],
            "tool_output_tokens_per_turn": [],
        },
        "total_tokens": choice.prompt_tokens + made,
    }
