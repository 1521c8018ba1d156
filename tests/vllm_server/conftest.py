"""One server and one proxy for all tests of this folder, which only `make test-vllm` runs."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from fairqueue_proxy.address import Address
from proxy.raw_client import Reply, ask, request
from proxy_stack import Stack, serving_proxy
from vllm_server.server import running_vllm

FIRST_ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Bench:
    """The engine, the proxy in front of it, and the proxy's log."""

    engine: Address
    stack: Stack
    log: Path

    async def direct(self, path: str, body: bytes, name: str = "direct") -> Reply:
        """The engine's own reply."""
        return await ask(self.engine, request(path, body, headers={"x-request-id": name}))

    async def proxied(self, path: str, body: bytes, name: str) -> Reply:
        """The proxy's."""
        return await ask(self.stack.data, request(path, body, tenant="alice", headers={"x-request-id": name}))

    async def line(self, name: str) -> dict[str, Any]:
        """What the proxy's log says of a request that is over."""
        async with asyncio.timeout(10):
            while True:
                for line in self.log.read_text().splitlines():
                    if f'"request_id":"{name}"' in line:
                        return dict(json.loads(line))
                await asyncio.sleep(0.02)

    async def engines_counts(self) -> tuple[float, float]:
        """Prompt and output tokens of all requests so far, as the engine counts them, once nothing runs in it."""
        async with asyncio.timeout(20):
            while True:
                text = (await self.stack.get(self.engine, "/metrics"))[1]
                if _value(text, "vllm:num_requests_running") == _value(text, "vllm:num_requests_waiting") == 0:
                    return _value(text, "vllm:prompt_tokens_total"), _value(text, "vllm:generation_tokens_total")
                await asyncio.sleep(0.05)


def _value(text: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name}{{"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("vllm")
    async with AsyncExitStack() as exits:
        port = await exits.enter_async_context(running_vllm(folder))
        stack = await exits.enter_async_context(
            serving_proxy(folder / "proxy", port, folder / "proxy.log", kind="VLLM", tenants=[{"name": "alice"}])
        )
        bench = Bench(Address("127.0.0.1", port), stack, folder / "proxy.log")
        print("vLLM is up, and answers its first request", file=sys.stderr, flush=True)
        async with asyncio.timeout(FIRST_ANSWER_SECONDS), aiohttp.ClientSession() as session:
            body = {"model": "tiny", "prompt": "import", "max_tokens": 8, "logprobs": 2, "echo": True}
            async with session.post(f"http://127.0.0.1:{port}/v1/completions", json=body) as reply:
                assert reply.status == 200
        yield bench
