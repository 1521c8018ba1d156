"""SGLang: its routes and how it reads a request (version 0.5.23, by its source).

It reads leniently, and some of its routes take PUT for POST, which is refused. Its native route tells running counts
unasked. What stops, pauses, slows or reconfigures it for all, its sessions and its stored responses are not listed and
so refused; `/server_info` shows the whole configuration and is for the proxy only; `/health_generate` generates.
"""

from typing import Final

from msgspec import Raw

from fairqueue_proxy.engines.call import Api, Call, Route
from fairqueue_proxy.engines.embeddings_body import parse_embeddings
from fairqueue_proxy.engines.engine import STRIPPED_HEADERS, ListedRoutes, RouteTable
from fairqueue_proxy.engines.fields import (
    Fields,
    copies,
    decode_body,
    decode_object,
    decode_objects,
    is_lax_true,
    is_null,
    output_limit,
)
from fairqueue_proxy.engines.live_usage_bodies import parse_with_live_usage, size_of
from fairqueue_proxy.engines.messages_body import parse_messages
from fairqueue_proxy.engines.prompts import PromptSize, is_list, size_of_prompt
from fairqueue_proxy.engines.responses_body import parse_responses
from fairqueue_proxy.engines.sized_call import sized_call
from fairqueue_proxy.engines.usage_options import Unasked
from fairqueue_proxy.metering.meter import Meter
from fairqueue_proxy.metering.sglang import SglangMeter, SglangNativeMeter

_DEFAULT_NATIVE_TOKENS: Final = 128
_MEDIA: Final = ("image_data", "video_data", "audio_data")

_ROUTES: Final = RouteTable(
    metered={
        "/generate": Api.SGLANG_GENERATE,
        "/v1/chat/completions": Api.CHAT,
        "/v1/completions": Api.COMPLETIONS,
        "/v1/responses": Api.RESPONSES,
        "/v1/messages": Api.MESSAGES,
        "/v1/embeddings": Api.EMBEDDINGS,
        "/v1/classify": Api.EMBEDDINGS,
        "/v1/rerank": Api.EMBEDDINGS,
        "/v1/score": Api.EMBEDDINGS,
    },
    identified=frozenset({"/tokenize", "/v1/tokenize", "/detokenize", "/v1/detokenize", "/v1/messages/count_tokens"}),
    free=frozenset(
        {"/health", "/ready", "/metrics", "/v1/models", "/v1/loads", "/model_info", "/get_model_info", "/openapi.json"}
    ),
)


class Sglang(ListedRoutes):
    """The engine kind `SGLang`."""

    kind = "SGLang"
    routes = _ROUTES
    stripped_headers = STRIPPED_HEADERS
    shares_request_ids = False
    cancels_plain = True

    def parse(self, route: Route, body: bytes) -> Call:
        fields = decode_body(body)
        api = route.api
        if api is Api.SGLANG_GENERATE:
            return _parse_native(fields)
        if api is Api.CHAT:
            return parse_with_live_usage(api, fields, _size_of_chat(fields), _chat_meter, chunks_alone=True)
        if api is Api.COMPLETIONS:
            return parse_with_live_usage(api, fields, size_of(api, fields), _completions_meter, chunks_alone=True)
        if api is Api.RESPONSES:
            return parse_responses(fields, stores=True, stream=is_lax_true(fields.get("stream")))
        if api is Api.MESSAGES:
            return parse_messages(fields, stream=is_lax_true(fields.get("stream")))
        if api is Api.EMBEDDINGS:
            return parse_embeddings(fields)
        raise ValueError(f"not a metered route of SGLang: {route}")


def _chat_meter(sequences: int, samples: int, unasked: Unasked) -> Meter:
    return SglangMeter(sequences=sequences, copies=samples, strip_chunks=unasked.in_chunks, strip_end=unasked.at_end)


def _completions_meter(sequences: int, samples: int, unasked: Unasked) -> Meter:
    return SglangMeter(
        sequences=sequences,
        copies=samples,
        strip_chunks=unasked.in_chunks,
        strip_end=unasked.at_end,
        null_usage=True,
    )


def _size_of_chat(fields: Fields) -> PromptSize:
    """Token ids stand in for the messages where they are given."""
    size = size_of(Api.CHAT, fields)
    ids = size_of_prompt(fields.get("input_ids")) if not is_null(fields.get("input_ids")) else None
    return size if ids is None or ids.tokens is None else PromptSize(1, 0, tokens=ids.tokens)


def _parse_native(fields: Fields) -> Call:
    # Made for the background, a request goes on when its client has gone.
    fields.pop("background", None)
    ids, given = fields.get("input_ids"), fields.get("text")
    size = size_of_prompt(given if is_null(ids) else ids)
    media = sum(_count(fields.get(name)) for name in _MEDIA)
    size = PromptSize(size.prompts, size.text_bytes, tokens=None if media else size.tokens, media_parts=media)
    parameters = _sampling_parameters(fields)
    samples = copies([each.get("n") for each in parameters], lax=True)
    limits = [_output_limit(each) for each in parameters]
    return sized_call(
        Api.SGLANG_GENERATE,
        fields,
        size,
        stream=is_lax_true(fields.get("stream")),
        max_tokens=max((limit for limit in limits if limit is not None), default=None) if None not in limits else None,
        samples=samples,
        make_meter=lambda: SglangNativeMeter(size.prompts * samples),
    )


def _sampling_parameters(fields: Fields) -> list[Fields]:
    """Of all prompts together, or of each."""
    raw = fields.get("sampling_params")
    each = decode_objects(raw) if is_list(raw) else None
    return each or [decode_object(raw) or {}]


def _output_limit(parameters: Fields) -> int | None:
    if "max_new_tokens" not in parameters:
        return _DEFAULT_NATIVE_TOKENS
    return output_limit(parameters["max_new_tokens"], lax=True)


def _count(raw: Raw | None) -> int:
    """Images and the like: one, or a list of them."""
    if raw is None or is_null(raw):
        return 0
    return size_of_prompt(raw).prompts if is_list(raw) else 1
