"""Routes are closed by default: metered, free, and everything else refused."""

import pytest

from fairqueue_proxy.engines import Access, Api, Route, engine_for

METERED = {
    "TGI": {
        "/": Api.TGI_ROOT,
        "/generate": Api.TGI_GENERATE,
        "/generate_stream": Api.TGI_STREAM,
        "/v1/chat/completions": Api.CHAT,
        "/v1/completions": Api.COMPLETIONS,
        "/vertex": Api.TGI_VERTEX,
        "/invocations": Api.TGI_INVOCATIONS,
    },
    "VLLM": {
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
    "SGLang": {
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
    "LlamaCpp": {
        "/completion": Api.LLAMA_COMPLETION,
        "/completions": Api.LLAMA_COMPLETION,
        "/infill": Api.LLAMA_COMPLETION,
        "/v1/completions": Api.COMPLETIONS,
        "/chat/completions": Api.CHAT,
        "/v1/chat/completions": Api.CHAT,
        "/responses": Api.RESPONSES,
        "/v1/responses": Api.RESPONSES,
        "/v1/messages": Api.MESSAGES,
        "/embedding": Api.EMBEDDINGS,
        "/embeddings": Api.EMBEDDINGS,
        "/v1/embeddings": Api.EMBEDDINGS,
        "/rerank": Api.EMBEDDINGS,
        "/reranking": Api.EMBEDDINGS,
        "/v1/rerank": Api.EMBEDDINGS,
        "/v1/reranking": Api.EMBEDDINGS,
    },
    "OpenAI": {
        "/v1/chat/completions": Api.CHAT,
        "/v1/completions": Api.COMPLETIONS,
        "/v1/responses": Api.RESPONSES,
        "/v1/messages": Api.MESSAGES,
        "/v1/embeddings": Api.EMBEDDINGS,
    },
}
IDENTIFIED = {
    "TGI": ["/tokenize", "/chat_tokenize"],
    "VLLM": [
        "/tokenize",
        "/detokenize",
        "/v1/messages/count_tokens",
        "/v1/chat/completions/render",
        "/v1/chat/completions/derender",
        "/v1/completions/render",
        "/v1/responses/render",
        "/v1/messages/derender",
    ],
    "SGLang": ["/tokenize", "/v1/tokenize", "/detokenize", "/v1/detokenize", "/v1/messages/count_tokens"],
    "LlamaCpp": [
        "/tokenize",
        "/detokenize",
        "/apply-template",
        "/v1/messages/count_tokens",
        "/v1/chat/completions/input_tokens",
        "/v1/responses/input_tokens",
    ],
    "OpenAI": ["/v1/messages/count_tokens", "/v1/responses/input_tokens"],
}
FREE = {
    "TGI": [
        "/",
        "/health",
        "/ping",
        "/info",
        "/metrics",
        "/v1/models",
        "/docs",
        "/docs/swagger-ui.css",
        "/api-doc/openapi.json",
    ],
    "VLLM": ["/health", "/ping", "/version", "/load", "/metrics", "/v1/models", "/openapi.json", "/redoc"],
    "SGLang": ["/health", "/ready", "/metrics", "/v1/models", "/v1/loads", "/model_info", "/get_model_info"],
    "LlamaCpp": ["/health", "/v1/health", "/metrics", "/models", "/v1/models", "/props"],
    "OpenAI": ["/health", "/v1/models", "/metrics", "/version", "/ping"],
}
REFUSED = {
    "TGI": ["/generate/", "/docsx", "/v1/embeddings", "/v2/models", ""],
    "VLLM": [
        "/abort_requests",
        "/inference/v1/abort_requests",
        "/inference/v1/generate",
        "/scale_elastic_ep",
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/cancel",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/sleep",
        "/wake_up",
        "/pause",
        "/resume",
        "/reset_prefix_cache",
        "/collective_rpc",
        "/server_info",
        "/update_weights",
        "/start_profile",
        "/v1/audio/transcriptions",
        "/v1/realtime",
        "/v2/embed",
        "/cohere/v2/chat",
        "/v1/systemone",
        "/generate",
    ],
    "SGLang": [
        "/abort_request",
        "/flush_cache",
        "/open_session",
        "/close_session",
        "/pause_generation",
        "/slow_down",
        "/release_memory_occupation",
        "/update_weights_from_disk",
        "/load_lora_adapter",
        "/set_internal_state",
        "/server_info",
        "/get_server_info",
        "/health_generate",
        "/v1/responses/resp_1/cancel",
        "/api/chat",
        "/encode",
        "/classify",
        "/v1/audio/transcriptions",
    ],
    "LlamaCpp": [
        "/slots",
        "/slots/0",
        "/lora-adapters",
        "/v1/stream",
        "/v1/streams/lookup",
        "/v1/chat/completions/control",
        "/cors-proxy",
        "/tools",
        "/v1/audio/transcriptions",
        "/",
    ],
    "OpenAI": [
        "/inference/v1/abort_requests",
        "/sleep",
        "/v1/chat/completions/",
        "/v1/responses/resp_1/cancel",
        "/v1/load_lora_adapter",
        "/v1/files",
        "/v1/batches",
        "/v1/streams/lookup",
        "/v1/chat/completions/control",
        "/v1/",
        "/v2/other",
    ],
}


def _pairs(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(kind, path) for kind, paths in table.items() for path in paths]


@pytest.mark.parametrize(("kind", "path"), _pairs({kind: list(paths) for kind, paths in METERED.items()}))
def test_what_generates_is_metered(kind: str, path: str) -> None:
    engine = engine_for(kind)
    assert engine.route("POST", path) == Route(Access.METERED, METERED[kind][path])
    assert engine.route("OPTIONS", path).access is Access.FREE
    for method in ("PUT", "DELETE", "PATCH", "CONNECT"):
        assert engine.route(method, path).access is Access.REFUSED


@pytest.mark.parametrize("kind", METERED)
def test_the_table_above_is_whole(kind: str) -> None:
    assert METERED[kind].keys() == engine_for(kind).metered_paths


@pytest.mark.parametrize(("kind", "path"), _pairs(IDENTIFIED))
def test_what_only_counts_or_renders_needs_an_identity_and_nothing_else(kind: str, path: str) -> None:
    engine = engine_for(kind)
    assert engine.route("POST", path) == Route(Access.IDENTIFIED)
    assert engine.route("OPTIONS", path).access is Access.FREE
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert engine.route(method, path).access is Access.REFUSED


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/images/generations", "/v1/rerank", "/v1/a/b"])
def test_an_unlisted_post_to_an_openai_engine_is_metered_with_unknown_size(path: str) -> None:
    engine = engine_for("OpenAI")
    assert engine.route("POST", path) == Route(Access.METERED, Api.OTHER)
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert engine.route(method, path).access is Access.REFUSED


@pytest.mark.parametrize(("kind", "path"), _pairs(FREE))
def test_what_only_tells_is_free_to_read(kind: str, path: str) -> None:
    engine = engine_for(kind)
    for method in ("GET", "HEAD", "OPTIONS"):
        assert engine.route(method, path) == Route(Access.FREE)
    assert engine.route("DELETE", path).access is Access.REFUSED


@pytest.mark.parametrize(("kind", "path"), _pairs(REFUSED))
def test_whatever_is_in_no_list_is_refused(kind: str, path: str) -> None:
    engine = engine_for(kind)
    methods = ["POST", "DELETE", "PUT"] + ["GET", "OPTIONS"] * (path not in FREE[kind])
    for method in methods:
        assert engine.route(method, path) == Route(Access.REFUSED)


def test_metered_routes_cannot_be_read() -> None:
    for kind, paths in METERED.items():
        for path in paths:
            if path not in FREE[kind]:
                assert engine_for(kind).route("GET", path).access is Access.REFUSED
                assert engine_for(kind).route("HEAD", path).access is Access.REFUSED


@pytest.mark.parametrize("kind", METERED)
def test_headers_that_steer_an_engine_are_stripped(kind: str) -> None:
    engine = engine_for(kind)
    assert engine.kind == kind
    steering = {"x-conversation-id", "x-vllm-priority", "x-override-priority", "x-override-rid", "x-smg-routing-key"}
    assert steering <= engine.stripped_headers
    assert all(name == name.lower() for name in engine.stripped_headers)


def test_only_llamacpp_goes_on_with_a_plain_reply_that_nobody_waits_for() -> None:
    assert {kind: engine_for(kind).cancels_plain for kind in METERED} == {
        "TGI": True,
        "VLLM": True,
        "SGLang": True,
        "LlamaCpp": False,
        "OpenAI": True,
    }


def test_an_unknown_engine_kind_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown engine kind 'vllm'; known are LlamaCpp, OpenAI, SGLang, TGI, VLLM"):
        engine_for("vllm")


@pytest.mark.parametrize("kind", METERED)
def test_only_metered_routes_are_parsed(kind: str) -> None:
    with pytest.raises(ValueError, match="not a metered route"):
        engine_for(kind).parse(Route(Access.FREE), b"{}")
