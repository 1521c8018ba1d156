"""text-generation's client as its users call it. It pins an old huggingface-hub: runs in an environment of its own."""

import asyncio
import json
from functools import partial
from typing import Any

from text_generation import AsyncClient, Client
from text_generation.types import Message

from clients.attempts import TOKENS, Function, Gathered, Said, plain

settings: dict[str, Any] = {}
"""What tests set in place of the defaults."""


def _dump(answer: Any) -> Any:
    return json.loads(answer.json())


def _client(kind: Any, url: str, key: str) -> Any:
    return kind(url, headers={"Authorization": f"Bearer {key}"}, **settings)


def _chat(prompt: str) -> dict[str, Any]:
    return {"messages": [Message(role="user", content=prompt)], "max_tokens": TOKENS}


def _generation_said(reply: Any) -> Said:
    return Said(reply.generated_text, reply.details.generated_tokens, plain(_dump(reply)))


def _chat_said(reply: Any) -> Said:
    whole = plain(_dump(reply))
    return Said(reply.choices[0].message.content, whole["usage"], whole)


def _tokens() -> Gathered:
    return Gathered(
        lambda event: "" if event.token.special else event.token.text,
        lambda event: event.details,
        dump=_dump,
    )


def _chunks() -> Gathered:
    return Gathered(lambda chunk: chunk.choices[0].delta.content, lambda chunk: None, dump=_dump)


def generate(url: str, key: str, prompt: str) -> Said:
    return _generation_said(_client(Client, url, key).generate(prompt, max_new_tokens=TOKENS))


def generate_stream(url: str, key: str, prompt: str) -> Said:
    return _tokens().all(_client(Client, url, key).generate_stream(prompt, max_new_tokens=TOKENS))


def chat(url: str, key: str, prompt: str) -> Said:
    return _chat_said(_client(Client, url, key).chat(**_chat(prompt)))


def chat_stream(url: str, key: str, prompt: str) -> Said:
    return _chunks().all(_client(Client, url, key).chat(**_chat(prompt), stream=True))


def run_async(function: Any, url: str, key: str, prompt: str) -> Said:
    said: Said = asyncio.run(function(_client(AsyncClient, url, key), prompt))
    return said


async def generate_async(client: Any, prompt: str) -> Said:
    return _generation_said(await client.generate(prompt, max_new_tokens=TOKENS))


async def generate_stream_async(client: Any, prompt: str) -> Said:
    return await _tokens().all_async(client.generate_stream(prompt, max_new_tokens=TOKENS))


async def chat_async(client: Any, prompt: str) -> Said:
    return _chat_said(await client.chat(**_chat(prompt)))


async def chat_stream_async(client: Any, prompt: str) -> Said:
    return await _chunks().all_async(await client.chat(**_chat(prompt), stream=True))


def defaults(url: str, key: str, prompt: str) -> Said:
    whole = [Client(url).timeout, AsyncClient(url).timeout.total]
    return Said("", None, whole)


CALLS: dict[str, Function] = {
    "generate": generate,
    "generate stream": generate_stream,
    "chat": chat,
    "chat stream": chat_stream,
    "async generate": partial(run_async, generate_async),
    "async generate stream": partial(run_async, generate_stream_async),
    "async chat": partial(run_async, chat_async),
    "async chat stream": partial(run_async, chat_stream_async),
    "defaults": defaults,
}


def close_clients() -> None:
    """They keep nothing open."""
