"""vLLM's OpenAI server over HTTP (0.32.0): the routes, and those of them that take no place in the batch.

Not there: tools, images, LoRA, beam search, stored responses, the API key and the development routes. Two routes are
here that a real server has only by an option or with another kind of model, because a proxy has to know what to do with
them: `/inference/v1/abort_requests`, which ends anybody's request by its id, and `/v1/embeddings`.
"""

from fairqueue_sim.asgi import Routes, dispatch, reply_json, text_lines
from fairqueue_sim.jobs import Job
from fairqueue_sim.lax_bodies import LaxModel
from fairqueue_sim.openai_bodies import Message, message_text
from fairqueue_sim.pooling import PoolingBody, PoolingShape
from fairqueue_sim.prompts import TEMPLATE_TOKEN_ID, chat_prompt, completion_prompts, prompt_ids
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.vllm_engine import VARY, VllmEngine
from fairqueue_sim.vllm_messages import count_tokens, messages
from fairqueue_sim.vllm_metrics import vllm_metrics
from fairqueue_sim.vllm_openai import chat_completions, completions
from fairqueue_sim.vllm_responses import responses
from fairqueue_sim.wire import Exchange

__all__ = ["handle"]

NEITHER_PROMPT_NOR_MESSAGES = Refusal(
    400,
    "2 validation errors:"
    "\n  {'type': 'missing', 'loc': 'body.prompt', 'msg': 'Field required', 'input': '<dict of 0 items>'}"
    "\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 0 items>'}",
    "Bad Request",
    "body.prompt",
)


def handle(engine: VllmEngine, exchange: Exchange) -> None:
    """Answers one request, now or later."""
    dispatch(ROUTES, engine, exchange, VARY)


def _ok(engine: VllmEngine, exchange: Exchange) -> None:
    exchange.reply(200, text_lines(b"", VARY))


def _version(engine: VllmEngine, exchange: Exchange) -> None:
    reply_json(exchange, 200, {"version": "0.32.0"}, VARY)


def _load(engine: VllmEngine, exchange: Exchange) -> None:
    # Without --enable-server-load-tracking it is always 0.
    reply_json(exchange, 200, {"server_load": 0}, VARY)


def _models(engine: VllmEngine, exchange: Exchange) -> None:
    now = int(engine.wall_clock())
    permission = {
        "id": "modelperm-0000000000000000",
        "object": "model_permission",
        "created": now,
        "allow_create_engine": False,
        **dict.fromkeys(("allow_sampling", "allow_logprobs"), True),
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    model = {
        "id": engine.model_id,
        "object": "model",
        "created": now,
        "owned_by": "vllm",
        "root": f"/models/{engine.model_id}",
        "parent": None,
        "max_model_len": engine.limits.max_total_tokens,
        "permission": [permission],
    }
    reply_json(exchange, 200, {"object": "list", "data": [model]}, VARY)


def _metrics(engine: VllmEngine, exchange: Exchange) -> None:
    exchange.reply(200, text_lines(b"text/plain; version=1.0.0; charset=utf-8", VARY), vllm_metrics(engine))


class TokenizeBody(LaxModel):
    """POST /tokenize: a prompt, or a conversation."""

    prompt: str | None = None
    messages: list[Message] | None = None
    model: str | None = None
    return_token_strs: bool | None = None


def _tokenize(engine: VllmEngine, exchange: Exchange) -> None:
    body = engine.body(exchange, TokenizeBody)
    if body is None:
        return
    if body.messages is not None:
        prompt = chat_prompt(message_text(message.content) for message in body.messages)
    elif body.prompt is not None:
        (prompt,) = completion_prompts(body.prompt)
    else:
        engine.reply_error(exchange, NEITHER_PROMPT_NOR_MESSAGES)
        return
    ids = prompt_ids(prompt)
    found = {
        "count": len(ids),
        "max_model_len": engine.limits.max_total_tokens,
        "tokens": ids,
        "token_strs": [_token_text(number) for number in ids] if body.return_token_strs else None,
    }
    reply_json(exchange, 200, found, VARY)


class DetokenizeBody(LaxModel):
    """POST /detokenize."""

    tokens: list[int]
    model: str | None = None


def _detokenize(engine: VllmEngine, exchange: Exchange) -> None:
    body = engine.body(exchange, DetokenizeBody)
    if body is not None:
        reply_json(exchange, 200, {"prompt": "".join(map(_token_text, body.tokens))}, VARY)


def _token_text(number: int) -> str:
    # Several texts share an id, so that none can be told from it.
    return "<s>" if number == TEMPLATE_TOKEN_ID else f"<{number}>"


def _embeddings(engine: VllmEngine, exchange: Exchange) -> None:
    body = engine.body(exchange, PoolingBody)
    if body is None:
        return
    record = engine.arrived(exchange.request)
    prompts = body.prompts()
    try:
        engine.check_model(body.model)
        engine.check_size(prompts, None)
        places = engine.take_places(len(prompts))
    except Refusal as refusal:
        engine.refuse(exchange, record, refusal)
        return
    reply_id = f"embd-{engine.request_id(record)}"
    shape = PoolingShape(reply_id, int(engine.wall_clock()), engine.model_id, VARY)
    Job(engine, exchange, record, reply_id, engine.choices(prompts, 1, 0, ()), places).answer(shape)


class AbortBody(LaxModel):
    """POST /inference/v1/abort_requests."""

    request_ids: list[str]


def _abort_requests(engine: VllmEngine, exchange: Exchange) -> None:
    body = engine.body(exchange, AbortBody)
    if body is None:
        return
    for request_id in body.request_ids:
        engine.abort(request_id)
    _ok(engine, exchange)


ROUTES: Routes[VllmEngine] = {
    "/v1/chat/completions": {"POST": chat_completions},
    "/v1/completions": {"POST": completions},
    "/v1/responses": {"POST": responses},
    "/v1/messages": {"POST": messages},
    "/v1/messages/count_tokens": {"POST": count_tokens},
    "/v1/embeddings": {"POST": _embeddings},
    "/inference/v1/abort_requests": {"POST": _abort_requests},
    "/tokenize": {"POST": _tokenize},
    "/detokenize": {"POST": _detokenize},
    "/v1/models": {"GET": _models},
    "/health": {"GET": _ok},
    "/ping": {"GET": _ok, "POST": _ok},
    "/version": {"GET": _version},
    "/load": {"GET": _load},
    "/metrics": {"GET": _metrics},
}
