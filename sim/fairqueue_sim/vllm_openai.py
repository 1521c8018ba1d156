"""vLLM's POST /v1/chat/completions and /v1/completions."""

from typing import Literal

from fairqueue_sim.engine_front import Place
from fairqueue_sim.jobs import Job
from fairqueue_sim.lax_bodies import read_json, validated
from fairqueue_sim.openai_bodies import ChatBody, CompletionBody
from fairqueue_sim.openai_shapes import Reply
from fairqueue_sim.prompts import Prompt, prompt_ids
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.truth import RequestTruth
from fairqueue_sim.vllm_engine import VllmEngine, bad_request
from fairqueue_sim.vllm_shapes import Extras, VllmPlainShape, VllmStreamShape
from fairqueue_sim.wire import Exchange

__all__ = ["chat_completions", "completions"]

MAX_COPIES, MAX_LOGPROBS = 16384, 20
NO_PROMPT = "Either prompt or prompt_embeds must be provided and non-empty."
Body = ChatBody | CompletionBody


def chat_completions(engine: VllmEngine, exchange: Exchange) -> None:
    """POST /v1/chat/completions."""
    _serve(engine, exchange, ChatBody, "chat")


def completions(engine: VllmEngine, exchange: Exchange) -> None:
    """POST /v1/completions."""
    _serve(engine, exchange, CompletionBody, "completion")


def _serve(engine: VllmEngine, exchange: Exchange, body_type: type[Body], kind: Literal["chat", "completion"]) -> None:
    try:
        value = read_json(exchange.request)
        _check_before(value)
        body = validated(value, body_type)
    except Refusal as refusal:
        engine.reply_error(exchange, refusal)
        return
    record = engine.arrived(exchange.request)
    try:
        prompts = _checked_prompts(engine, body)
        places = _places(engine, body, len(prompts))
    except Refusal as refusal:
        engine.refuse(exchange, record, refusal)
        return
    request_id = f"{'chatcmpl' if kind == 'chat' else 'cmpl'}-{engine.request_id(record, body.request_id)}"
    reply = Reply(kind, request_id, int(engine.wall_clock()), engine.model_id)
    _begin(engine, exchange, record, body, prompts, reply, places)


def _begin(
    engine: VllmEngine,
    exchange: Exchange,
    record: RequestTruth,
    body: Body,
    prompts: list[Prompt],
    reply: Reply,
    places: list[Place] | None,
) -> None:
    # A stream with echo tells them unasked.
    wants_prompt_ids = body.return_token_ids or (body.echo and body.stream and reply.kind == "completion")
    extras = Extras(
        include_usage=body.include_usage,
        continuous_usage=body.continuous_usage,
        token_ids=bool(body.return_token_ids),
        logprobs_of=body.logprobs_of,
        prompt_ids=(lambda number: prompt_ids(prompts[number])) if wants_prompt_ids else None,
        echo=(lambda number: prompts[number].text) if body.echo and reply.kind == "completion" else lambda _: "",
    )
    prompt_tokens = sum(prompt.tokens for prompt in prompts)
    limit = max(body.limit, 1) if body.limit is not None else None
    choices = engine.choices(prompts, body.copies, limit, body.stop_sequences, ignore_end=body.ignore_eos)
    job = Job(engine, exchange, record, reply.id, choices, places)
    if body.stream:
        job.stream(VllmStreamShape(reply, prompt_tokens, extras, body.copies))
    else:
        job.answer(VllmPlainShape(reply, extras, prompt_tokens, body.copies))


def _places(engine: VllmEngine, body: Body, prompts: int) -> list[Place] | None:
    """Places for all outputs. None: what is there before the headers, the copies of one prompt, has them, the rest not.

    Only a list of prompts in a stream comes that far; it ends in an error event.
    """
    try:
        return engine.take_places(prompts * body.copies)
    except Refusal:
        if body.stream and prompts > 1 and engine.has_places(body.copies):
            return None
        raise


def _check_before(value: object) -> None:
    """What is checked before the types are."""
    if not isinstance(value, dict):
        return
    if value.get("stream_options") and not value.get("stream"):
        raise bad_request("Stream options can only be defined when `stream=True`.", "stream_options")
    if value.get("top_logprobs") and "messages" in value and not value.get("logprobs"):
        raise bad_request("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    if value.get("tool_choice") not in (None, "none") and not value.get("tools"):
        raise bad_request("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if value.get("cache_salt") == "":
        raise bad_request("Parameter 'cache_salt' must be a non-empty string if provided.", "cache_salt")


def _checked_prompts(engine: VllmEngine, body: Body) -> list[Prompt]:
    engine.check_model(body.model)
    if isinstance(body, ChatBody):
        if not body.messages:
            raise bad_request(
                "Cannot apply chat template to an empty conversation. Provide at least one message.", None
            )
    elif body.prompt is None or body.prompt == "":
        raise bad_request(NO_PROMPT, "prompt")
    elif not body.prompt:
        raise bad_request("You must pass at least one prompt", None)
    elif body.suffix:
        raise Refusal(
            400, "suffix is only supported for models with FIM completion rendering", "BadRequestError", "suffix"
        )
    prompts = body.prompts()
    limit = 1 if body.echo and body.limit == 0 else body.limit
    engine.check_size(prompts, limit)
    _check_sampling(body)
    return prompts


def _check_sampling(body: Body) -> None:
    if body.copies < 1:
        raise bad_request(f"n must be at least 1, got {body.copies}.", None)
    if body.copies > MAX_COPIES:
        message = f"n must be at most {MAX_COPIES}, got {body.copies}. To increase this limit, set the "
        raise bad_request(message + "VLLM_MAX_N_SEQUENCES environment variable.", None)
    if body.temperature is not None and body.temperature < 0:
        raise bad_request(f"temperature must be non-negative, got {body.temperature}.", "temperature", body.temperature)
    if body.top_p is not None and not 0 < body.top_p <= 1:
        raise bad_request(f"top_p must be in (0, 1], got {body.top_p}.", "top_p", body.top_p)
    if body.limit is not None and body.min_tokens > body.limit:
        message = f"min_tokens must be less than or equal to max_tokens={body.limit}, got {body.min_tokens}."
        raise bad_request(message, None)
    if (body.logprobs_of or 0) > MAX_LOGPROBS:
        message = f"Requested sample logprobs of {body.logprobs_of}, which is greater than max allowed: {MAX_LOGPROBS}"
        raise bad_request(message, "logprobs", body.logprobs_of)
