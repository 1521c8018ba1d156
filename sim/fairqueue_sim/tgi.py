"""Text Generation Inference over HTTP: the routes, and those of them that need no permit.

Not there: /vertex, /invocations, /chat_tokenize, tools, grammars, images, adapters and the router's API key.
"""

from collections.abc import Callable

import msgspec

from fairqueue_sim.tgi_engine import TgiEngine
from fairqueue_sim.tgi_native import compat_generate, generate, generate_stream
from fairqueue_sim.tgi_openai import chat_completions, completions
from fairqueue_sim.tgi_requests import MAX_BEST_OF, MAX_CLIENT_BATCH_SIZE, MAX_STOP_SEQUENCES, GenerateRequest
from fairqueue_sim.tgi_shapes import CORS_LINES, JSON_LINE
from fairqueue_sim.tokenizer import tokenize
from fairqueue_sim.wire import Exchange

__all__ = ["handle"]

PREFLIGHT_LINES = (
    b"access-control-allow-origin: *\r\n"
    b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
    b"access-control-allow-methods: GET,POST\r\naccess-control-allow-headers: content-type\r\n"
)


def handle(engine: TgiEngine, exchange: Exchange) -> None:
    """Answers one request, now or later."""
    method = exchange.request.method
    routes = ROUTES.get(exchange.request.path)
    if routes is None:
        exchange.reply(404, CORS_LINES)
        return
    route = routes.get("GET" if method == "HEAD" else method)
    if route is not None:
        route(engine, exchange)
        return
    methods = ",".join("GET,HEAD" if allowed == "GET" else allowed for allowed in routes)
    allow = b"allow: %b\r\n" % methods.encode()
    if method == "OPTIONS":
        exchange.reply(200, PREFLIGHT_LINES + allow)
    else:
        exchange.reply(405, CORS_LINES + allow)


def _health(engine: TgiEngine, exchange: Exchange) -> None:
    exchange.reply(200, CORS_LINES)


def _info(engine: TgiEngine, exchange: Exchange) -> None:
    info = {
        "model_id": engine.model_id,
        "model_sha": None,
        "model_pipeline_tag": None,
        "max_concurrent_requests": engine.max_concurrent_requests,
        "max_best_of": MAX_BEST_OF,
        "max_stop_sequences": MAX_STOP_SEQUENCES,
        "max_input_tokens": engine.limits.max_input_tokens,
        "max_total_tokens": engine.limits.max_total_tokens,
        "validation_workers": 2,
        "max_client_batch_size": MAX_CLIENT_BATCH_SIZE,
        "router": "text-generation-router",
        "version": "3.3.6-dev0",
        "sha": "db931fcf42da018a3657580c64bf2720f167f9ab",
        "docker_label": "sha-db931fc",
    }
    exchange.reply(200, JSON_LINE + CORS_LINES, msgspec.json.encode(info))


def _models(engine: TgiEngine, exchange: Exchange) -> None:
    model = {"id": engine.model_id, "object": "model", "created": 0, "owned_by": engine.model_id}
    exchange.reply(200, JSON_LINE + CORS_LINES, msgspec.json.encode({"object": "list", "data": [model]}))


def _metrics(engine: TgiEngine, exchange: Exchange) -> None:
    head = b"content-type: text/plain; charset=utf-8\r\n" + CORS_LINES
    exchange.reply(200, head, engine.metrics.render(engine.batch.gauges, engine.batch.dropped))


def _tokenize(engine: TgiEngine, exchange: Exchange) -> None:
    body = engine.body(exchange, GenerateRequest)
    if body is None:
        return
    # The start token has no text of its own in the prompt; `truncate` is ignored here, as in the router.
    start = {"id": 0, "text": "", "start": 0, "stop": 0}
    tokens = [start, *(token._asdict() for token in tokenize(body.inputs))]
    exchange.reply(200, JSON_LINE + CORS_LINES, msgspec.json.encode(tokens))


Route = Callable[[TgiEngine, Exchange], None]
ROUTES: dict[str, dict[str, Route]] = {
    "/": {"POST": compat_generate, "GET": _health},
    "/generate": {"POST": generate},
    "/generate_stream": {"POST": generate_stream},
    "/v1/chat/completions": {"POST": chat_completions},
    "/v1/completions": {"POST": completions},
    "/tokenize": {"POST": _tokenize},
    "/health": {"GET": _health},
    "/ping": {"GET": _health},
    "/info": {"GET": _info},
    "/v1/models": {"GET": _models},
    "/metrics": {"GET": _metrics},
}
