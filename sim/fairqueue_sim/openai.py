"""A plain OpenAI-compatible engine: chat and completions, /v1/models, /health, and nothing else.

It has no metrics, no tokenizer route and no limit on requests unless `max_concurrent_requests` is set (429 then, for
streams too). Outputs are not cut in pieces: the whole of prompt and wanted output is reserved in the KV cache.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeVar

import msgspec

from fairqueue_sim.bodies import BodyError, decode_body
from fairqueue_sim.engine import EngineSettings
from fairqueue_sim.engine_front import EngineFront, begin_plain, begin_stream
from fairqueue_sim.openai_requests import ChatBody, CompletionBody, check_size
from fairqueue_sim.openai_shapes import JSON_LINE, OpenAIPlainShape, OpenAIStreamShape, Reply, openai_error
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.sessions import PlainSession, StreamSession
from fairqueue_sim.truth import TruthLog
from fairqueue_sim.wire import Exchange

__all__ = ["OpenAIEngine", "handle"]

NOT_FOUND = Refusal(404, "Not Found", "not_found")
TOO_LARGE = Refusal(413, "The request body is too large.", "request_too_large")


class OpenAIEngine(EngineFront):
    """The model behind the OpenAI routes."""

    def __init__(self, settings: EngineSettings, truth: TruthLog) -> None:
        limits = settings.limits()
        super().__init__(settings, truth, replace(limits, piece_tokens=limits.max_total_tokens))

    def reply_error(self, exchange: Exchange, refusal: Refusal) -> None:
        exchange.reply(refusal.status, JSON_LINE, openai_error(refusal))


def handle(engine: OpenAIEngine, exchange: Exchange) -> None:
    """Answers one request, now or later."""
    method = exchange.request.method
    routes = ROUTES.get(exchange.request.path)
    if routes is None:
        engine.reply_error(exchange, NOT_FOUND)
        return
    route = routes.get("GET" if method == "HEAD" else method)
    if route is None:
        allow = ", ".join(routes).encode()
        exchange.reply(405, JSON_LINE + b"allow: %b\r\n" % allow, b'{"detail":"Method Not Allowed"}')
        return
    route(engine, exchange)


def _health(engine: OpenAIEngine, exchange: Exchange) -> None:
    exchange.reply(200, b"")


def _models(engine: OpenAIEngine, exchange: Exchange) -> None:
    model = {"id": engine.model_id, "object": "model", "created": 0, "owned_by": "fairqueue"}
    exchange.reply(200, JSON_LINE, msgspec.json.encode({"object": "list", "data": [model]}))


def _chat(engine: OpenAIEngine, exchange: Exchange) -> None:
    body = _body(engine, exchange, ChatBody)
    if body is not None:
        _generate(engine, exchange, body, "chat")


def _completions(engine: OpenAIEngine, exchange: Exchange) -> None:
    body = _body(engine, exchange, CompletionBody)
    if body is not None:
        _generate(engine, exchange, body, "completion")


Body = ChatBody | CompletionBody
B = TypeVar("B", ChatBody, CompletionBody)


def _body(engine: OpenAIEngine, exchange: Exchange, kind: type[B]) -> B | None:
    request = exchange.request
    if request.too_large:
        engine.reply_error(exchange, TOO_LARGE)
        return None
    try:
        return decode_body(request.body, kind)
    except BodyError as error:
        engine.reply_error(exchange, Refusal(400, error.text, "invalid_body"))
        return None


def _generate(engine: OpenAIEngine, exchange: Exchange, body: Body, kind: Literal["chat", "completion"]) -> None:
    record = engine.arrived(exchange.request)
    prompts = body.prompts()
    copies = body.n or 1
    try:
        for prompt in prompts:
            check_size(prompt, body.limit, engine.limits)
        places = engine.take_places(len(prompts) * copies)
    except Refusal as refusal:
        engine.refuse(exchange, record, refusal)
        return
    choices = engine.choices(prompts, copies, body.limit, body.stop_sequences)
    prefix = "chatcmpl" if kind == "chat" else "cmpl"
    reply = Reply(kind, f"{prefix}-{record.number}", int(engine.wall_clock()), body.model or engine.model_id)
    prompt_tokens = sum(prompt.tokens for prompt in prompts)
    if body.stream:
        events = OpenAIStreamShape(reply, body.include_usage, prompt_tokens)
        stream = StreamSession(engine, exchange, record, events, in_turn=False, comments=False)
        begin_stream(stream, choices, places)
    else:
        begin_plain(PlainSession(engine, exchange, record, OpenAIPlainShape(reply, prompt_tokens)), choices, places)


ROUTES: dict[str, dict[str, Callable[[OpenAIEngine, Exchange], None]]] = {
    "/v1/chat/completions": {"POST": _chat},
    "/v1/completions": {"POST": _completions},
    "/v1/models": {"GET": _models},
    "/health": {"GET": _health},
}
