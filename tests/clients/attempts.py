"""What a client's user gets from a call: an answer or an exception, in a form in which two of them can be compared.

Runs in the programs that call the clients (`client_program`), and knows nothing of the project.
"""

import json
import re
from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

MODEL = "tiny"
TOKENS = 24

# Differ from call to call, whoever answers.
_OWN = frozenset({"id", "created", "created_at", "completed_at", "item_id", "timings", "_request_id", "response_id"})


# Of huggingface_hub's messages: where it asked, and the id of the reply.
_OWN_WORDS = re.compile(r"http://127\.0\.0\.1:\d+|\(Request ID: [^)]*\)")


@dataclass(frozen=True, slots=True)
class Said:
    """An answer. `whole` is everything that the client made of it, without ids and times."""

    text: str
    usage: Any = None
    whole: Any = None


@dataclass(frozen=True, slots=True)
class Failed:
    """An exception: its class, the status it carries if any, and its words. `said` is what came before it."""

    kind: str
    status: int | None
    message: str
    said: str = ""


Function = Callable[..., Said]
"""A call of some client: where to, with which key, with which prompt; and options of the client's own."""


class Broken(Exception):
    """The client's exception came in the middle of an answer of which this much had come."""

    def __init__(self, said: str, cause: Exception) -> None:
        super().__init__(said)
        self.said = said
        self.cause = cause


def result(function: Function, url: str, key: str, prompt: str, options: dict[str, Any]) -> Said | Failed:
    """What comes of a call."""
    try:
        return function(url, key, prompt, **options)
    except Broken as broken:
        return _failed(broken.cause, broken.said)
    except Exception as error:
        return _failed(error, "")


def _failed(error: Exception, said: str) -> Failed:
    status = getattr(error, "status_code", None)
    # huggingface_hub's exceptions of TGI's errors are caused by one that has the reply.
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    if status is None and response is not None:
        status = response.status_code
    return Failed(type(error).__name__, status, " ".join(_OWN_WORDS.sub("", str(error)).split()), said)


def plain(value: Any) -> Any:
    """An answer of a client library as JSON, without what differs from call to call."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items() if name not in _OWN}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def shapes(chunks: Iterable[Any], *places: str) -> list[Any]:
    """The chunks of a stream without their text (the members of these names) and each kind of them once, in order:
    how the text is cut into chunks is chance where an engine merges what a slow reader has left."""
    seen: dict[str, Any] = {}
    for chunk in chunks:
        shape = _without(plain(chunk), frozenset(places))
        seen.setdefault(json.dumps(shape, sort_keys=True), shape)
    return list(seen.values())


def _without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {
            name: "..." if name in names and isinstance(item, str) and item else _without(item, names)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_without(item, names) for item in value]
    return value


class Gathered:
    """Takes a stream's chunks as they come. `text_of` and `usage_of` say what of a chunk is text and usage; `places`
    are the members in which text is."""

    def __init__(
        self, text_of: Callable[[Any], str], usage_of: Callable[[Any], Any], *places: str, dump: Callable[[Any], Any]
    ) -> None:
        self._text_of, self._usage_of, self._places, self._dump = text_of, usage_of, places, dump
        self._chunks: list[Any] = []
        self._usage: Any = None

    def all(self, chunks: Iterable[Any]) -> Said:
        """From a client that blocks."""
        try:
            for chunk in chunks:
                self._take(chunk)
        except Exception as error:
            raise Broken(self._text, error) from error
        return self._said()

    async def all_async(self, chunks: AsyncIterable[Any]) -> Said:
        """From one that doesn't."""
        try:
            async for chunk in chunks:
                self._take(chunk)
        except Exception as error:
            raise Broken(self._text, error) from error
        return self._said()

    def _take(self, chunk: Any) -> None:
        self._chunks.append(chunk)
        usage = self._usage_of(chunk)
        self._usage = self._usage if usage is None else plain(self._dump(usage))

    @property
    def _text(self) -> str:
        return "".join(map(self._text_of, self._chunks))

    def _said(self) -> Said:
        return Said(self._text, self._usage, shapes(map(self._dump, self._chunks), *self._places))
