"""Routes with input and no output: each input and each pair is a request."""

from typing import Any

import pytest

from engines.parsing import parse


@pytest.mark.parametrize(
    ("body", "text_bytes", "tokens", "sequences"),
    [
        pytest.param({"input": "abc"}, 3, None, 1, id="text"),
        pytest.param({"input": ["abc", "é"]}, 5, None, 2, id="texts"),
        pytest.param({"input": [1, 2, 3]}, 0, 3, 1, id="token ids"),
        pytest.param({"input": [[1, 2], [3]]}, 0, 3, 2, id="lists of token ids"),
        pytest.param({"content": "abc"}, 3, None, 1, id="llama.cpp's name"),
        pytest.param({"prompt": "abc"}, 3, None, 1, id="another name"),
        pytest.param({"messages": [{"content": "abc"}]}, 3, None, 1, id="a conversation"),
        pytest.param({"query": "ab", "documents": ["c", "de", "f"]}, 10, None, 3, id="rerank"),
        pytest.param({"text_1": ["a", "b"], "text_2": ["c", "d"]}, 4, None, 2, id="pairs"),
        pytest.param({"text_1": "a", "text_2": "b"}, 2, None, 1, id="one pair"),
        pytest.param({"documents": ["c"]}, 1, None, 1, id="no query"),
        pytest.param({"query": "ab", "documents": []}, 2, None, 1, id="no documents"),
        pytest.param({"query": "a", "items": [{"text": "x"}]}, 14, None, 1, id="an object"),
        pytest.param({}, 0, None, 1, id="nothing"),
    ],
)
@pytest.mark.parametrize(("kind", "path"), [("VLLM", "/pooling"), ("LlamaCpp", "/v1/rerank"), ("SGLang", "/v1/score")])
def test_inputs_are_measured(
    kind: str, path: str, body: dict[str, Any], text_bytes: int, tokens: int | None, sequences: int
) -> None:
    call = parse(kind, path, body)
    assert (call.prompt_bytes, call.prompt_tokens, call.sequences) == (text_bytes, tokens, sequences)
    assert (call.max_tokens, call.stream) == (0, False)
