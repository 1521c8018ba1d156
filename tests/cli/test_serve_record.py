"""`fairqueue serve --record`: a trace that the lab reads as it is, whatever end the proxy comes to."""

import asyncio
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairqueue_sim import running_engine
from fairqueue_sim.lab.trace import TraceError, read_trace
from proxy.raw_client import ask, request
from proxy.traces import HEADER, rows_of
from proxy_stack import Stack, serving, write_policy

TENANTS = [{"name": "alice"}, {"name": "bob"}]
MODULE = [sys.executable, "-m", "fairqueue_cli.main"]


@asynccontextmanager
async def recording(folder: Path, trace: Path) -> AsyncIterator[Stack]:
    """A proxy process that records, in front of a simulated engine."""
    policy, secrets = write_policy(folder, tenants=TENANTS)
    options = ("--policy", policy, "--secrets", secrets, "--record", trace)
    async with (
        running_engine("tgi", profile="tiny") as engine,
        serving(engine.port, folder / "log", *options) as stack,
    ):
        yield stack


async def ask_for(stack: Stack, tenant: str | None, tokens: int) -> int:
    body = {"inputs": "a secret prompt", "parameters": {"max_new_tokens": tokens}}
    return (await ask(stack.data, request("/generate_stream", body, tenant=tenant))).status


async def end(stack: Stack, number: signal.Signals) -> int:
    assert stack.process is not None
    stack.process.send_signal(number)
    async with asyncio.timeout(10):
        return await stack.process.wait()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        # Another process writes.
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_came_is_read_back_as_a_trace(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    async with recording(tmp_path, trace) as stack:
        statuses = await asyncio.gather(
            ask_for(stack, "alice", 20), ask_for(stack, "bob", 3), ask_for(stack, None, 5), ask_for(stack, "alice", 4)
        )
        assert sorted(statuses) == [200, 200, 200, 401]
        assert (await ask(stack.data, request("/generate", b"{", tenant="bob"))).status == 400
        assert await end(stack, signal.SIGTERM) == 0
    arrivals = read_trace(trace)
    made = [(each.tenant, each.output_tokens, each.max_tokens) for each in arrivals if each.outcome == "completed"]
    assert sorted(made) == [("alice", 4, 4), ("alice", 20, 20), ("bob", 3, 3)]
    assert (arrivals[-1].tenant, arrivals[-1].outcome) == ("bob", "bad_request")
    assert arrivals[0].seconds == 0.0
    assert all(each.prompt_tokens > 1 for each in arrivals[:-1])
    assert "secret" not in trace.read_text()


@pytest.mark.long
async def test_a_proxy_that_is_killed_loses_no_more_than_the_last_second(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    async with recording(tmp_path, trace) as stack:
        await until(lambda: trace.read_text() == HEADER)
        for tokens in (2, 3):
            await ask_for(stack, "alice", tokens)
        await asyncio.sleep(1.5)
        await end(stack, signal.SIGKILL)
    assert [each.output_tokens for each in read_trace(trace)] == [2, 3]


async def test_told_twice_to_go_it_writes_what_it_has(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    async with recording(tmp_path, trace) as stack:
        await ask_for(stack, "bob", 2)
        slow = asyncio.create_task(
            ask(stack.data, request("/generate_stream", {"inputs": "[[slow=200]] x"}, tenant="alice"))
        )
        await asyncio.sleep(0.3)
        assert stack.process is not None
        stack.process.send_signal(signal.SIGTERM)
        await until(lambda: "drain begins" in (tmp_path / "log").read_text())
        assert await end(stack, signal.SIGTERM) == 0
        await asyncio.gather(slow, return_exceptions=True)
    assert [row["tenant"] for row in rows_of(trace.read_text())] == ["bob", "alice"]


@pytest.mark.long
async def test_a_disk_that_fills_up_is_told_once_and_harms_no_request(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    async with recording(tmp_path, trace) as stack:
        await until(lambda: trace.read_text() == HEADER)
        assert stack.process is not None
        # As if the disk had room for this much: what is beyond is not written.
        room_bytes = len(HEADER) + 100
        resource.prlimit(stack.process.pid, resource.RLIMIT_FSIZE, (room_bytes, room_bytes))
        for _ in range(6):
            assert await ask_for(stack, "alice", 2) == 200
        await until(lambda: "the recording in" in (tmp_path / "log").read_text())
        assert await ask_for(stack, "alice", 2) == 200
        assert await end(stack, signal.SIGTERM) == 0
    assert 1 <= len(read_trace(trace)) < 6
    text = (tmp_path / "log").read_text()
    assert text.count(f"the recording in {trace} has ended: File too large; requests are served as before") == 1


def refusal(folder: Path, trace: Path, *, listen: str = "127.0.0.1:0") -> str:
    """What `serve` with this file says when it exits with 2: one line."""
    if not (folder / "policy.yaml").exists():
        write_policy(folder, tenants=TENANTS)
    options = {
        "--policy": folder / "policy.yaml",
        "--secrets": folder / "secrets",
        "--engine": "http://127.0.0.1:9",
        "--record": trace,
        "--listen": listen,
        "--admin": "127.0.0.1:0",
        "--local": "127.0.0.1:0",
    }
    words = [str(word) for pair in options.items() for word in pair]
    done = subprocess.run([*MODULE, "serve", *words], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_file_with_something_in_it_is_refused_and_kept(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(HEADER)
    said = refusal(tmp_path, trace)
    assert said == f"fairqueue serve: --record {trace}: is not empty: choose another file\n"
    assert trace.read_text() == HEADER


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "can't be written: Is a directory"),
        pytest.param("none/trace.csv", "can't be written: No such file or directory", marks=pytest.mark.long),
    ],
)
def test_a_file_that_cannot_be_opened_is_named_with_option_and_fix(tmp_path: Path, name: str, why: str) -> None:
    trace = tmp_path / name
    assert refusal(tmp_path, trace) == f"fairqueue serve: --record {trace}: {why}: choose another file\n"


def test_a_start_that_fails_leaves_a_file_that_the_next_one_can_use(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        for _ in range(2):
            assert "address already in use" in refusal(tmp_path, trace, listen=listen).lower()
    assert trace.read_bytes() == b""
    with pytest.raises(TraceError):
        read_trace(trace)


def test_who_does_not_record_does_not_load_what_records() -> None:
    code = "import sys, fairqueue_cli.serve, fairqueue_cli.serving; print('fairqueue_proxy.recording' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "False\n"
