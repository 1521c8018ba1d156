"""Sizes of requests before any engine has seen them, read as the engine will read them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.parsing import parse
from examples import at_most
from fairqueue_proxy.engines.fields import MAX_COPIES, MAX_MODEL_BYTES, MAX_TOKENS

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
TOOLS_BYTES = len(json.dumps(TOOLS))


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [("hello", 5), ("é日😀", 9), ('a"\\\n', 4), ("", 0), (5, 0), (None, 0), (["x"], 0)],
)
def test_native_prompts_are_measured_in_utf8(inputs: Any, expected: int) -> None:
    body = {"inputs": inputs}
    assert parse("TGI", "/generate", body).prompt_bytes == expected
    assert parse("TGI", "/generate", json.dumps(body, ensure_ascii=False).encode()).prompt_bytes == expected


@pytest.mark.parametrize(
    ("body", "expected_bytes", "media_parts"),
    [
        pytest.param({"messages": [{"role": "user", "content": "hello"}]}, 5, 0, id="text"),
        pytest.param({"messages": [{"content": "a"}, {"content": "é"}, {"content": None}, {}]}, 3, 0, id="several"),
        pytest.param({"messages": [{"content": [{"type": "text", "text": "abc"}]}]}, 3, 0, id="text part"),
        pytest.param({"messages": [{"content": [IMAGE, {"type": "text", "text": "abc"}, IMAGE]}]}, 3, 2, id="images"),
        pytest.param({"messages": [{"content": "a"}], "tools": TOOLS}, 1 + TOOLS_BYTES, 0, id="tools"),
        pytest.param({"messages": [{"content": None, "tool_calls": TOOLS}]}, TOOLS_BYTES, 0, id="tool calls"),
        pytest.param({"messages": [{"content": "a"}], "tools": None}, 1, 0, id="tools null"),
        pytest.param({"messages": "hello"}, 0, 0, id="no list"),
        pytest.param({"messages": ["hello"]}, 9, 0, id="strings"),
        pytest.param({"messages": []}, 0, 0, id="empty"),
        pytest.param({}, 0, 0, id="absent"),
    ],
)
@pytest.mark.parametrize("kind", ["TGI", "LlamaCpp", "OpenAI", "VLLM", "SGLang"])
def test_chats_are_measured(kind: str, body: dict[str, Any], expected_bytes: int, media_parts: int) -> None:
    call = parse(kind, "/v1/chat/completions", body)
    assert (call.prompt_bytes, call.media_parts, call.sequences) == (expected_bytes, media_parts, 1)
    assert call.prompt_tokens is None


@pytest.mark.parametrize(
    ("prompt", "expected_bytes", "tokens", "prompts"),
    [
        pytest.param("abc", 3, None, 1, id="text"),
        pytest.param(["abc", "é"], 5, None, 2, id="texts"),
        pytest.param([1, 2, 3], 0, 3, 1, id="token ids"),
        pytest.param([[1, 2], [3]], 0, 3, 2, id="lists of token ids"),
        pytest.param([[1, 2], "abc"], 3, None, 2, id="token ids and text apart"),
        pytest.param([1, "abc", 2], 3, None, 1, id="token ids and text in one"),
        pytest.param([], 0, None, 1, id="empty"),
        pytest.param({"prompt_string": "abc"}, 24, None, 1, id="object"),
        pytest.param([True, None], 0, None, 2, id="nonsense"),
        pytest.param(5, 0, None, 1, id="number"),
    ],
)
@pytest.mark.parametrize("kind", ["LlamaCpp", "OpenAI", "VLLM", "SGLang"])
def test_completion_prompts_are_counted(
    kind: str, prompt: Any, expected_bytes: int, tokens: int | None, prompts: int
) -> None:
    call = parse(kind, "/v1/completions", {"prompt": prompt})
    assert (call.prompt_bytes, call.prompt_tokens, call.sequences) == (expected_bytes, tokens, prompts)
    doubled = parse(kind, "/v1/completions", {"prompt": prompt, "n": 2})
    assert doubled.prompt_bytes == expected_bytes * 2
    assert doubled.prompt_tokens == (None if tokens is None else tokens * 2)
    assert doubled.sequences == prompts * 2


@pytest.mark.parametrize(
    ("kind", "path", "body", "expected"),
    [
        ("TGI", "/generate", {"parameters": {"best_of": 2}}, 2),
        ("TGI", "/", {"parameters": {"best_of": 2}}, 2),
        ("TGI", "/generate_stream", {"parameters": {"best_of": 2}}, 1),
        ("TGI", "/v1/chat/completions", {"n": 5}, 1),
        ("TGI", "/v1/completions", {"prompt": ["a", "b"], "n": 5, "best_of": 3}, 2),
        ("LlamaCpp", "/v1/completions", {"prompt": ["a", "b"], "n": 2, "best_of": 3}, 4),
        ("LlamaCpp", "/v1/completions", {"n": "2"}, 1),
        ("OpenAI", "/v1/completions", {"n": 2, "best_of": 3}, 3),
        ("OpenAI", "/v1/completions", {"n": "2"}, 2),
        ("OpenAI", "/v1/completions", {"n": 1_000_000}, MAX_COPIES),
        ("OpenAI", "/v1/completions", {"n": 10**400}, 1),
        ("OpenAI", "/v1/completions", {"n": -3, "best_of": None}, 1),
        ("OpenAI", "/v1/completions", {"n": "nan"}, 1),
        ("OpenAI", "/v1/completions", {"prompt": ["a"] * 1000}, 1000),
    ],
)
def test_sequences_are_counted_as_the_engine_makes_them(
    kind: str, path: str, body: dict[str, Any], expected: int
) -> None:
    assert parse(kind, path, body).sequences == expected


@pytest.mark.parametrize(("n", "prompt_tokens"), [(1, 7), (2, 14), ("2", 14)])
def test_the_meter_of_another_engine_counts_a_prompt_as_often_as_it_is_sampled(n: Any, prompt_tokens: int) -> None:
    meter = parse("OpenAI", "/v1/completions", {"prompt": "x", "n": n, "best_of": 3}).meter()
    meter.head(200, {})
    meter.body(b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":1}}')
    assert meter.usage.prompt_tokens == prompt_tokens


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"prompt":"\xff\xff"}', 2, id="bytes that are no UTF-8"),
        pytest.param(b'{"prompt":"\xff\\n"}', 3, id="bytes that are no UTF-8, escaped"),
        pytest.param(b'{"prompt":["\xff",["b"]]}', 6, id="a text that is no UTF-8 in a list"),
        pytest.param(b'{"prompt":[["a"],["b"]]}', 10, id="lists of texts in a list"),
        pytest.param(b'{"messages":[{"content":["a"]}]}', 5, id="parts that are no objects"),
        pytest.param(b'{"messages":[{"content":{"a":1}}]}', 0, id="content that is an object"),
    ],
)
def test_odd_prompts_are_measured_by_their_json(body: bytes, expected: int) -> None:
    path = "/v1/completions" if b"prompt" in body else "/v1/chat/completions"
    assert parse("OpenAI", path, body).prompt_bytes == expected


NO_NUMBERS = [(None, None), ([], None), ({}, None), (True, None), ("x", None), ("nan", None)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (1024, 1024),
        (1025, 2048),
        (1500, 2048),
        (2048, 2048),
        (2049, 3072),
        (0, 1),
        (-1, 1),
        (2**32, MAX_TOKENS),
        ("5", None),
        *NO_NUMBERS,
    ],
)
def test_tgi_makes_long_outputs_in_whole_pieces(value: Any, expected: int | None) -> None:
    assert parse("TGI", "/generate", {"parameters": {"max_new_tokens": value}}).max_tokens == expected
    assert parse("TGI", "/v1/completions", {"max_tokens": value}).max_tokens == expected
    assert parse("TGI", "/v1/chat/completions", {"max_completion_tokens": value}).max_tokens == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 1), (-1, None), (-2, None), (1, 1), (2.9, 2), (10**9, MAX_TOKENS), ("5", None), *NO_NUMBERS],
)
def test_llamacpp_reads_limits_in_its_own_way(value: Any, expected: int | None) -> None:
    for name in ("max_tokens", "n_predict", "max_completion_tokens"):
        assert parse("LlamaCpp", "/v1/chat/completions", {name: value}).max_tokens == expected
        assert parse("LlamaCpp", "/completion", {name: value}).max_tokens == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 1), (-1, 1), (16, 16), ("16", 16), (16.0, 16), (10**9, MAX_TOKENS), *NO_NUMBERS]
)
def test_other_engines_read_limits_leniently(value: Any, expected: int | None) -> None:
    assert parse("OpenAI", "/v1/completions", {"max_tokens": value}).max_tokens == expected


@pytest.mark.parametrize("kind", ["TGI", "LlamaCpp", "OpenAI"])
def test_the_newer_name_of_the_limit_wins(kind: str) -> None:
    body = {"max_tokens": 9, "max_completion_tokens": 3}
    assert parse(kind, "/v1/chat/completions", body).max_tokens == 3
    assert parse(kind, "/v1/chat/completions", {**body, "max_completion_tokens": None}).max_tokens == 9


def test_of_two_older_names_the_one_that_allows_more_counts() -> None:
    assert parse("LlamaCpp", "/completion", {"max_tokens": 9, "n_predict": 3}).max_tokens == 9
    assert parse("LlamaCpp", "/completion", {"max_tokens": 9, "n_predict": -1}).max_tokens is None
    assert parse("LlamaCpp", "/completion", {"max_tokens": None, "n_predict": 2}).max_tokens == 2


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    [
        "inputs",
        "parameters",
        "messages",
        "prompt",
        "tools",
        "stream",
        "stream_options",
        "n",
        "best_of",
        "max_tokens",
        "n_predict",
        "timings_per_token",
        "documents",
        "query",
        "input",
        "system",
        "instructions",
        "text",
        "input_ids",
        "sampling_params",
        "image_data",
        "input_extra",
        "user",
        "metadata",
        "vllm_xargs",
        "prompt_embeds",
        "response_fields",
    ]
)
ROUTES = [
    ("TGI", "/"),
    ("TGI", "/generate_stream"),
    ("TGI", "/v1/chat/completions"),
    ("TGI", "/v1/completions"),
    ("LlamaCpp", "/completion"),
    ("LlamaCpp", "/v1/chat/completions"),
    ("LlamaCpp", "/v1/completions"),
    ("LlamaCpp", "/v1/responses"),
    ("LlamaCpp", "/infill"),
    ("VLLM", "/v1/chat/completions"),
    ("VLLM", "/v1/completions"),
    ("VLLM", "/v1/embeddings"),
    ("SGLang", "/v1/chat/completions"),
    ("SGLang", "/v1/messages"),
    ("SGLang", "/generate"),
    ("OpenAI", "/v1/chat/completions"),
    ("OpenAI", "/v1/completions"),
    ("OpenAI", "/v1/unlisted"),
]


@pytest.mark.parametrize(("kind", "path"), ROUTES)
@at_most(8)
@given(body=st.dictionaries(names, values, max_size=5))
def test_no_body_of_any_types_raises_or_has_an_absurd_size(kind: str, path: str, body: dict[str, Any]) -> None:
    call = parse(kind, path, body)
    assert call.prompt_bytes >= 0
    assert call.media_parts >= 0
    assert 1 <= call.sequences <= MAX_COPIES * 3
    assert call.max_tokens is None or 0 <= call.max_tokens <= MAX_TOKENS
    assert call.meter().event(b":\n\n") == b":\n\n"
    received = json.loads(call.body)
    for name in body.keys() - {"parameters", "stream_options", "timings_per_token", "response_fields"}:
        assert received[name] == body[name]


@pytest.mark.parametrize(
    ("kind", "path", "body", "model"),
    [
        pytest.param("OpenAI", "/v1/chat/completions", {"model": "small"}, "small", id="chat"),
        pytest.param("OpenAI", "/v1/embeddings", {"model": "small", "input": "x"}, "small", id="embeddings"),
        pytest.param("OpenAI", "/v1/messages", {"model": "small", "messages": []}, "small", id="messages"),
        pytest.param(
            "OpenAI", "/v1/responses", {"model": "small", "input": "x", "store": False}, "small", id="responses"
        ),
        pytest.param("OpenAI", "/v1/anything", {"model": "small"}, "small", id="a route that nobody knows"),
        pytest.param("VLLM", "/v1/completions", {"model": "small"}, "small", id="vLLM"),
        pytest.param("TGI", "/generate", {"inputs": "x"}, "", id="none"),
        pytest.param("TGI", "/v1/chat/completions", {"model": 7}, "", id="no name"),
        pytest.param("TGI", "/v1/chat/completions", {"model": "x" * MAX_MODEL_BYTES}, "", id="absurdly long"),
    ],
)
def test_the_model_is_what_the_body_names(kind: str, path: str, body: dict[str, Any], model: str) -> None:
    assert parse(kind, path, body).model == model
