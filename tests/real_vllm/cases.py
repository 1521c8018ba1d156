"""What is asked of vLLM here, alone and through the proxy."""

from dataclasses import dataclass
from typing import Any, Final

from real_vllm.server import CONTEXT_TOKENS, MODEL

CHAT, COMPLETIONS, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"

WORDS: Final = "import the module and return a value"
_CONVERSATION: Final = {"model": MODEL, "messages": [{"role": "user", "content": WORDS}]}
_CHAT: Final = _CONVERSATION | {"max_tokens": 8, "temperature": 0, "seed": 1, "ignore_eos": True}
_TEXT: Final = {"model": MODEL, "prompt": "import os", "max_tokens": 8, "temperature": 0, "seed": 1, "ignore_eos": True}
_TWO: Final = _TEXT | {"prompt": ["import os", "def f"]}
_RESPONSES: Final = {"model": MODEL, "input": "import os", "max_output_tokens": 8, "temperature": 0}
_MESSAGES: Final = _CONVERSATION | {"max_tokens": 8, "temperature": 0}
_STREAM: Final = {"stream": True}
_USAGE: Final = _STREAM | {"stream_options": {"include_usage": True}}
_LIVE: Final = _STREAM | {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
_LIVE_ONLY: Final = _STREAM | {"stream_options": {"continuous_usage_stats": True}}
_NO_USAGE: Final = _STREAM | {"stream_options": {"include_usage": False}}
_SAMPLED: Final = {"n": 2, "temperature": 1}
_STOP: Final = {"stop": ["ri", "Copy"], "max_tokens": 60}
_SEQUENCES: Final = {"stop_sequences": _STOP["stop"], "max_tokens": 60}

_SCHEMA: Final = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
_FUNCTION: Final = {"name": "get_weather", "parameters": _SCHEMA}
_TOOLS: Final = _CHAT | {"tools": [{"type": "function", "function": _FUNCTION}], "ignore_eos": False}
_REQUIRED: Final = _TOOLS | {"tool_choice": "required", "max_tokens": 80}
_NAMED: Final = _TOOLS | {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}, "max_tokens": 80}
_MESSAGES_TOOL: Final = _MESSAGES | {
    "max_tokens": 80,
    "tools": [{"name": "get_weather", "input_schema": _SCHEMA}],
    "tool_choice": {"type": "tool", "name": "get_weather"},
}
_TURNS: Final = [
    {"role": "user", "content": "import"},
    {"role": "assistant", "content": "the module"},
    {"role": "user", "content": [{"type": "input_text", "text": "and return"}]},
]


@dataclass(frozen=True)
class Case:
    """`known`: tests/data had a recording of it, in both its forms, before. `hidden_work`: vLLM makes tokens that its
    usage does not tell. `status`: what vLLM answers."""

    name: str
    path: str
    body: Any
    known: bool = False
    hidden_work: bool = False
    status: int = 200

    @property
    def is_stream(self) -> bool:
        return isinstance(self.body, dict) and bool(self.body.get("stream"))

    @property
    def copies(self) -> int:
        """How often each prompt is sampled."""
        return int(self.body.get("n") or 1) if self.path in (CHAT, COMPLETIONS) else 1

    @property
    def sequences(self) -> int:
        """How many outputs there are, for prompts that are text."""
        prompt = self.body.get("prompt")
        return self.copies * (len(prompt) if isinstance(prompt, list) else 1)


GENERATED: Final = [
    Case("chat-plain", CHAT, _CHAT, known=True),
    Case("chat-plain-n2", CHAT, _CHAT | _SAMPLED, known=True),
    Case("chat-plain-stop", CHAT, _CHAT | _STOP, known=True),
    Case("chat-plain-logprobs", CHAT, _CHAT | {"logprobs": True, "top_logprobs": 2}, known=True),
    Case("chat-plain-lax", CHAT, _CHAT | {"max_tokens": "4", "n": "2", "temperature": 1}),
    Case("chat-plain-json", CHAT, _CHAT | {"response_format": {"type": "json_object"}, "max_tokens": 24}),
    Case("chat-plain-tool-required", CHAT, _REQUIRED, known=True),
    Case("chat-stream", CHAT, _CHAT | _STREAM, known=True),
    Case("chat-stream-usage", CHAT, _CHAT | _USAGE, known=True),
    Case("chat-stream-continuous-usage", CHAT, _CHAT | _LIVE, known=True),
    Case("chat-stream-continuous-usage-only", CHAT, _CHAT | _LIVE_ONLY),
    Case("chat-stream-usage-false", CHAT, _CHAT | _NO_USAGE),
    Case("chat-stream-options-null", CHAT, _CHAT | _STREAM | {"stream_options": None}),
    Case("chat-stream-lax", CHAT, _CHAT | {"stream": "true", "max_tokens": "4"}),
    Case("chat-stream-n2", CHAT, _CHAT | _SAMPLED | _STREAM),
    Case("chat-stream-n2-usage", CHAT, _CHAT | _SAMPLED | _USAGE),
    Case("chat-stream-max1", CHAT, _CHAT | _STREAM | {"max_tokens": 1}),
    Case("chat-stream-stop", CHAT, _CHAT | _STOP | _STREAM),
    Case("chat-stream-stop-included", CHAT, _CHAT | _STOP | _STREAM | {"include_stop_str_in_output": True}),
    Case("chat-stream-logprobs", CHAT, _CHAT | _STREAM | {"logprobs": True, "top_logprobs": 2}),
    Case("chat-stream-token-ids", CHAT, _CHAT | _STREAM | {"return_token_ids": True}),
    Case("chat-stream-echo", CHAT, _CHAT | _STREAM | {"echo": True}),
    Case("chat-stream-json", CHAT, _CHAT | _STREAM | {"response_format": {"type": "json_object"}, "max_tokens": 24}),
    Case("chat-stream-tool-required", CHAT, _REQUIRED | _STREAM),
    Case("chat-stream-tool-required-cut", CHAT, _REQUIRED | _STREAM | {"max_tokens": 5}),
    Case("chat-stream-tool-named", CHAT, _NAMED | _STREAM),
    Case("chat-stream-tool-auto", CHAT, _TOOLS | _STREAM | {"tool_choice": "auto"}),
    Case("chat-batch", "/v1/chat/completions/batch", _CHAT | {"messages": [_CHAT["messages"]] * 2}, known=True),
    Case("completions-plain", COMPLETIONS, _TEXT, known=True),
    Case("completions-plain-n2", COMPLETIONS, _TEXT | _SAMPLED, known=True),
    Case("completions-plain-best-of", COMPLETIONS, _TEXT | {"best_of": 3}, known=True),
    Case(
        "completions-plain-beam", COMPLETIONS, _TEXT | {"use_beam_search": True, "n": 3}, known=True, hidden_work=True
    ),
    Case("completions-plain-six-prompts", COMPLETIONS, _TEXT | {"prompt": list("abcdef")}, known=True),
    Case("completions-plain-two-prompts-n2", COMPLETIONS, _TWO | _SAMPLED),
    Case("completions-plain-token-prompts", COMPLETIONS, _TEXT | {"prompt": [[10, 20, 30], [40]]}),
    Case("completions-plain-echo", COMPLETIONS, _TEXT | {"echo": True}, known=True),
    Case("completions-plain-stop", COMPLETIONS, _TEXT | _STOP),
    Case("completions-stream", COMPLETIONS, _TEXT | _STREAM, known=True),
    Case("completions-stream-usage", COMPLETIONS, _TEXT | _USAGE, known=True),
    Case("completions-stream-continuous-usage", COMPLETIONS, _TEXT | _LIVE, known=True),
    Case("completions-stream-n2", COMPLETIONS, _TEXT | _SAMPLED | _STREAM),
    Case("completions-stream-two-prompts", COMPLETIONS, _TWO | _STREAM),
    Case("completions-stream-two-prompts-usage", COMPLETIONS, _TWO | _USAGE),
    Case("completions-stream-two-prompts-n2", COMPLETIONS, _TWO | _SAMPLED | _STREAM),
    Case("completions-stream-token-prompts", COMPLETIONS, _TEXT | _STREAM | {"prompt": [[10, 20, 30], [40]]}),
    Case("completions-stream-echo", COMPLETIONS, _TEXT | _STREAM | {"echo": True}),
    Case("completions-stream-logprobs", COMPLETIONS, _TEXT | _STREAM | {"logprobs": 2}),
    Case("completions-stream-stop", COMPLETIONS, _TEXT | _STOP | _STREAM),
    Case("completions-stream-max1", COMPLETIONS, _TEXT | _STREAM | {"max_tokens": 1}),
    Case("responses-plain", RESPONSES, _RESPONSES, known=True),
    Case("responses-plain-turns", RESPONSES, _RESPONSES | {"input": _TURNS, "instructions": "return a value"}),
    Case("responses-stream", RESPONSES, _RESPONSES | _STREAM, known=True),
    Case("responses-stream-turns", RESPONSES, _RESPONSES | _STREAM | {"input": _TURNS}),
    Case("messages-plain", MESSAGES, _MESSAGES, known=True),
    Case("messages-plain-stop", MESSAGES, _MESSAGES | _SEQUENCES | {"system": WORDS}),
    Case("messages-stream", MESSAGES, _MESSAGES | _STREAM, known=True),
    Case("messages-stream-stop", MESSAGES, _MESSAGES | _SEQUENCES | _STREAM),
    Case("messages-stream-tool", MESSAGES, _MESSAGES_TOOL | _STREAM, known=True),
    Case("invocations-chat", "/invocations", _CHAT),
    Case("invocations-chat-stream", "/invocations", _CHAT | _STREAM),
    Case("invocations-completions", "/invocations", _TWO),
    Case("invocations-completions-stream", "/invocations", _TWO | _STREAM),
    Case(
        "generative-scoring",
        "/generative_scoring",
        {"model": MODEL, "query": "is this right?", "items": ["a", "b"], "label_token_ids": [10, 11]},
        known=True,
    ),
]

REFUSED: Final = [
    Case("unknown model", CHAT, _CHAT | {"model": "other"}, status=404),
    Case("max_tokens 0", CHAT, _CHAT | {"max_tokens": 0}, status=400),
    Case("max_tokens -1", COMPLETIONS, _TEXT | {"max_tokens": -1}, status=400),
    Case("n 0, streamed", COMPLETIONS, _TEXT | _STREAM | {"n": 0}, status=400),
    Case("temperature -1, streamed", CHAT, _CHAT | _STREAM | {"temperature": -1}, status=400),
    Case("too long", COMPLETIONS, _TEXT | {"prompt": [7] * CONTEXT_TOKENS}, status=400),
    Case("no messages", CHAT, {"model": MODEL}, status=400),
    Case("messages a number", MESSAGES, {"model": MODEL, "messages": 1, "max_tokens": 2}, status=400),
    Case("responses without input", RESPONSES, {"model": MODEL}, status=400),
    Case("messages to an unknown model", MESSAGES, _MESSAGES | {"model": "other"}, status=404),
    Case("stream_options without stream", CHAT, _CHAT | {"stream_options": {"include_usage": True}}, status=400),
    Case("stream_options a list", CHAT, _CHAT | _STREAM | {"stream_options": []}, status=400),
    Case("beam search, streamed", COMPLETIONS, _TEXT | _STREAM | {"use_beam_search": True, "n": 2}, status=400),
    Case("embeddings of a model that writes", "/v1/embeddings", {"model": MODEL, "input": "x"}, status=404),
]

# Found out too late for a status: 200, and an event that tells the error.
REFUSED_IN_STREAM: Final = Case("one-bad-prompt-of-two", COMPLETIONS, _TEXT | _STREAM | {"prompt": [[7], [99999]]})

# Streams that are left before their end.
HUNG_UP_TOKENS: Final = 8000
_ENDLESS: Final = {"max_tokens": HUNG_UP_TOKENS, "stream": True}
HUNG_UP: Final = [
    Case("hang-up-chat", CHAT, _CHAT | _ENDLESS),
    Case("hang-up-chat-n2", CHAT, _CHAT | _SAMPLED | _ENDLESS),
    Case("hang-up-completions", COMPLETIONS, _TEXT | _ENDLESS),
    Case("hang-up-completions-two-prompts", COMPLETIONS, _TWO | _ENDLESS),
    Case("hang-up-responses", RESPONSES, _RESPONSES | _STREAM | {"max_output_tokens": HUNG_UP_TOKENS}),
    Case("hang-up-messages", MESSAGES, _MESSAGES | _ENDLESS),
]

_PAIRS: Final = {"model": MODEL, "query": "import", "documents": ["the module", "a value"]}
_TEXTS: Final = {"model": MODEL, "text_1": "import", "text_2": ["the module", "a value"]}

POOLED: Final = {
    "embed": [
        Case("embeddings", "/v1/embeddings", {"model": MODEL, "input": WORDS}),
        Case("embeddings-two", "/v1/embeddings", {"model": MODEL, "input": ["import os", "def f"]}),
        Case("embeddings-token-ids", "/v1/embeddings", {"model": MODEL, "input": [[10, 20, 30], [40]]}),
        Case("embeddings-base64", "/v1/embeddings", {"model": MODEL, "input": WORDS, "encoding_format": "base64"}),
        Case("embeddings-chat", "/v1/embeddings", _CONVERSATION),
        Case("pooling", "/pooling", {"model": MODEL, "input": ["import os", "def f"]}),
        Case("score", "/score", _TEXTS),
        Case("v1-score", "/v1/score", _TEXTS),
        Case("rerank", "/rerank", _PAIRS),
        Case("v1-rerank", "/v1/rerank", _PAIRS | {"top_n": 1}),
        Case("v2-rerank", "/v2/rerank", _PAIRS),
        Case("invocations-embeddings", "/invocations", {"model": MODEL, "input": ["import os", "def f"]}),
    ],
    "classify": [
        Case("classify", "/classify", {"model": MODEL, "input": ["import os", "def f"]}),
        Case("classify-one", "/classify", {"model": MODEL, "input": WORDS}),
    ],
}

# Identified or free: relayed, not charged.
UNCHARGED: Final = [
    ("POST", "/tokenize", {"model": MODEL, "prompt": WORDS}),
    ("POST", "/tokenize", _CONVERSATION | {"return_token_strs": True}),
    ("POST", "/detokenize", {"model": MODEL, "tokens": [10, 20]}),
    ("POST", "/v1/messages/count_tokens", _CONVERSATION),
    ("POST", "/v1/chat/completions/render", _CONVERSATION),
    ("GET", "/v1/models", None),
    ("GET", "/health", None),
    ("GET", "/ping", None),
    ("GET", "/version", None),
    ("GET", "/load", None),
    ("GET", "/openapi.json", None),
]
