"""vLLM's engine process dies under load. The last test with this server, which then exits."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from proxy.raw_client import RawClient, Reply, request
from real_vllm.bench import LOOK_SECONDS, PATIENCE_SECONDS, Bench
from real_vllm.cases import CHAT, COMPLETIONS, MESSAGES, RESPONSES, WORDS, Case
from real_vllm.expected import charge_of_part
from real_vllm.server import MODEL

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOKENS = 8000
_BODY: dict[str, Any] = {"model": MODEL, "temperature": 0, "ignore_eos": True}
_CHAT = _BODY | {"messages": [{"role": "user", "content": WORDS}], "max_tokens": TOKENS}
RUNNING = [
    Case("chat", CHAT, _CHAT | {"stream": True}),
    Case("completions", COMPLETIONS, _BODY | {"prompt": WORDS, "max_tokens": TOKENS, "stream": True}),
    Case("messages", MESSAGES, _CHAT | {"stream": True}),
    Case("responses", RESPONSES, _BODY | {"input": WORDS, "max_output_tokens": TOKENS, "stream": True}),
]


async def test_an_engine_that_dies_ends_each_stream_and_what_came_is_charged(bench: Bench) -> None:
    asked = len(bench.tap.posted())
    asking = [asyncio.ensure_future(_stream(bench, case)) for case in RUNNING]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while any(len(each.chunks) < 12 for each in bench.tap.posted()[asked:]) or len(bench.tap.posted()) < asked + 4:
            await asyncio.sleep(LOOK_SECONDS)
    os.kill(_engine_of(bench.server.process.pid), signal.SIGKILL)
    tapped = {each.path: each for each in bench.tap.posted()[asked:]}
    for case, reply in zip(RUNNING, await asyncio.gather(*asking), strict=True):
        line = await bench.line(f"dies-{case.name}")
        chunks = [chunk for _, chunk in tapped[case.path].chunks]
        told = [chunk for chunk in chunks if b"error" not in chunk and b"[DONE]" not in chunk]
        prompt, output = charge_of_part(case, told)
        assert (line["outcome"], line["output_tokens"]) == ("engine_error", output), case
        assert line["input_tokens"] == prompt or prompt is None, case
        # The engine's own words where it has some, else the proxy's.
        assert b"error" in reply[-400:], case
        if case.path in (CHAT, COMPLETIONS):
            assert reply.endswith(b"".join(chunks[-2:])), case
            assert b'"code": 500' in chunks[-2], case


async def test_a_plain_request_to_a_dead_engine_fails_and_is_charged_next_to_nothing(bench: Bench) -> None:
    name = bench.name()
    reply: Reply = await bench.through(CHAT, _CHAT | {"max_tokens": 2}, name=name)
    line = await bench.line(name)
    assert reply.status in (500, 502, 503), reply
    # What a plain request got done that failed is estimated by its time.
    assert (line["outcome"], line["output_tokens"] <= 2) == ("engine_error", True), line


async def _stream(bench: Bench, case: Case) -> bytes:
    async with RawClient(bench.stack.data) as client:
        client.send(request(case.path, case.body, tenant="alice", headers={"x-request-id": f"dies-{case.name}"}))
        return (await client.reply()).body


def _engine_of(server: int) -> int:
    """The process of the server's engine."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, after = (folder / "stat").read_text().partition("(")[2].rpartition(")")
            if int(after.split()[1]) == server and "Engine" in name:
                return int(folder.name)
        except FileNotFoundError:
            continue
    raise AssertionError("vLLM has no engine process")
