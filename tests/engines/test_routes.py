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
    },
    "LlamaCpp": {
        "/completion": Api.LLAMA_COMPLETION,
        "/completions": Api.LLAMA_COMPLETION,
        "/v1/completions": Api.COMPLETIONS,
        "/chat/completions": Api.CHAT,
        "/v1/chat/completions": Api.CHAT,
    },
    "OpenAI": {"/v1/chat/completions": Api.CHAT, "/v1/completions": Api.COMPLETIONS},
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
    "LlamaCpp": ["/health", "/v1/health", "/metrics", "/models", "/v1/models", "/props"],
    "OpenAI": ["/health", "/v1/models", "/metrics", "/version", "/ping"],
}
REFUSED = {
    "TGI": ["/vertex", "/invocations", "/tokenize", "/generate/", "/docsx", "/v1/embeddings", ""],
    "LlamaCpp": [
        "/slots/0",
        "/props",
        "/lora-adapters",
        "/v1/streams/lookup",
        "/v1/chat/completions/control",
        "/infill",
        "/v1/responses",
        "/v1/messages",
        "/v1/embeddings",
        "/",
    ],
    "OpenAI": ["/v1/responses", "/inference/v1/abort_requests", "/sleep", "/v1/chat/completions/"],
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
    assert {"x-conversation-id", "x-vllm-priority", "x-override-priority"} <= engine.stripped_headers
    assert all(name == name.lower() for name in engine.stripped_headers)


def test_only_llamacpp_goes_on_with_a_plain_reply_that_nobody_waits_for() -> None:
    assert {kind: engine_for(kind).cancels_plain for kind in METERED} == {
        "TGI": True,
        "LlamaCpp": False,
        "OpenAI": True,
    }


def test_an_unknown_engine_kind_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown engine kind 'vllm'; known are LlamaCpp, OpenAI, TGI"):
        engine_for("vllm")


@pytest.mark.parametrize("kind", METERED)
def test_only_metered_routes_are_parsed(kind: str) -> None:
    with pytest.raises(ValueError, match="not a metered route"):
        engine_for(kind).parse(Route(Access.FREE), b"{}")
