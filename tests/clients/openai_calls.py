"""OpenAI's own client as its users call it: plain and streamed, sync and async, on each of the routes that it has."""

import asyncio
from functools import partial
from typing import Any

from openai import AsyncOpenAI, OpenAI, Timeout

from clients.attempts import MODEL, TOKENS, Function, Gathered, Said, plain

settings: dict[str, Any] = {}
"""What tests set in place of the defaults."""

_kept: list[OpenAI] = []


def client(url: str, key: str) -> OpenAI:
    """The one that there is, with its connections, turned to an address: each of its own would read all certificates
    that the system trusts."""
    if not _kept:
        _kept.append(OpenAI(base_url=f"{url}/v1", api_key=key))
    return _kept[0].with_options(base_url=f"{url}/v1", api_key=key, **settings)


def close_clients() -> None:
    """Closes the connections that it keeps."""
    for kept in _kept:
        kept.close()


def _dump(model: Any) -> Any:
    return model.model_dump()


def _chat(prompt: str) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": TOKENS}


def _completion(prompt: str) -> dict[str, Any]:
    return {"model": MODEL, "prompt": prompt, "max_tokens": TOKENS}


def _response(prompt: str) -> dict[str, Any]:
    return {"model": MODEL, "input": prompt, "max_output_tokens": TOKENS}


def _said(text: str | None, reply: Any) -> Said:
    return Said(text or "", plain(_dump(reply.usage)), plain(_dump(reply)))


def _chat_chunks() -> Gathered:
    return Gathered(
        lambda chunk: (chunk.choices[0].delta.content or "") if chunk.choices else "",
        lambda chunk: chunk.usage,
        "content",
        dump=_dump,
    )


def _completion_chunks() -> Gathered:
    return Gathered(
        lambda chunk: chunk.choices[0].text if chunk.choices else "", lambda chunk: chunk.usage, "text", dump=_dump
    )


def _response_events() -> Gathered:
    return Gathered(
        lambda event: event.delta if event.type == "response.output_text.delta" else "",
        lambda event: event.response.usage if event.type in ("response.completed", "response.incomplete") else None,
        *("delta", "text"),
        dump=_dump_event,
    )


def _dump_event(event: Any) -> Any:
    dumped = event.model_dump()
    # Counts the events, of which there may be fewer for a slow reader.
    dumped.pop("sequence_number", None)
    return dumped


def chat(url: str, key: str, prompt: str, **options: Any) -> Said:
    reply = client(url, key).chat.completions.create(**(_chat(prompt) | options))
    return _said(reply.choices[0].message.content, reply)


def chat_stream(url: str, key: str, prompt: str, **options: Any) -> Said:
    with client(url, key).chat.completions.create(**(_chat(prompt) | options), stream=True) as stream:
        return _chat_chunks().all(stream)


def completion(url: str, key: str, prompt: str, **options: Any) -> Said:
    reply = client(url, key).completions.create(**(_completion(prompt) | options))
    return _said(reply.choices[0].text, reply)


def completion_stream(url: str, key: str, prompt: str, **options: Any) -> Said:
    with client(url, key).completions.create(**(_completion(prompt) | options), stream=True) as stream:
        return _completion_chunks().all(stream)


def response(url: str, key: str, prompt: str, **options: Any) -> Said:
    reply = client(url, key).responses.create(**(_response(prompt) | options))
    return _said(reply.output_text, reply)


def response_stream(url: str, key: str, prompt: str, **options: Any) -> Said:
    with client(url, key).responses.create(**(_response(prompt) | options), stream=True) as stream:
        return _response_events().all(stream)


def embedding(url: str, key: str, prompt: str) -> Said:
    reply = client(url, key).embeddings.create(model=MODEL, input=[prompt, "another"])
    return _said(str([len(item.embedding) for item in reply.data]), reply)


def chat_async(url: str, key: str, prompt: str) -> Said:
    async def ask() -> Said:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key=key, **settings) as asking:
            reply = await asking.chat.completions.create(**_chat(prompt))
        return _said(reply.choices[0].message.content, reply)

    return asyncio.run(ask())


def chat_stream_async(url: str, key: str, prompt: str) -> Said:
    async def ask() -> Said:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key=key, **settings) as asking:
            return await _chat_chunks().all_async(await asking.chat.completions.create(**_chat(prompt), stream=True))

    return asyncio.run(ask())


_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}


def defaults(url: str, key: str, prompt: str) -> Said:
    made = client(url, key)
    assert isinstance(made.timeout, Timeout)
    return Said("", None, [made.timeout.connect, made.timeout.read, made.max_retries])


def models(url: str, key: str, prompt: str) -> Said:
    return Said(" ".join(model.id for model in client(url, key).models.list()))


CALLS: dict[str, Function] = {
    "chat": chat,
    "chat stream": chat_stream,
    "chat stream with usage": partial(chat_stream, **_USAGE),
    "completion": completion,
    "completion stream": completion_stream,
    "completion stream with usage": partial(completion_stream, **_USAGE),
    "async chat": chat_async,
    "async chat stream": chat_stream_async,
    "response": response,
    "response stream": response_stream,
    "embedding": embedding,
    "models": models,
    "defaults": defaults,
}
