"""Starts a simulated engine on a socket: in a test's own event loop, or for the command."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from fairqueue_sim import openai, sglang, tgi, vllm
from fairqueue_sim.batching import ContinuousBatch
from fairqueue_sim.engine import EngineSettings, SimulatedEngine
from fairqueue_sim.profiles import load_profile
from fairqueue_sim.sglang_engine import SglangEngine
from fairqueue_sim.step_log import StepLog
from fairqueue_sim.tgi_engine import TgiEngine
from fairqueue_sim.truth import TruthLog
from fairqueue_sim.vllm_engine import VllmEngine
from fairqueue_sim.wire import Exchange, HttpServer

__all__ = ["ENGINE_KINDS", "EngineKind", "RunningEngine", "running_engine", "start_engine"]

EngineKind = Literal["tgi", "vllm", "sglang", "openai"]
ENGINE_KINDS: tuple[EngineKind, ...] = get_args(EngineKind)


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """An engine that listens. `model` is the batching core: who runs, who waits, how much KV cache is used."""

    host: str
    port: int
    server: HttpServer
    engine: SimulatedEngine

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    @property
    def truth(self) -> TruthLog:
        """What it really did."""
        return self.engine.truth

    @property
    def model(self) -> ContinuousBatch:
        """Its queue and its batch."""
        return self.engine.batch

    async def drain(self) -> None:
        """Closes the listener and returns when the last reply is out."""
        await self.server.drain()
        self.engine.loop.close()

    async def close(self) -> None:
        """Cuts everything off."""
        await self.server.close()
        self.engine.loop.close()
        self.truth.flush()


async def start_engine(
    kind: EngineKind,
    settings: EngineSettings,
    truth: TruthLog,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    steps: StepLog | None = None,
) -> RunningEngine:
    """Starts an engine; raises OSError when it cannot listen there."""
    engine, handler = _build(kind, settings, truth)
    engine.loop.step_log = steps
    server = HttpServer(handler, max_body_bytes=settings.max_body_bytes, wall_clock=time.time)
    host, port = await server.listen(host, port)
    return RunningEngine(host, port, server, engine)


def _build(
    kind: EngineKind, settings: EngineSettings, truth: TruthLog
) -> tuple[SimulatedEngine, Callable[[Exchange], None]]:
    if kind == "openai":
        openai_engine = openai.OpenAIEngine(settings, truth)
        return openai_engine, partial(openai.handle, openai_engine)
    if kind == "vllm":
        vllm_engine = VllmEngine(settings, truth)
        return vllm_engine, partial(vllm.handle, vllm_engine)
    if kind == "sglang":
        sglang_engine = SglangEngine(settings, truth)
        return sglang_engine, partial(sglang.handle, sglang_engine)
    engine = TgiEngine(settings, truth)
    return engine, partial(tgi.handle, engine)


@asynccontextmanager
async def running_engine(
    kind: EngineKind = "tgi",
    *,
    profile: str = "tiny",
    port: int = 0,
    truth: TruthLog | None = None,
    **settings: Any,
) -> AsyncIterator[RunningEngine]:
    """An engine for the length of the block, on 127.0.0.1; `settings` are fields of EngineSettings.

    Common ones: `speed`, `seed`, `slots`, `kv_tokens`, `max_concurrent_requests`.
    """
    engine = await start_engine(
        kind, EngineSettings(load_profile(profile), **settings), TruthLog() if truth is None else truth, port=port
    )
    try:
        yield engine
    finally:
        await engine.close()
