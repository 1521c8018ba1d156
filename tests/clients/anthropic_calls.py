"""Anthropic's own client as its users call it: messages, plain and streamed, sync and async."""

import asyncio
from typing import Any

from anthropic import Anthropic, AsyncAnthropic, Timeout

from clients.attempts import MODEL, TOKENS, Function, Gathered, Said, plain

settings: dict[str, Any] = {}
"""What tests set in place of the defaults."""

_kept: list[Anthropic] = []


def client(url: str, key: str) -> Anthropic:
    """The one that there is, with its connections, turned to an address: each of its own would read all certificates
    that the system trusts."""
    if not _kept:
        _kept.append(Anthropic(base_url=url, api_key=key))
    return _kept[0].with_options(base_url=url, api_key=key, **settings)


def close_clients() -> None:
    """Closes the connections that it keeps."""
    for kept in _kept:
        kept.close()


def _dump(model: Any) -> Any:
    return model.model_dump()


def _message(prompt: str) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": TOKENS}


def _said(reply: Any) -> Said:
    text = "".join(block.text for block in reply.content)
    return Said(text, plain(_dump(reply.usage)), plain(_dump(reply)))


def _events() -> Gathered:
    return Gathered(
        lambda event: event.delta.text if event.type == "content_block_delta" else "",
        lambda event: event.usage if event.type == "message_delta" else None,
        "text",
        dump=_dump,
    )


def message(url: str, key: str, prompt: str, **options: Any) -> Said:
    return _said(client(url, key).messages.create(**(_message(prompt) | options)))


def message_stream(url: str, key: str, prompt: str, **options: Any) -> Said:
    with client(url, key).messages.create(**(_message(prompt) | options), stream=True) as stream:
        return _events().all(stream)


def message_helper(url: str, key: str, prompt: str) -> Said:
    """What its documentation recommends: the helper that puts the message together."""
    with client(url, key).messages.stream(**_message(prompt)) as stream:
        text = "".join(stream.text_stream)
        whole = _said(stream.get_final_message())
    return Said(text, whole.usage, whole.whole)


def message_async(url: str, key: str, prompt: str) -> Said:
    async def ask() -> Said:
        async with AsyncAnthropic(base_url=url, api_key=key, **settings) as asking:
            return _said(await asking.messages.create(**_message(prompt)))

    return asyncio.run(ask())


def message_stream_async(url: str, key: str, prompt: str) -> Said:
    async def ask() -> Said:
        async with AsyncAnthropic(base_url=url, api_key=key, **settings) as asking:
            return await _events().all_async(await asking.messages.create(**_message(prompt), stream=True))

    return asyncio.run(ask())


def defaults(url: str, key: str, prompt: str) -> Said:
    made = client(url, key)
    assert isinstance(made.timeout, Timeout)
    return Said("", None, [made.timeout.connect, made.timeout.read, made.max_retries])


CALLS: dict[str, Function] = {
    "message": message,
    "message stream": message_stream,
    "message by the stream helper": message_helper,
    "async message": message_async,
    "async message stream": message_stream_async,
    "defaults": defaults,
}
