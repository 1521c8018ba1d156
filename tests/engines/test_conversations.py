"""Sizes of conversations in the words of OpenAI's responses and of Anthropic."""

import json
from typing import Any

import pytest

from engines.parsing import parse

IMAGE = {"type": "image", "source": {"type": "base64", "data": "A" * 5000}}
TOOLS = [{"name": "f", "input_schema": {}}]
TOOLS_BYTES = len(json.dumps(TOOLS))


def _user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def _nested(levels: int) -> Any:
    return "abc" if levels == 0 else [{"type": "tool_result", "content": _nested(levels - 1)}]


@pytest.mark.parametrize(
    ("body", "text_bytes", "media_parts"),
    [
        pytest.param({"messages": _user("hello")}, 5, 0, id="text"),
        pytest.param({"messages": _user("a"), "system": "be brief"}, 9, 0, id="system"),
        pytest.param({"messages": _user("a"), "system": [{"type": "text", "text": "bé"}]}, 4, 0, id="system parts"),
        pytest.param({"messages": _user("a"), "tools": TOOLS}, 1 + TOOLS_BYTES, 0, id="tools"),
        pytest.param({"messages": _user([IMAGE, {"type": "text", "text": "abc"}])}, 3, 1, id="image"),
        pytest.param({"messages": _user([{"type": "thinking", "thinking": "hmm"}])}, 3, 0, id="thinking"),
        pytest.param({"messages": _user([{"type": "tool_use", "input": {"a": 1}}])}, 8, 0, id="tool use"),
        pytest.param({"messages": _user([{"type": "tool_result", "content": "abcd"}])}, 4, 0, id="tool result"),
        pytest.param({"messages": _user([{"type": "tool_result", "content": [IMAGE]}])}, 0, 1, id="its image"),
        pytest.param({"messages": _user(_nested(4))}, 3, 0, id="nested"),
        pytest.param({"messages": _user(_nested(6))}, len(json.dumps(_nested(2))), 0, id="nested too deeply"),
        pytest.param({"messages": 5, "system": 5}, 0, 0, id="nonsense"),
    ],
)
@pytest.mark.parametrize("kind", ["VLLM", "SGLang", "LlamaCpp", "OpenAI"])
def test_messages_are_measured(kind: str, body: dict[str, Any], text_bytes: int, media_parts: int) -> None:
    call = parse(kind, "/v1/messages", {**body, "max_tokens": 5})
    assert (call.prompt_bytes, call.media_parts, call.sequences, call.max_tokens) == (text_bytes, media_parts, 1, 5)


@pytest.mark.parametrize(
    ("body", "text_bytes", "media_parts"),
    [
        pytest.param({"input": "hello"}, 5, 0, id="text"),
        pytest.param({"input": "a", "instructions": "be brief"}, 9, 0, id="instructions"),
        pytest.param({"input": "a", "tools": TOOLS}, 1 + TOOLS_BYTES, 0, id="tools"),
        pytest.param({"input": _user("hello")}, 5, 0, id="message"),
        pytest.param({"input": _user([{"type": "input_text", "text": "abc"}])}, 3, 0, id="part"),
        pytest.param({"input": _user([{"type": "input_image", "image_url": "data:"}])}, 0, 1, id="image"),
        pytest.param({"input": [{"type": "function_call", "arguments": "{}abc"}]}, 5, 0, id="call"),
        pytest.param({"input": [{"type": "function_call_output", "output": "abc"}]}, 3, 0, id="its output"),
        pytest.param({"input": [{"type": "reasoning", "summary": [{"text": "abc"}]}]}, 3, 0, id="reasoning"),
        pytest.param({"input": ["abc"]}, 7, 0, id="no items"),
        pytest.param({}, 0, 0, id="nothing"),
    ],
)
@pytest.mark.parametrize("kind", ["VLLM", "SGLang", "LlamaCpp", "OpenAI"])
def test_responses_are_measured(kind: str, body: dict[str, Any], text_bytes: int, media_parts: int) -> None:
    call = parse(kind, "/v1/responses", body)
    assert (call.prompt_bytes, call.media_parts, call.sequences) == (text_bytes, media_parts, 1)
