"""How vLLM reads a request, and so how it is measured."""

from typing import Any

import pytest

from engines.parsing import parse, sent
from fairqueue_proxy.engines import Api

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/completions", {}, 16),
        ("/v1/completions", {"max_tokens": None}, 16),
        ("/v1/completions", {"max_tokens": "5"}, 5),
        ("/v1/completions", {"max_tokens": 5, "max_completion_tokens": 9}, 5),
        ("/v1/chat/completions", {}, None),
        ("/v1/chat/completions", {"max_tokens": 5, "max_completion_tokens": 3}, 3),
        ("/v1/responses", {}, None),
        ("/v1/responses", {"max_output_tokens": "7"}, 7),
        ("/v1/messages", {"max_tokens": 7}, 7),
        ("/v1/embeddings", {"input": "x", "max_tokens": 7}, 0),
    ],
)
def test_output_limits_are_those_that_the_engine_applies(path: str, body: dict[str, Any], expected: int | None) -> None:
    assert parse("VLLM", path, body).max_tokens == expected


@pytest.mark.parametrize(
    ("body", "sequences"),
    [
        ({"prompt": "x", "n": "2", "best_of": 5}, 2),
        ({"prompt": ["x", "y"], "n": 3}, 6),
        ({"prompt": "x", "n": 16384}, 1024),
        ({"prompt_embeds": ["AA==", "AA=="]}, 2),
        ({"prompt_embeds": "AA==", "prompt": "x"}, 2),
        ({"prompt_embeds": None, "prompt": "x"}, 1),
    ],
)
def test_sequences_are_prompts_times_samples(body: dict[str, Any], sequences: int) -> None:
    assert parse("VLLM", "/v1/completions", body).sequences == sequences


def test_prompts_that_are_embeddings_count_as_media() -> None:
    call = parse("VLLM", "/v1/completions", {"prompt_embeds": ["AA==", "AA=="], "prompt": "abc"})
    assert (call.prompt_bytes, call.media_parts, call.prompt_tokens) == (3, 2, None)


def test_a_batch_of_conversations_is_several_prompts() -> None:
    call = parse("VLLM", "/v1/chat/completions/batch", {"messages": [MESSAGES, MESSAGES], "tools": [{"a": 1}]})
    assert (call.sequences, call.prompt_bytes) == (2, 2 * (5 + len('[{"a": 1}]')))


@pytest.mark.parametrize(
    ("body", "api", "received"),
    [
        ({"messages": MESSAGES}, Api.CHAT, {"messages": MESSAGES}),
        ({"prompt": "x"}, Api.COMPLETIONS, {"prompt": "x"}),
        ({"messages": MESSAGES, "prompt": "x"}, Api.CHAT, {"messages": MESSAGES}),
        ({"messages": None, "prompt": "x"}, Api.COMPLETIONS, {"prompt": "x"}),
        ({"input": "x"}, Api.EMBEDDINGS, {"input": "x"}),
        ({}, Api.EMBEDDINGS, {}),
    ],
)
def test_the_shape_of_an_invocation_decides_what_it_is(
    body: dict[str, Any], api: Api, received: dict[str, Any]
) -> None:
    assert parse("VLLM", "/invocations", body).api is api
    assert sent("VLLM", "/invocations", body) == received


def test_usage_is_asked_for_in_an_invocation_too() -> None:
    body = sent("VLLM", "/invocations", {"messages": MESSAGES, "stream": "yes"})
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


def test_transfers_between_servers_cannot_be_asked_for_in_extra_arguments() -> None:
    extra = {"kv_transfer_params": {"a": 1}, "ec_transfer_params": {}, "mine": [1]}
    assert sent("VLLM", "/v1/completions", {"prompt": "x", "vllm_xargs": extra})["vllm_xargs"] == {"mine": [1]}
    harmless = b'{"prompt":"x","vllm_xargs":{ "mine": 1 }}'
    assert parse("VLLM", "/v1/completions", harmless).body == harmless


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/embeddings"])
def test_nothing_is_asked_for_where_nothing_can_be(path: str) -> None:
    assert "stream_options" not in sent("VLLM", path, {"stream": True})
