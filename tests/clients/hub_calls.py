"""huggingface_hub's client as its users call it: text generation on TGI, chat everywhere, sync and async."""

import asyncio
import json
from functools import partial
from typing import Any

from huggingface_hub import AsyncInferenceClient, InferenceClient, close_session, get_session

from clients.attempts import MODEL, TOKENS, Function, Gathered, Said, plain

settings: dict[str, Any] = {}
"""What tests set in place of the defaults."""


def _dump(answer: Any) -> Any:
    # Its data classes are dictionaries as well.
    return json.loads(json.dumps(answer))


def _chat(prompt: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], "model": MODEL, "max_tokens": TOKENS}


def _chat_said(reply: Any) -> Said:
    return Said(reply.choices[0].message.content, plain(_dump(reply.usage)), plain(_dump(reply)))


def _chat_chunks() -> Gathered:
    return Gathered(
        lambda chunk: (chunk.choices[0].delta.content or "") if chunk.choices else "",
        lambda chunk: chunk.usage,
        "content",
        dump=_dump,
    )


def _generation_said(reply: Any) -> Said:
    if isinstance(reply, str):
        return Said(reply, None, reply)
    return Said(reply.generated_text, reply.details.generated_tokens, plain(_dump(reply)))


def _generation_chunks() -> Gathered:
    return Gathered(
        lambda chunk: chunk if isinstance(chunk, str) else "" if chunk.token.special else chunk.token.text,
        lambda chunk: None if isinstance(chunk, str) else chunk.details,
        dump=_dump,
    )


def generate(url: str, key: str, prompt: str, **options: Any) -> Said:
    reply: Any = InferenceClient(url, token=key, **settings).text_generation(prompt, max_new_tokens=TOKENS, **options)
    return _generation_said(reply)


def generate_stream(url: str, key: str, prompt: str, **options: Any) -> Said:
    asking = InferenceClient(url, token=key, **settings)
    stream: Any = asking.text_generation(prompt, max_new_tokens=TOKENS, stream=True, **options)
    return _generation_chunks().all(stream)


def generate_async(url: str, key: str, prompt: str, **options: Any) -> Said:
    async def ask() -> Said:
        async with AsyncInferenceClient(url, token=key, **settings) as asking:
            reply: Any = await asking.text_generation(prompt, max_new_tokens=TOKENS, **options)
        return _generation_said(reply)

    return asyncio.run(ask())


def generate_stream_async(url: str, key: str, prompt: str, **options: Any) -> Said:
    async def ask() -> Said:
        async with AsyncInferenceClient(url, token=key, **settings) as asking:
            stream: Any = await asking.text_generation(prompt, max_new_tokens=TOKENS, stream=True, **options)
            return await _generation_chunks().all_async(stream)

    return asyncio.run(ask())


def chat(url: str, key: str, prompt: str, **options: Any) -> Said:
    asking = InferenceClient(base_url=url, api_key=key, **settings)
    return _chat_said(asking.chat_completion(**(_chat(prompt) | options)))


def chat_stream(url: str, key: str, prompt: str, **options: Any) -> Said:
    asking = InferenceClient(base_url=url, api_key=key, **settings)
    stream: Any = asking.chat_completion(**(_chat(prompt) | options), stream=True)
    return _chat_chunks().all(stream)


def chat_async(url: str, key: str, prompt: str) -> Said:
    async def ask() -> Said:
        async with AsyncInferenceClient(base_url=url, api_key=key, **settings) as asking:
            return _chat_said(await asking.chat_completion(**_chat(prompt)))

    return asyncio.run(ask())


def chat_stream_async(url: str, key: str, prompt: str) -> Said:
    async def ask() -> Said:
        async with AsyncInferenceClient(base_url=url, api_key=key, **settings) as asking:
            stream: Any = await asking.chat_completion(**_chat(prompt), stream=True)
            return await _chat_chunks().all_async(stream)

    return asyncio.run(ask())


def defaults(url: str, key: str, prompt: str) -> Said:
    return Said("", None, [InferenceClient(url).timeout, get_session().timeout.read])


def close_clients() -> None:
    """Closes the connections that the library keeps."""
    close_session()


CALLS: dict[str, Function] = {
    "generation": generate,
    "generation with details": partial(generate, details=True),
    "generation stream": generate_stream,
    "generation stream with details": partial(generate_stream, details=True),
    "async generation": generate_async,
    "async generation stream": generate_stream_async,
    "chat": chat,
    "chat stream": chat_stream,
    "chat stream with usage": partial(chat_stream, stream_options={"include_usage": True}),
    "async chat": chat_async,
    "async chat stream": chat_stream_async,
    "defaults": defaults,
}
