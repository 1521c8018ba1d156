"""`fairqueue engine-sim` as a process: its one line, its signals, its log, its answers to bad input."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairqueue_cli.main import main
from sim.replay import Connection, exchange, get, post

PATIENCE_SECONDS = 20


@asynccontextmanager
async def engine_sim(*options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The command on a port of its own, once it listens."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fairqueue_cli.main", "engine-sim", *options, "--listen", "127.0.0.1:0"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            assert line.startswith(f"fairqueue engine-sim: {options[0]} listens on http://127.0.0.1:")
            yield process, int(line.rpartition(":")[2])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _until_refused(port: int) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            await (await Connection.to(port)).close()


async def test_a_first_signal_lets_replies_finish_and_ends_with_code_0(tmp_path: Path) -> None:
    log = tmp_path / "truth.jsonl"
    async with engine_sim("tgi", "--model-profile", "tiny", "--log", str(log)) as (process, port):
        connection = await Connection.to(port)
        body = {"inputs": "[[slow=30]] a", "parameters": {"max_new_tokens": 6}}
        await connection.send(post("/generate_stream", body, "x-request-id: one"))
        await connection.chunk_after_head()
        process.send_signal(signal.SIGTERM)
        rest = [await connection.chunk() for _ in range(6)]
        await connection.close()
        assert await process.wait() == 0
    assert rest[-1] == ""
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["event"], last["outcome"], last["request_id"], last["sent_tokens"]) == ("ended", "done", "one", 6)


async def test_a_second_signal_ends_at_once() -> None:
    async with engine_sim("tgi", "--model-profile", "tiny") as (process, port):
        connection = await Connection.to(port)
        await connection.send(post("/generate_stream", {"inputs": "[[slow=60000]] a"}))
        await connection.head()
        process.send_signal(signal.SIGINT)
        await _until_refused(port)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
        await connection.close()


async def test_options_reach_the_engine() -> None:
    options = ("--model-profile", "tiny", "--kv-tokens", "500", "--max-concurrent-requests", "7", "--seed", "5")
    async with engine_sim("tgi", *options, "--mean-output-tokens", "3", "--slots", "2", "--speed", "2") as (_, port):
        info = json.loads((await exchange(port, get("/info"), method="GET")).chunks[0])
        reply = await exchange(port, post("/generate", {"inputs": "a"}))
    assert (info["max_total_tokens"], info["max_concurrent_requests"], info["model_id"]) == (500, 7, "tiny")
    assert int(reply.header("x-generated-tokens") or 0) < 100


async def test_steps_are_logged_on_request(tmp_path: Path) -> None:
    log = tmp_path / "steps.jsonl"
    async with engine_sim("tgi", "--model-profile", "tiny", "--steps", str(log)) as (process, port):
        await exchange(port, post("/generate", {"inputs": "a", "parameters": {"max_new_tokens": 3}}))
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events == ["queued", "step", "step", "step", "emptied"]


async def test_an_engine_that_is_started_again_writes_on_where_the_one_before_was_killed(tmp_path: Path) -> None:
    log = tmp_path / "truth.jsonl"
    for name in ("one", "two"):
        async with engine_sim("tgi", "--model-profile", "tiny", "--log", str(log)) as (process, port):
            body = {"inputs": "a", "parameters": {"max_new_tokens": 3}}
            await exchange(port, post("/generate", body, f"x-request-id: {name}"))
            process.kill()
            await process.wait()
        with log.open("ab") as file:
            file.write(b'{"event":"ma')
    arrived, broken = [], 0
    for line in log.read_text().splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            broken += 1
            continue
        if event["event"] == "arrived":
            arrived.append(event["request_id"])
    assert (arrived, broken) == (["one", "two"], 2)


@pytest.mark.parametrize(
    "kind", ["vllm", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("openai", "sglang"))]
)
async def test_the_other_engines_run_too(kind: str, tmp_path: Path) -> None:
    log = tmp_path / "truth.jsonl"
    options = ("--model-profile", "tiny", "--slots", "1", "--seed", "3", "--speed", "2", "--log", str(log))
    async with engine_sim(kind, *options) as (process, port):
        assert (await exchange(port, get("/v1/models"), method="GET")).status == 200
        reply = await exchange(port, post("/v1/completions", {"prompt": "a", "max_tokens": 2}))
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert json.loads(reply.chunks[0])["usage"]["completion_tokens"] == 2
    assert json.loads(log.read_text().splitlines()[-1])["made_tokens"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--listen", "x"], "--listen x: must be HOST:PORT"),
        (["--listen", "192.0.2.1:1"], "--listen 192.0.2.1:1: "),
        (["--model-profile", "a100"], "--model-profile a100: there is no such profile: take one of"),
        (["--slots", "0"], "--slots 0: must be 1 or more"),
        (["--kv-tokens", "1"], "--kv-tokens 1: must be 2 or more"),
        (["--max-concurrent-requests", "0"], "--max-concurrent-requests 0: must be 1 or more"),
        (["--speed", "0"], "--speed 0: must be more than 0"),
        (["--speed", "nan"], "--speed nan: must be more than 0"),
        (["--mean-output-tokens", "-1"], "--mean-output-tokens -1: must be 0 or more"),
        (["--log", "/nonexistent/x"], "--log /nonexistent/x: No such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_code_2(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine-sim", "tgi", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fairqueue engine-sim: {words}")
    assert error.count("\n") == 1
