"""Replies of routes that nobody recorded, written as the engine's source or its documentation has them.

SGLang needs a GPU, embeddings and rankings another model than the recorded ones. Each stand-in is an exchange like a
recorded one: `asked` is what the engine sends for the request that the proxy makes of the client's, `wanted` what it
would send to the client alone.
"""

import json
from dataclasses import dataclass
from typing import Any

from metering.recorded import Exchange

SSE = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class StandIn:
    request: dict[str, Any]
    asked: bytes
    wanted: bytes
    prompt: int | None
    output: int
    streamed: bool = False

    def exchange(self, engine: str, path: str) -> Exchange:
        headers = SSE if self.streamed else JSON
        return Exchange(engine, path, json.dumps(self.request).encode(), 200, headers, (self.asked,))


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def event(value: Any, name: str = "") -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + compact(value) + b"\n\n"


def _plain(request: dict[str, Any], reply: Any, prompt: int | None, output: int) -> StandIn:
    return StandIn(request, compact(reply), compact(reply), prompt, output)


def _stream(request: dict[str, Any], asked: list[bytes], wanted: list[bytes], prompt: int, output: int) -> StandIn:
    return StandIn(request | {"stream": True}, b"".join(asked), b"".join(wanted), prompt, output, streamed=True)


MESSAGES = [{"role": "user", "content": "Say hi."}]


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": None,
        "reasoning_tokens": 0,
        "completion_tokens_details": None,
    }


def _sglang_choice(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish, "matched_stop": None}


def _sglang_chat(delta: dict[str, Any], *, finish: str | None = None, **usage: Any) -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return event({**chunk, "choices": [_sglang_choice(delta, finish)], **usage})


def _sglang_chat_stream() -> StandIn:
    role = {"reasoning_content": None, "role": "assistant", "content": ""}
    words = [{"reasoning_content": None, "content": "Hi"}, {"reasoning_content": None, "content": " there, you"}]
    call = {"id": "call_1", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    tool = {"role": None, "content": None, "reasoning_content": None, "tool_calls": [call]}
    end = _sglang_chat({"reasoning_content": None}, finish="stop")
    tail = event({"id": "c", "object": "x", "created": 1, "model": "m", "choices": [], "usage": _usage(7, 9)})
    asked = [
        _sglang_chat(role, usage=_usage(7, 0)),
        _sglang_chat(words[0], usage=_usage(7, 1)),
        _sglang_chat(words[1], usage=_usage(7, 4)),
        _sglang_chat(tool, usage=_usage(7, 8)),
        end,
        tail,
        DONE,
    ]
    # The chunks of its tool parser are written with every field, the others without those that are not set.
    wanted = [_sglang_chat(role), *(_sglang_chat(each) for each in words), _sglang_chat(tool, usage=None), end, DONE]
    return _stream({"messages": MESSAGES}, asked, wanted, 7, 9)


def _sglang_text(text: str, index: int, *, finish: str | None = None, usage: Any = None) -> bytes:
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish, "matched_stop": None}
    chunk = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return event(chunk)


def _sglang_completions_stream() -> StandIn:
    steps = [("a", 0, None, 1), ("b", 1, None, 1), ("cd", 0, "length", 3), ("", 1, "stop", 2)]
    asked = [_sglang_text(text, index, finish=end, usage=_usage(7, count)) for text, index, end, count in steps]
    wanted = [_sglang_text(text, index, finish=end) for text, index, end, _ in steps]
    tail = event({"id": "c", "object": "x", "created": 1, "model": "m", "choices": [], "usage": _usage(7, 5)})
    return _stream({"prompt": "x", "n": 2}, [*asked, tail, DONE], [*wanted, DONE], 14, 5)


def _sglang_native(text: str, count: int, *, index: int | None = None, finish: Any = None) -> dict[str, Any]:
    meta = {"id": "r", "finish_reason": finish, "prompt_tokens": 7, "completion_tokens": count, "cached_tokens": 2}
    own_index = {} if index is None else {"index": index}
    return {"text": text, "output_ids": [1] * count, "meta_info": meta, **own_index}


def _sglang_native_stream() -> StandIn:
    end = {"type": "length", "length": 4}
    results = [
        _sglang_native("a", 1, index=0),
        _sglang_native("b", 1, index=1),
        _sglang_native("abcd", 4, index=0, finish=end),
        _sglang_native("bcd", 3, index=1, finish={"type": "stop"}),
    ]
    events = [*(event(result) for result in results), DONE]
    request = {"text": ["x", "y"], "sampling_params": {"max_new_tokens": 4}}
    return _stream(request, events, events, 14, 7)


def _openai_chunk(delta: dict[str, Any], finish: str | None = None, **usage: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "created": 1, "choices": [choice], **usage})


def _openai_chat_stream() -> StandIn:
    parts = [({"role": "assistant", "content": ""}, None), ({"content": "Hi"}, None), ({}, "stop")]
    asked = [_openai_chunk(delta, finish, usage=None) for delta, finish in parts]
    tail = event({"id": "c", "choices": [], "usage": _usage(7, 3)})
    wanted = [_openai_chunk(delta, finish) for delta, finish in parts]
    return _stream({"messages": MESSAGES}, [*asked, tail, DONE], [*wanted, DONE], 7, 3)


def _openai_text_stream() -> StandIn:
    def chunk(text: str, **usage: Any) -> bytes:
        return event({"id": "c", "choices": [{"index": 0, "text": text, "finish_reason": None}], **usage})

    asked = [chunk("a", usage=None), chunk("b", usage=None), event({"choices": [], "usage": _usage(2, 3)}), DONE]
    return _stream({"prompt": "x"}, asked, [chunk("a"), chunk("b"), DONE], 2, 3)


def _responses(status: str, usage: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": status, "output": [], "usage": usage}


def _responses_stream() -> StandIn:
    usage = {"input_tokens": 7, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 5, "total_tokens": 12}
    steps = [
        ("response.created", {"response": _responses("in_progress", None)}),
        ("response.reasoning_text.delta", {"delta": "Hm"}),
        ("response.output_text.delta", {"delta": "Hi"}),
        ("response.function_call_arguments.delta", {"delta": "{}"}),
        ("response.incomplete", {"response": _responses("incomplete", usage)}),
    ]
    events = [event({"type": name, **rest}, name) for name, rest in steps]
    return _stream({"input": "x"}, events, events, 7, 5)


def _messages_stream() -> StandIn:
    start = {"input_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": None, "output_tokens": 1}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {"message": {"id": "m", "type": "message", "content": [], "usage": start}}),
        ("ping", {}),
        ("content_block_start", {"index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
        ("content_block_delta", {"index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}}),
        ("content_block_delta", {"index": 1, "delta": {"type": "text_delta", "text": "Hi"}}),
        ("content_block_delta", {"index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
        ("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 6}}),
        ("message_stop", {}),
    ]
    events = [event({"type": name, **rest}, name) for name, rest in steps]
    return _stream({"messages": MESSAGES, "max_tokens": 9}, events, events, 7, 6)


_EMBEDDINGS = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}], "model": "m"}
_RANKED = {"model": "m", "results": [{"index": 0, "relevance_score": 0.9}, {"index": 1, "relevance_score": 0.1}]}
_PAIRS = {"query": "x", "documents": ["a", "b"]}

STAND_INS = {
    "embeddings": _plain({"input": "x"}, {**_EMBEDDINGS, "usage": {"prompt_tokens": 7, "total_tokens": 7}}, 7, 0),
    "embeddings of two": _plain(
        {"input": ["x", "y"]}, {**_EMBEDDINGS, "usage": {"prompt_tokens": 9, "total_tokens": 9}}, 9, 0
    ),
    "llama.cpp embedding": _plain({"content": "x"}, [{"index": 0, "embedding": [[0.5, -0.25]]}], None, 0),
    "rerank": _plain(_PAIRS, {**_RANKED, "usage": {"prompt_tokens": 11, "total_tokens": 11}}, 11, 0),
    "ranked without usage": _plain(_PAIRS, [{"index": 0, "score": 0.9}, {"index": 1, "score": 0.1}], None, 0),
    "score": _plain(
        {"text_1": "x", "text_2": ["a", "b"]},
        {"object": "list", "data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8, "completion_tokens": 0}},
        8,
        0,
    ),
    "sglang chat": _sglang_chat_stream(),
    "sglang chat plain": _plain(
        {"messages": MESSAGES}, {"choices": [{"index": 0, "message": {"content": "Hi"}}], "usage": _usage(7, 3)}, 7, 3
    ),
    "sglang completions": _sglang_completions_stream(),
    "sglang completions plain": _plain({"prompt": "x", "n": 2}, {"choices": [], "usage": _usage(7, 5)}, 14, 5),
    "sglang native": _sglang_native_stream(),
    "sglang native plain": _plain({"text": "x"}, _sglang_native("abc", 3, finish={"type": "stop"}), 7, 3),
    "openai chat": _openai_chat_stream(),
    "openai completions": _openai_text_stream(),
    "responses": _responses_stream(),
    "responses plain": _plain(
        {"input": "x"}, _responses("completed", {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}), 7, 5
    ),
    "messages": _messages_stream(),
    "messages plain": _plain(
        {"messages": MESSAGES, "max_tokens": 9},
        {"type": "message", "usage": {"input_tokens": 7, "output_tokens": 6}},
        7,
        6,
    ),
}
