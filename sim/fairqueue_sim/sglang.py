"""SGLang's server over HTTP, by its source (0.5.23): the routes, and those that take no place in the batch.

Not there: tools, images, LoRA, embeddings, sessions, prefix cache, priorities and the routes that change the server.
`/abort_request` ends anybody's request by its id, or everybody's.
"""

from fairqueue_sim.asgi import Routes, dispatch, reply_json, text_lines
from fairqueue_sim.exposition import Family, render
from fairqueue_sim.lax_bodies import LaxModel
from fairqueue_sim.sglang_engine import SglangEngine
from fairqueue_sim.sglang_native import generate
from fairqueue_sim.sglang_openai import chat_completions, completions
from fairqueue_sim.wire import Exchange

__all__ = ["handle"]


def handle(engine: SglangEngine, exchange: Exchange) -> None:
    """Answers one request, now or later."""
    dispatch(ROUTES, engine, exchange)


def _ok(engine: SglangEngine, exchange: Exchange) -> None:
    exchange.reply(200, text_lines(b""))


def _models(engine: SglangEngine, exchange: Exchange) -> None:
    model = {
        "id": engine.model_id,
        "object": "model",
        "created": int(engine.wall_clock()),
        "owned_by": "sglang",
        "root": engine.model_id,
        "parent": None,
        "max_model_len": engine.limits.max_total_tokens,
    }
    reply_json(exchange, 200, {"object": "list", "data": [model]})


def _model_info(engine: SglangEngine, exchange: Exchange) -> None:
    info = {
        "model_path": engine.model_id,
        "tokenizer_path": engine.model_id,
        "is_generation": True,
        "preferred_sampling_params": None,
        "weight_version": "default",
    }
    reply_json(exchange, 200, info)


def _server_info(engine: SglangEngine, exchange: Exchange) -> None:
    limits = engine.limits
    info = {
        "model_path": engine.model_id,
        "served_model_name": engine.model_id,
        "context_length": limits.max_total_tokens,
        "max_running_requests": limits.slots,
        "max_total_num_tokens": limits.kv_tokens,
        "max_req_input_len": limits.max_input_tokens,
        "chunked_prefill_size": limits.prefill_budget_tokens,
        "version": "0.5.23",
    }
    reply_json(exchange, 200, info)


def _metrics(engine: SglangEngine, exchange: Exchange) -> None:
    batch = engine.batch
    labels = f'engine_type="unified",model_name="{engine.model_id}",pp_rank="0",tp_rank="0"'
    values = {
        "num_running_reqs": batch.running,
        "num_queue_reqs": batch.waiting,
        "token_usage": batch.kv_used_tokens / batch.capacity_tokens,
        "kv_used_tokens": batch.kv_used_tokens,
        "max_total_num_tokens": engine.limits.kv_tokens,
        "num_retracted_reqs": batch.preemptions,
    }
    families: list[Family] = [(f"sglang:{name}", "gauge", {labels: value}) for name, value in values.items()]
    families += [
        ("sglang:prompt_tokens_total", "counter", {labels: engine.prompt_tokens_total}),
        ("sglang:generation_tokens_total", "counter", {labels: engine.generation_tokens_total}),
    ]
    exchange.reply(200, text_lines(b"text/plain; version=1.0.0; charset=utf-8"), render(families))


class AbortBody(LaxModel):
    """POST /abort_request."""

    rid: str = ""
    abort_all: bool = False


def _abort_request(engine: SglangEngine, exchange: Exchange) -> None:
    body = engine.body(exchange, AbortBody)
    if body is None:
        return
    if body.abort_all:
        engine.abort_all()
    else:
        engine.abort(body.rid)
    _ok(engine, exchange)


ROUTES: Routes[SglangEngine] = {
    "/generate": {"POST": generate, "PUT": generate},
    "/v1/chat/completions": {"POST": chat_completions},
    "/v1/completions": {"POST": completions},
    "/abort_request": {"POST": _abort_request},
    "/v1/models": {"GET": _models},
    "/get_model_info": {"GET": _model_info},
    "/model_info": {"GET": _model_info},
    "/get_server_info": {"GET": _server_info},
    "/server_info": {"GET": _server_info},
    "/health": {"GET": _ok},
    "/metrics": {"GET": _metrics},
}
