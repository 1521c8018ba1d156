"""The requests: a stream that does not end by itself, and a short one of 300 bytes."""

import json
from dataclasses import dataclass

__all__ = ["OPENAI", "TGI", "Api"]

SHORT_BYTES = 300
# More than any stream is long here.
MOST_TOKENS = 1_000_000
PROMPT = "Say it once more, and then again."


@dataclass(frozen=True, slots=True)
class Api:
    """Paths and bodies of one kind of engine."""

    stream_path: str
    stream_body: bytes
    short_path: str
    short_body: bytes


def _padded(body: dict[str, object], prompt: str) -> bytes:
    """JSON of so many bytes: the prompt is repeated until it is."""
    text = json.dumps(body)
    missing = SHORT_BYTES - len(text)
    return text.replace(prompt, prompt + " " + (prompt * SHORT_BYTES)[: missing - 1]).encode()


def _chat(streamed: bool, tokens: int) -> dict[str, object]:
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": "m", "messages": messages, "max_tokens": tokens, "stream": streamed}


def _tgi(tokens: int) -> dict[str, object]:
    return {"inputs": PROMPT, "parameters": {"max_new_tokens": tokens}}


TGI = Api(
    stream_path="/generate_stream",
    stream_body=json.dumps(_tgi(MOST_TOKENS)).encode(),
    short_path="/generate",
    short_body=_padded(_tgi(16), PROMPT),
)
OPENAI = Api(
    stream_path="/v1/chat/completions",
    stream_body=json.dumps(_chat(True, MOST_TOKENS)).encode(),
    short_path="/v1/chat/completions",
    short_body=_padded(_chat(False, 16), PROMPT),
)
