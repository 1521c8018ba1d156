"""SGLang's native POST /generate: text and counts of every event are those of the whole output so far."""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from fairqueue_sim.asgi import event_lines, json_lines, reply_json
from fairqueue_sim.engine import Choice
from fairqueue_sim.generation import FinishReason
from fairqueue_sim.jobs import Job
from fairqueue_sim.lax_bodies import LaxModel
from fairqueue_sim.live_text import LiveText, final_text
from fairqueue_sim.model_output import EOS_TOKEN
from fairqueue_sim.openai_shapes import DONE_EVENT
from fairqueue_sim.prompts import Prompt, completion_prompts
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.sessions import Event
from fairqueue_sim.sglang_engine import ENGINE_FAILED, QUEUE_FULL, SglangEngine
from fairqueue_sim.wire import Exchange

__all__ = ["generate"]

Fields = dict[str, object]
encode = msgspec.json.encode


class SamplingParams(LaxModel):
    """`sampling_params`, as far as they say how much is generated."""

    max_new_tokens: int | None = 128
    n: int = 1
    stop: str | list[str] | None = None
    ignore_eos: bool = False


class GenerateBody(LaxModel):
    """POST /generate: one prompt or a list, as text or as token ids."""

    text: str | list[str] | None = None
    input_ids: list[int] | list[list[int]] | None = None
    sampling_params: SamplingParams = SamplingParams()
    stream: bool = False
    rid: str | None = None
    priority: int | None = None

    @property
    def is_list(self) -> bool:
        """Whether the reply is a list."""
        is_one = isinstance(self.text, str) or (self.input_ids is not None and _is_ids(self.input_ids))
        return not is_one or self.sampling_params.n > 1

    def prompts(self) -> list[Prompt]:
        """All prompts in order."""
        given = self.input_ids if self.text is None else self.text
        return [] if not given else completion_prompts(given)


def _is_ids(value: list[int] | list[list[int]]) -> bool:
    return all(isinstance(item, int) for item in value)


def generate(engine: SglangEngine, exchange: Exchange) -> None:
    """POST /generate."""
    body = engine.body(exchange, GenerateBody)
    if body is None:
        return
    record = engine.arrived(exchange.request)
    prompts, params = body.prompts(), body.sampling_params
    try:
        engine.check_size(prompts, params.max_new_tokens)
        places = engine.take_places_for(len(prompts) * params.n, streamed=body.stream)
    except Refusal as refusal:
        engine.refused(record)
        _refuse(engine, exchange, body, refusal)
        return
    stop = [params.stop] if isinstance(params.stop, str) else params.stop or []
    choices = engine.choices(prompts, params.n, params.max_new_tokens, stop, ignore_end=params.ignore_eos)
    request_id = engine.request_id(record, body.rid)
    results = _Results(request_id, body.is_list, record.arrived_at, engine.clock)
    job = Job(engine, exchange, record, request_id, choices, places)
    if body.stream:
        job.stream(NativeStreamShape(results))
    else:
        job.answer(NativePlainShape(results))


def _refuse(engine: SglangEngine, exchange: Exchange, body: GenerateBody, refusal: Refusal) -> None:
    if refusal is QUEUE_FULL:
        engine.reply_error(exchange, refusal)
    elif body.stream:
        exchange.start_events(event_lines())
        exchange.send_events([_error_event(refusal).data, DONE_EVENT.data], last=True)
    else:
        reply_json(exchange, refusal.status, {"error": {"message": refusal.message}})


@dataclass(frozen=True, slots=True)
class _Results:
    """How the results of one request are written down."""

    request_id: str
    is_list: bool
    arrived_at: float
    now: Callable[[], float]

    def result(self, choice: Choice, tokens: int, text: str, finish: Fields | None) -> Fields:
        """What is there of one output."""
        ids = [choice.output.token(number).id for number in range(1, tokens + 1)]
        meta = {
            "id": f"{self.request_id}_{choice.index}" if self.is_list else self.request_id,
            "finish_reason": finish,
            "prompt_tokens": choice.prompt_tokens,
            "weight_version": "default",
            "total_retractions": 0,
            "completion_tokens": tokens,
            "cached_tokens": 0,
            "e2e_latency": self.now() - self.arrived_at,
        }
        return {"text": text, "output_ids": ids, "meta_info": meta}


@dataclass(slots=True)
class NativeStreamShape:
    """With `stream`."""

    results: _Results
    _texts: dict[int, LiveText] = field(default_factory=dict)
    _so_far: dict[int, str] = field(default_factory=dict)

    def head(self) -> bytes:
        return event_lines()

    def tokens(self, choice: Choice, numbers: list[int], reason: FinishReason | None) -> list[Event]:
        text = self._texts.setdefault(choice.index, LiveText(choice))
        chunk = text.push(numbers, reason)
        if chunk is None:
            return []
        so_far = self._so_far[choice.index] = self._so_far.get(choice.index, "") + chunk.text
        finish = None if reason is None else _finish(choice, reason, text.matched_stop)
        result = self.results.result(choice, text.sent_tokens, so_far, finish)
        if self.results.is_list:
            result["index"] = choice.index
        return [Event(b"data: %b\n\n" % encode(result), len(chunk.numbers))]

    def failure(self, refusal: Refusal) -> Event:
        if refusal is not QUEUE_FULL:
            return _error_event(ENGINE_FAILED)
        finish = {"type": "abort", "status_code": refusal.status, "message": refusal.message}
        meta = {"id": self.results.request_id, "finish_reason": finish, "prompt_tokens": 0, "completion_tokens": 0}
        return Event(b"data: %b\n\n" % encode({"text": "", "output_ids": [], "meta_info": meta}))

    def closing(self) -> list[Event]:
        return [DONE_EVENT]


@dataclass(slots=True)
class NativePlainShape:
    """Without `stream`."""

    results: _Results

    def reply(self, choices: list[tuple[Choice, FinishReason]]) -> tuple[bytes, bytes]:
        found = []
        for choice, reason in sorted(choices, key=lambda pair: pair[0].index):
            text, stop = final_text(choice, reason)
            finish = _finish(choice, reason, stop)
            found.append(self.results.result(choice, choice.generation.generated_tokens, text, finish))
        return json_lines(), encode(found if self.results.is_list else found[0])

    def failure(self, refusal: Refusal) -> tuple[int, bytes, bytes]:
        return ENGINE_FAILED.status, json_lines(), encode({"error": {"message": ENGINE_FAILED.message}})


def _finish(choice: Choice, reason: FinishReason, stop: str | None) -> Fields:
    if reason is FinishReason.LENGTH:
        return {"type": "length", "length": choice.generation.generated_tokens}
    if reason is FinishReason.ABORT:
        return {"type": "abort", "message": "Abort in decoding phase", "status_code": None, "err_type": None}
    return {"type": "stop", "matched": EOS_TOKEN.id if stop is None else stop}


def _error_event(refusal: Refusal) -> Event:
    return Event(b"data: %b\n\n" % encode({"error": {"message": refusal.message}}))
