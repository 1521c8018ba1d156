"""The user whom a client names."""

from typing import Any

import pytest

from engines.parsing import parse, sent


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("alice", "alice"),
        ("é" * 256, "é" * 256),
        ("x" * 257, None),
        ("x" * 100_000, None),
        ("", None),
        (5, None),
        (None, None),
        ({"id": "alice"}, None),
    ],
)
@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("TGI", "/v1/chat/completions"),
        ("VLLM", "/v1/completions"),
        ("VLLM", "/v1/responses"),
        ("VLLM", "/v1/embeddings"),
        ("SGLang", "/v1/chat/completions"),
        ("LlamaCpp", "/v1/chat/completions"),
        ("OpenAI", "/v1/chat/completions"),
    ],
)
def test_openais_field_names_the_user_and_reaches_the_engine(kind: str, path: str, user: Any, expected: Any) -> None:
    assert parse(kind, path, {"user": user}).user == expected
    assert sent(kind, path, {"user": user})["user"] == user


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [({"user_id": "alice"}, "alice"), ({"user_id": 5}, None), ({}, None), ("x", None), (None, None)],
)
def test_anthropics_metadata_name_the_user(metadata: Any, expected: Any) -> None:
    assert parse("VLLM", "/v1/messages", {"metadata": metadata}).user == expected


def test_nobody_is_named_where_nothing_is_said() -> None:
    assert parse("VLLM", "/v1/completions", {}).user is None
    assert parse("TGI", "/generate", {"inputs": "x"}).user is None
