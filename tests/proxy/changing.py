"""A policy that changes while its proxy runs."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fairqueue_api import Document, digest
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, Play, ScriptedEngine, tgi_token
from proxy_stack import Stack, document_of

STREAM = "/generate_stream"

STREAMED = STREAM_HEAD + tgi_token("x", last=True) + LAST_CHUNK
"""A whole reply to STREAM: five tokens in, three out."""

STREAMED_COST = 5 + 2 * 3


class Versions:
    """Documents for one stack, each from a policy file and keys of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()

    def document(self, **policy: Any) -> Document:
        """The document of a policy whose tenants are alice and bob unless told otherwise."""
        policy.setdefault("tenants", [{"name": "alice"}, {"name": "bob"}])
        return document_of(self._folder / f"version-{next(self._numbers)}", **policy)

    def apply(self, stack: Stack, change: Callable[[Document], Document] = lambda same: same, **policy: Any) -> None:
        """Brings another policy into force; `change` is made to its document."""
        assert stack.proxy is not None
        stack.proxy.apply(change(self.document(**policy)))


def with_keys(tenant: str, *keys: str) -> Callable[[Document], Document]:
    """Gives a tenant other keys than the usual one."""
    digests = tuple(sorted(digest(key.encode()) for key in keys))

    def change(document: Document) -> Document:
        tenants = [replace(each, key_digests=digests) if each.name == tenant else each for each in document.tenants]
        return replace(document, tenants=tuple(tenants))

    return change


def with_engine_key(key: str | None) -> Callable[[Document], Document]:
    """Gives the engine a key."""
    return lambda document: replace(document, engine=replace(document.engine, api_key=key))


async def stream_in_turn(scripted: ScriptedEngine, play: Play, count: int) -> tuple[list[str], Play]:
    """Answers `play` and all but the last of `count` more; their order, and the last."""
    order = []
    for _ in range(count):
        play.answer(STREAMED)
        play = await scripted.play()
        order.append(play.headers["x-request-id"])
    return order, play
