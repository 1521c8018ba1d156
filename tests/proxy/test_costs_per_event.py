"""What the way of an event costs, in counts that do not depend on the machine: calls, system calls, memory.

The bounds are what it costs now. More is a regression, to be mended or to be justified: `docs/performance.md` says what
a call is worth.
"""

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

import pytest

from fairqueue_proxy.job import Job
from fairqueue_proxy.metered import MeteredRequest
from fairqueue_proxy.relay import Relay
from fairqueue_proxy.upstream import Exchange
from proxy.one_stream import BODIES, FIRST_TENANT, OneStream, nth_event
from proxy.raw_client import request as request_bytes
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, chunk, json_reply, scripted_engine
from proxy_stack import running_proxy, serving_proxy

KINDS = sorted(BODIES)
MOST_CALLS = {"TGI": 24, "VLLM": 35}
MOST_BUILTIN_CALLS = {"TGI": 19, "VLLM": 25}
MOST_CALLS_OF_A_REQUEST = 329
MOST_BYTES = 8000
EVENTS = 400
# The proxy looks at its engine and answers the test meanwhile.
OTHER_SYSTEM_CALLS = 60


class Calls:
    """Counts calls of Python functions, of those in files whose path has `within`, and of built-in ones."""

    def __init__(self, within: str = "") -> None:
        self.functions = self.builtins = 0
        self._within = within

    def __enter__(self) -> "Calls":
        self._before = sys.getprofile()
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)

    def _count(self, frame: FrameType, event: str, _argument: object) -> None:
        if self._within in frame.f_code.co_filename:
            self.functions += event == "call"
            self.builtins += event == "c_call"


def calls_of_an_event(stream: OneStream) -> tuple[int, int]:
    """Functions and built-in ones. The least of some: every few milliseconds an event also tells that a step of the
    engine is over."""
    counts = []
    for _ in range(20):
        data = stream.next()
        with Calls() as calls:
            stream.receive(data)
        # Leaving the context is one more of each.
        counts.append((calls.functions - 1, calls.builtins - 1))
    return min(counts)


@pytest.fixture(params=KINDS)
async def stream(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[OneStream]:
    one = OneStream(tmp_path, request.param)
    for _ in range(50):
        one.receive(one.next())
    yield one
    one.close()


async def test_an_event_is_charged_relayed_and_written_once(stream: OneStream) -> None:
    del stream.client_side.writes[:]
    charged, before = stream.job.tenant.output_tokens, stream.sent
    for _ in range(3):
        stream.receive(stream.next())
    assert len(stream.client_side.writes) == 3
    assert stream.job.tenant.output_tokens == charged + 3
    if stream.kind == "TGI":
        assert stream.client_side.writes == [chunk(nth_event("TGI", before + number)) for number in (1, 2, 3)]
    else:
        assert b"usage" not in b"".join(stream.client_side.writes)


async def test_an_event_costs_no_more_calls_than_it_did(stream: OneStream) -> None:
    functions, builtins = calls_of_an_event(stream)
    assert functions <= MOST_CALLS[stream.kind]
    assert builtins <= MOST_BUILTIN_CALLS[stream.kind]


async def test_an_event_costs_no_more_calls_the_more_tenants_and_streams_there_are(
    stream: OneStream,
) -> None:
    few = calls_of_an_event(stream)
    scheduler = stream.proxy.dispatcher.scheduler
    for number in range(1000):
        scheduler.add_node(f"tenant-{number}")
    assert calls_of_an_event(stream) == few


async def test_an_event_leaves_nothing_behind_and_takes_little_meanwhile(stream: OneStream) -> None:
    writes = stream.client_side.writes
    for _ in range(100):
        stream.receive(stream.next())
    del writes[:]
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            data = stream.next()
            tracemalloc.reset_peak()
            start, _ = tracemalloc.get_traced_memory()
            stream.receive(data)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - start < MOST_BYTES
            del writes[:]
        del data
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < MOST_BYTES


@pytest.mark.parametrize("kind", KINDS)
async def test_an_event_is_read_once_and_written_once(tmp_path: Path, kind: str) -> None:
    """Reads and writes of the proxy's process (proc(5), /proc/pid/io), one event after the other."""

    def system_calls(pid: int) -> tuple[int, int]:
        lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        return int(lines["syscr"]), int(lines["syscw"])

    path, body = BODIES[kind]
    tenants = [{"name": FIRST_TENANT}]
    async with (
        scripted_engine() as engine,
        serving_proxy(tmp_path, engine.port, tmp_path / "log", kind=kind, tenants=tenants) as stack,
    ):
        assert stack.process is not None
        reader, writer = await asyncio.open_connection(stack.data.host, stack.data.port)
        writer.write(request_bytes(path, body, tenant=FIRST_TENANT))
        play = await engine.play()
        play.write(STREAM_HEAD)
        for number in range(1, EVENTS + 1):
            if number == 2:
                before = system_calls(stack.process.pid)
            play.write(chunk(nth_event(kind, number)))
            async with asyncio.timeout(10):
                await reader.readuntil(b"\n\n\r\n")
        after = system_calls(stack.process.pid)
        play.answer(LAST_CHUNK)
        writer.close()
    for reads_or_writes in (0, 1):
        assert EVENTS - 1 <= after[reads_or_writes] - before[reads_or_writes] <= EVENTS + OTHER_SYSTEM_CALLS


@asynccontextmanager
async def short_requests(folder: Path) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """What sends one and waits for the reply, on one connection."""
    async with (
        scripted_engine() as engine,
        running_proxy(folder, engine.port, kind="TGI", tenants=[{"name": FIRST_TENANT}]) as stack,
    ):
        reader, writer = await asyncio.open_connection(stack.data.host, stack.data.port)

        async def ask() -> None:
            writer.write(request_bytes("/generate", {"inputs": "Hello"}, tenant=FIRST_TENANT))
            (await engine.play()).answer(json_reply({"generated_text": "x"}))
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))

        yield ask
        writer.close()


async def test_a_short_request_costs_no_more_calls_than_it_did(tmp_path: Path) -> None:
    """Of ours, not of aiohttp's; the least of some, as others happen meanwhile."""
    async with short_requests(tmp_path) as ask:
        counts = []
        for _ in range(10):
            with Calls(within="fairqueue_proxy") as calls:
                await ask()
            counts.append(calls.functions)
    assert min(counts) <= MOST_CALLS_OF_A_REQUEST


async def test_a_request_leaves_nothing_for_the_garbage_collector(tmp_path: Path) -> None:
    """Objects that point at each other would be found, time and again, by looking through everything."""
    async with short_requests(tmp_path) as ask:
        await ask()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(5):
                await ask()
            gc.collect()
            left = [thing for thing in gc.garbage if isinstance(thing, (Job, Relay, MeteredRequest, Exchange))]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert left == []
