"""HTTP exchanges recorded from real engines, in `tests/data/<engine>/<case>.json`, as requests and reply bytes."""

import json
import random
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fairqueue_proxy.engines import Call, engine_for
from fairqueue_proxy.metering import EventSplitter, Meter, Usage

DATA = Path(__file__).parent.parent / "data"
KINDS = {"tgi": "TGI", "llamacpp": "LlamaCpp", "vllm": "VLLM"}

_LEFT_OUT = re.compile(r"\.\.\. (\d+) chunks left out \.\.\.")
_LEFT_OUT_INDEX = re.compile(r"\.\.\. index (\d+) text \S+ \.\.\.")


@dataclass(frozen=True)
class Exchange:
    engine: str
    path: str
    request: bytes
    status: int
    headers: dict[str, str]
    chunks: tuple[bytes, ...]

    @property
    def reply(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def call(self, request: bytes | None = None) -> Call:
        adapter = engine_for(KINDS[self.engine])
        return adapter.parse(adapter.route("POST", self.path), self.request if request is None else request)


def cases(engine: str, pattern: str) -> list[str]:
    found = sorted(path.stem for path in (DATA / engine).glob(f"{pattern}.json"))
    assert found, f"no recorded case {engine}/{pattern}"
    return found


@cache
def exchanges(engine: str, case: str) -> tuple[Exchange, ...]:
    """The exchanges of a case that were answered with a status."""
    recorded = json.loads((DATA / engine / f"{case}.json").read_text())
    found = [_exchange(engine, each) for each in recorded.get("exchanges", [recorded])]
    return tuple(each for each in found if each is not None)


def exchange(engine: str, case: str) -> Exchange:
    (only,) = exchanges(engine, case)
    return only


def replay(exchange: Exchange, meter: Meter, *, cuts: random.Random | None = None) -> bytes:
    """Sends a recorded reply through the meter as the proxy does, cut anywhere; returns what the client gets."""
    meter.head(exchange.status, exchange.headers)
    if not exchange.is_stream:
        return meter.body(exchange.reply)
    splitter = EventSplitter()
    events = [event for chunk in _cut(exchange, cuts) for event in splitter.feed(chunk)]
    return b"".join(meter.event(event) for event in events) + splitter.flush() + meter.rest()


def usage_of(exchange: Exchange, request: bytes | None = None) -> Usage:
    meter = exchange.call(request).meter()
    replay(exchange, meter)
    return meter.usage


def _cut(exchange: Exchange, cuts: random.Random | None) -> list[bytes]:
    if cuts is None:
        return list(exchange.chunks)
    stream = exchange.reply
    marks = sorted(cuts.randrange(len(stream)) for _ in range(20))
    return [stream[begin:end] for begin, end in zip([0, *marks], [*marks, len(stream)], strict=True)]


def _exchange(engine: str, recorded: dict[str, Any]) -> Exchange | None:
    response = recorded["response"]
    request = recorded["request"]
    if response.get("status") is None or request.get("method") != "POST":
        return None
    return Exchange(
        engine=engine,
        path=request["path"].partition("?")[0],
        request=(request["body"] or "").encode(),
        status=response["status"],
        headers={name.lower(): value for name, value in response["headers"]},
        chunks=tuple(_whole([chunk for _, chunk in response["chunks"]])),
    )


def _whole(chunks: list[str]) -> list[bytes]:
    """Puts back chunks that the recording leaves out: each is like the last one before it (of its index)."""
    whole: list[str] = []
    for chunk in chunks:
        if left_out := _LEFT_OUT.fullmatch(chunk):
            whole += [whole[-1]] * int(left_out[1])
        elif left_out := _LEFT_OUT_INDEX.fullmatch(chunk):
            whole.append(next(like for like in reversed(whole) if f'"index":{left_out[1]},' in like))
        else:
            whole.append(chunk)
    return [chunk.encode() for chunk in whole]
