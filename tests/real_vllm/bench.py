"""An engine, a tap, and `fairqueue serve` in front of both: what a test asks and what it can look at."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.raw_client import Reply, ask, request
from proxy_stack import Stack, serving_proxy
from real_vllm.server import Server, serving_vllm
from real_vllm.tap import Tap, Tapped

PATIENCE_SECONDS = 20.0
LOOK_SECONDS = 0.02
TENANTS: list[dict[str, Any]] = [{"name": "alice"}, {"name": "bob"}]


@dataclass
class Bench:
    kind: str
    server: Server
    tap: Tap
    stack: Stack
    log: Path
    _asked: int = 0

    def name(self) -> str:
        """A request id that no other request has."""
        self._asked += 1
        return f"{self.kind}-{self._asked}"

    async def alone(self, path: str, body: Any, *, method: str = "POST") -> tuple[Reply, Tapped]:
        """What the client would get without a proxy."""
        reply = await ask(self.tap.address, request(path, body, method=method))
        return reply, [each for each in self.tap.tapped if each.path == path][-1]

    async def through(self, path: str, body: Any, *, method: str = "POST", name: str = "") -> Reply:
        """What it gets from the proxy."""
        headers = {"x-request-id": name or self.name()}
        return await ask(self.stack.data, request(path, body, tenant="alice", method=method, headers=headers))

    async def line(self, name: str) -> dict[str, Any]:
        """What the proxy's log says of a request, once it is over."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for line in self.log.read_text().splitlines():
                    if f'"request_id":"{name}"' in line:
                        return dict(json.loads(line))
                await asyncio.sleep(LOOK_SECONDS)

    async def charged(self) -> tuple[int, int]:
        """Input and output tokens that the proxy's metrics say were charged so far."""
        text = await self.stack.metrics()
        kinds = {
            kind: value_of(text, f'fairqueue_tokens_total{{tenant="alice",kind="{kind}"}}')
            for kind in ("input", "cached_input", "output")
        }
        return int(kinds["input"] + kinds["cached_input"]), int(kinds["output"])

    async def engines_own(self, *names: str) -> dict[str, float]:
        """Values of the engine's own metrics."""
        text = (await self.stack.get(self.server.address, "/metrics"))[1]
        return {name: value_of(text, f"{name}{{") for name in names}

    async def idle_counts(self) -> tuple[int, int]:
        """Prompt and output tokens that the engine has counted so far, once nothing runs in it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                now = await self.engines_own(*RUNNING, *COUNTED)
                if not any(now[name] for name in RUNNING):
                    return int(now[COUNTED[0]]), int(now[COUNTED[1]])
                await asyncio.sleep(LOOK_SECONDS)


RUNNING = ("vllm:num_requests_running", "vllm:num_requests_waiting")
COUNTED = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")


def value_of(text: str, beginning: str) -> float:
    """The sum of the samples whose line begins so."""
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(beginning))


@asynccontextmanager
async def bench_of(kind: str, folder: Path) -> AsyncIterator[Bench]:
    """All three, started and ready."""
    log = folder / "proxy.log"
    async with serving_vllm(kind, folder) as server, Tap(server.address).listening() as tap:
        policy: dict[str, Any] = {"kind": "VLLM", "tenants": TENANTS}
        async with serving_proxy(folder, tap.address.port, log, **policy) as stack:
            # The first request of all takes seconds.
            await ask(server.address, request("/tokenize", {"prompt": "x"}))
            yield Bench(kind, server, tap, stack, log)
