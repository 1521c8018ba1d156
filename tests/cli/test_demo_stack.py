"""What the demo starts and stops: real children, the real engine, the real proxy, the files in between."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from fairqueue_api import SecretDirectory, load_policy, render
from fairqueue_cli.demo_engine import SLOTS
from fairqueue_cli.demo_stack import DemoError, running_engine, running_proxy, wait_idle, write_proxy_files
from fairqueue_cli.load_reply import Outcome
from fairqueue_cli.load_run import run_load
from fairqueue_cli.load_spec import LoadPlan, Stop, TenantSpec


def test_the_policy_is_valid_and_its_keys_are_random_and_private(tmp_path: Path) -> None:
    first, second = (write_proxy_files(tmp_path / name, ["batch", "chat"]) for name in "ab")
    document = render(load_policy(first.policy), SecretDirectory(first.secrets))
    assert [(tenant.name, tenant.weight) for tenant in document.tenants] == [("batch", 1), ("chat", 1)]
    keys = [path.read_text() for files in (first, second) for path in files.keys.values()]
    assert len(set(keys)) == 4
    assert {path.stat().st_mode & 0o777 for path in first.keys.values()} == {0o600}


async def test_a_proxy_that_cannot_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    files = write_proxy_files(tmp_path, ["chat"])
    files.keys["chat"].unlink()
    with pytest.raises(DemoError, match=r"the proxy ended with status 2:\n.*fairqueue serve: "):
        async with running_proxy(tmp_path, files, "http://127.0.0.1:9"):
            pass


async def test_a_phase_waits_until_the_engine_neither_runs_nor_holds_a_request() -> None:
    states = [(2, 5), (1, 0), (0, 1), (0, 0)]
    asked = []

    async def metrics(request: web.Request) -> web.Response:
        asked.append(states[len(asked)])
        processing, deferred = asked[-1]
        return web.Response(
            text=f"# HELP x\nllamacpp:requests_processing {processing}\nllamacpp:requests_deferred {deferred}\n"
        )

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    async with TestServer(app) as server:
        await wait_idle(str(server.make_url("")).rstrip("/"))
    assert asked == states


@pytest.mark.long
@pytest.mark.usefixtures("real_engine")
async def test_engine_and_proxy_serve_each_tenant_by_its_key_and_end_afterwards(tmp_path: Path) -> None:
    files = write_proxy_files(tmp_path, ["batch", "chat"])
    async with aiohttp.ClientSession() as session:
        async with running_engine(tmp_path) as engine_url:
            async with session.get(f"{engine_url}/props") as response:
                assert (await response.json())["total_slots"] == SLOTS
            async with running_proxy(tmp_path, files, engine_url) as proxy:
                tenants = [
                    TenantSpec(name, max_tokens=(4, 4), key=path.read_text().strip())
                    for name, path in files.keys.items()
                ]
                plan = LoadPlan(proxy.listen, "openai", (*tenants, TenantSpec("stranger")))
                result = await run_load(plan, Stop(requests=6))
                await wait_idle(engine_url)
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{engine_url}/health")
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{proxy.admin}/-/ready")
    for name in files.keys:
        assert {(reply.outcome, reply.output_tokens) for reply in result.tenants[name].replies} == {
            (Outcome.COMPLETED, 4)
        }
    assert {reply.detail for reply in result.tenants["stranger"].replies} == {"401"}


async def test_a_child_ends_when_its_parent_is_killed() -> None:
    """The child holds the write end of a pipe, so that the pipe's end of file is the child's end."""
    read_end, write_end = os.pipe()
    child = f"import os, signal; os.write({write_end}, b'%d\\n' % os.getpid()); signal.pause()"
    parent = (
        "import os, subprocess, sys, signal\n"
        f"subprocess.Popen([sys.executable, '-m', 'fairqueue_cli.demo_child', str(os.getpid()), sys.executable, '-c', "
        f"{child!r}], pass_fds=[{write_end}], start_new_session=True)\n"
        f"os.close({write_end}); signal.pause()"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, pass_fds=[write_end])
    os.close(write_end)
    async with reading(read_end) as pipe, asyncio.timeout(10):
        child_pid = int(await pipe.readline())
        process.kill()
        await process.wait()
        try:
            assert await pipe.read() == b""
        except asyncio.CancelledError:
            os.kill(child_pid, signal.SIGKILL)
            raise


@asynccontextmanager
async def reading(read_end: int) -> AsyncIterator[asyncio.StreamReader]:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(read_end, "rb", buffering=0))
    try:
        yield reader
    finally:
        transport.close()


async def test_a_child_whose_parent_is_gone_before_it_started_does_not_start() -> None:
    arguments = ("-m", "fairqueue_cli.demo_child", "1", sys.executable, "-c", "print('started')")
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert (process.returncode, output) == (1, b"")
