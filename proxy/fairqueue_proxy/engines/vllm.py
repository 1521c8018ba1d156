"""vLLM's OpenAI server: its routes and how it reads a request.

It reads leniently (pydantic's lax mode). Each chunk of a chat or completions stream carries the running count of its
choice if asked for. Its own limits refuse with 503, which is an overload. What stops requests of others, changes the
server, stores or disaggregates is not listed and so refused; so are audio and the Cohere routes, whose bodies and
replies nobody here can measure.
"""

from typing import Final

from msgspec import Raw

from fairqueue_proxy.engines.call import Api, Call, Route
from fairqueue_proxy.engines.embeddings_body import parse_embeddings
from fairqueue_proxy.engines.engine import STRIPPED_HEADERS, ListedRoutes, RouteTable
from fairqueue_proxy.engines.fields import Fields, decode_body, decode_object, encode, is_lax_true, is_null
from fairqueue_proxy.engines.live_usage_bodies import parse_with_live_usage, size_of
from fairqueue_proxy.engines.messages_body import parse_messages
from fairqueue_proxy.engines.prompts import PromptSize, is_list, size_of_prompt, sum_of
from fairqueue_proxy.engines.responses_body import parse_responses
from fairqueue_proxy.engines.usage_options import Unasked
from fairqueue_proxy.metering.meter import Meter
from fairqueue_proxy.metering.vllm import VllmMeter

_RENDERED: Final = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")

_ROUTES: Final = RouteTable(
    metered={
        "/v1/chat/completions": Api.CHAT,
        "/v1/chat/completions/batch": Api.CHAT,
        "/v1/completions": Api.COMPLETIONS,
        "/v1/responses": Api.RESPONSES,
        "/v1/messages": Api.MESSAGES,
        "/invocations": Api.INVOCATIONS,
        "/v1/embeddings": Api.EMBEDDINGS,
        "/pooling": Api.EMBEDDINGS,
        "/classify": Api.EMBEDDINGS,
        "/score": Api.EMBEDDINGS,
        "/v1/score": Api.EMBEDDINGS,
        "/rerank": Api.EMBEDDINGS,
        "/v1/rerank": Api.EMBEDDINGS,
        "/v2/rerank": Api.EMBEDDINGS,
        "/generative_scoring": Api.EMBEDDINGS,
    },
    identified=frozenset(
        {
            "/tokenize",
            "/detokenize",
            "/v1/messages/count_tokens",
            *(f"{path}/{verb}" for path in _RENDERED for verb in ("render", "derender")),
        }
    ),
    free=frozenset({"/health", "/ping", "/version", "/load", "/metrics", "/v1/models", "/openapi.json", "/redoc"}),
)

# Free-form arguments of a request, by which the same can be reached that is dropped from the body itself.
_EXTRA_ARGUMENTS: Final = "vllm_xargs"
_TRANSFER_FIELDS: Final = frozenset({"kv_transfer_params", "ec_transfer_params"})


class Vllm(ListedRoutes):
    """The engine kind `VLLM`."""

    kind = "VLLM"
    routes = _ROUTES
    stripped_headers = STRIPPED_HEADERS
    shares_request_ids = True
    cancels_plain = True

    def parse(self, route: Route, body: bytes) -> Call:
        fields = decode_body(body)
        _drop_transfers(fields)
        api = _invoked(fields) if route.api is Api.INVOCATIONS else route.api
        if api is Api.CHAT or api is Api.COMPLETIONS:
            return parse_with_live_usage(api, fields, _size(api, fields), _meter, chunks_alone=False)
        if api is Api.RESPONSES:
            return parse_responses(fields, stores=True, stream=is_lax_true(fields.get("stream")))
        if api is Api.MESSAGES:
            return parse_messages(fields, stream=is_lax_true(fields.get("stream")))
        if api is Api.EMBEDDINGS:
            return parse_embeddings(fields)
        raise ValueError(f"not a metered route of vLLM: {route}")


def _meter(sequences: int, samples: int, unasked: Unasked) -> Meter:
    return VllmMeter(sequences=sequences, copies=samples, strip_chunks=unasked.in_chunks, strip_end=unasked.at_end)


def _invoked(fields: Fields) -> Api:
    """What `/invocations` makes of the body. What would let it read another shape than this one is dropped."""
    if not is_null(fields.get("messages")):
        fields.pop("prompt", None)
        return Api.CHAT
    fields.pop("messages", None)
    return Api.COMPLETIONS if not is_null(fields.get("prompt")) else Api.EMBEDDINGS


def _size(api: Api, fields: Fields) -> PromptSize:
    embeds = fields.get("prompt_embeds")
    if api is Api.CHAT or is_null(embeds):
        return size_of(api, fields)
    # Prompts that are embeddings already: of each only that it is there can be told.
    given = size_of_prompt(embeds) if is_list(embeds) else PromptSize(1, 0)
    prompts = [PromptSize(given.prompts, 0, media_parts=given.prompts)]
    return sum_of(prompts if is_null(fields.get("prompt")) else [*prompts, size_of(api, fields)])


def _drop_transfers(fields: Fields) -> None:
    extra = decode_object(fields.get(_EXTRA_ARGUMENTS))
    if extra is not None and not extra.keys().isdisjoint(_TRANSFER_FIELDS):
        kept = {name: raw for name, raw in extra.items() if name not in _TRANSFER_FIELDS}
        fields[_EXTRA_ARGUMENTS] = Raw(encode(kept))
