"""Proxies side by side, each with an engine and clients of its own: the real command in front of simulators.

A request lasts a quarter of a second, as it might last fifteen in a world that is sixty times slower: rules at factor
60 see what they would see there.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from fairqueue_sim import EngineKind, EngineSettings, RunningEngine, TruthLog, load_profile, start_engine
from monitoring import faulty_proxy
from proxy_stack import Stack, bearer, serving, write_policy

PROGRAM = ("-m", "fairqueue_cli.main")
FAULTY_PROGRAM = ("-u", faulty_proxy.__file__)
JOB = "fairqueue-proxy"
USAGE_FOLDER = "usage"
AFTER_REFUSAL_SECONDS = 0.25
POLICY_KINDS: Mapping[EngineKind, str] = {"tgi": "TGI", "vllm": "VLLM", "sglang": "SGLang", "openai": "OpenAI"}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client asks for again and again, with a pause between."""

    prompt: str = "word word word word"
    output_tokens: int = 8
    pause_seconds: float = 0.0


class Engine:
    """A simulator that can be killed, and started again at its port."""

    def __init__(self, kind: EngineKind, slots: int | None) -> None:
        self.kind = kind
        self._settings = EngineSettings(load_profile("a10g-llama2-7b"), slots=slots, mean_output_tokens=0)
        self._running: RunningEngine | None = None
        self.port = 0

    async def start(self) -> None:
        self._running = await start_engine(self.kind, self._settings, TruthLog(), port=self.port)
        self.port = self._running.port

    async def kill(self) -> None:
        if self._running is not None:
            await self._running.close()
            self._running = None


class Crowd:
    """Clients in closed loops: each asks for a stream when its last one has ended."""

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._random = random.Random(seed)
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )

    def join(self, tenant: str, clients: int, ask: Ask = Ask()) -> None:
        """So many more of a tenant."""
        tasks = self._tasks.setdefault(tenant, [])
        tasks += [asyncio.create_task(self._work(tenant, ask)) for _ in range(clients)]

    async def leave(self, *tenants: str) -> None:
        """All of these tenants hang up."""
        tasks = [task for tenant in tenants for task in self._tasks.pop(tenant, [])]
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError) and isinstance(result, BaseException):
                raise result

    async def close(self) -> None:
        await self.leave(*self._tasks)
        await self._session.close()

    async def _work(self, tenant: str, ask: Ask) -> None:
        # Not all at once.
        await asyncio.sleep(self._random.random() * (ask.pause_seconds or AFTER_REFUSAL_SECONDS))
        while True:
            if not await self._is_served(tenant, ask):
                await asyncio.sleep(AFTER_REFUSAL_SECONDS)
            if ask.pause_seconds:
                await asyncio.sleep(self._random.expovariate(1 / ask.pause_seconds))

    async def _is_served(self, tenant: str, ask: Ask) -> bool:
        body = {"prompt": ask.prompt, "max_tokens": ask.output_tokens, "stream": True}
        try:
            async with self._session.post(f"{self._url}/v1/completions", json=body, headers=bearer(tenant)) as reply:
                async for _ in reply.content.iter_any():
                    pass
                return reply.status == 200
        except (aiohttp.ClientError, ConnectionError):
            return False


@dataclass(frozen=True, slots=True)
class Lane:
    """One proxy with its engine and its clients; the policy has the lane's name."""

    name: str
    stack: Stack
    engine: Engine
    crowd: Crowd
    policy: Path
    folder: Path

    @property
    def instance(self) -> str:
        """As Prometheus calls it."""
        return f"{self.stack.admin.host}:{self.stack.admin.port}"

    def change_policy(self, **spec: Any) -> None:
        """These parts of the policy's spec are others now."""
        policy = json.loads(self.policy.read_text())
        policy["spec"].update(spec)
        self.write_policy(json.dumps(policy))

    def write_policy(self, text: str) -> None:
        """The policy's file is this now."""
        beside = self.policy.with_name(".policy")
        beside.write_text(text)
        beside.replace(self.policy)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a lane is made of. `policy` is its spec, without engine and selector. An engine that does not start with its
    proxy is the test's to start."""

    name: str
    engine: EngineKind = "tgi"
    slots: int | None = 4
    tenants: Iterable[str | dict[str, Any]] = ("one",)
    policy: Mapping[str, Any] = field(default_factory=dict)
    policy_name: str = ""
    faulty: bool = False
    usage_log: bool = False
    engine_starts: bool = True


@asynccontextmanager
async def lane(folder: Path, plan: Plan) -> AsyncIterator[Lane]:
    """A lane for the length of the block; nobody asks for anything yet."""
    folder = folder / plan.name
    folder.mkdir()
    tenants = [{"name": it} if isinstance(it, str) else it for it in plan.tenants]
    policy, secrets = write_policy(folder, kind=POLICY_KINDS[plan.engine], tenants=tenants, **plan.policy)
    named = json.loads(policy.read_text())
    named["metadata"]["name"] = plan.policy_name or plan.name
    policy.write_text(json.dumps(named))
    async with AsyncExitStack() as stack:
        engine = Engine(plan.engine, plan.slots)
        await engine.start()
        if not plan.engine_starts:
            await engine.kill()
        stack.push_async_callback(engine.kill)
        program = FAULTY_PROGRAM if plan.faulty else PROGRAM
        options: list[str | Path] = ["--policy", policy, "--secrets", secrets]
        if plan.usage_log:
            (folder / USAGE_FOLDER).mkdir()
            options += ["--usage-log", folder / USAGE_FOLDER]
        proxy = await stack.enter_async_context(serving(engine.port, folder / "log", *options, program=program))
        crowd = Crowd(proxy.url, seed=engine.port)
        stack.push_async_callback(crowd.close)
        yield Lane(plan.name, proxy, engine, crowd, policy, folder)


@asynccontextmanager
async def lanes(folder: Path, plans: Iterable[Plan]) -> AsyncIterator[dict[str, Lane]]:
    """Several, by name."""
    async with AsyncExitStack() as stack:
        yield {plan.name: await stack.enter_async_context(lane(folder, plan)) for plan in plans}


def targets(fleet: Mapping[str, Lane]) -> dict[str, list[str]]:
    """For Prometheus, by job."""
    return {JOB: [lane.instance for lane in fleet.values()]}
