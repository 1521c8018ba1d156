"""`fairqueue load` as people start it: a process of its own, its exit code and what it prints."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import pytest

from cli.sse_server import Exchange, Serve, chat_event
from fairqueue_sim import running_engine

# The library takes a second to load, and nothing here is about it.
CHEAP = ("--client", "http")


async def start_load(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fairqueue_cli.main", "load", *arguments), stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )


async def output_of(process: Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(20):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def load(*arguments: str) -> tuple[int | None, str, str]:
    return await output_of(await start_load(*arguments))


async def test_json_goes_to_standard_output_alone(serve: Serve, tmp_path: Path) -> None:
    server = await serve(lambda exchange: exchange.chat("a", "b", usage=(5, 2)))
    key = tmp_path / "key"
    key.write_text("sesame")
    tenants = ("--tenant", f"name=chat,workers=2,key_file={key}")
    code, output, errors = await load("--target", server.url, *tenants, "--requests", "6", "--json")
    assert code == 0, errors
    (run,) = json.loads(output)["runs"]
    (tenant,) = run["tenants"]
    assert (tenant["completed"], tenant["prompt_tokens"], tenant["output_tokens"]) == (6, 30, 12)
    assert "sesame" not in output + errors
    assert {exchange.headers["authorization"] for exchange in server.received} == {"Bearer sesame"}


async def test_without_json_a_table_is_printed(serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.chat("a"))
    code, output, _ = await load("--target", server.url, "--tenant", "name=chat", "--until", "chat=3", *CHEAP)
    assert code == 0
    assert output.splitlines()[1].split()[:3] == ["chat", "3", "3"]


async def test_ctrl_c_reports_what_there_is(serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        if len(server.received) < 3:
            await exchange.chat("x")
        else:
            await exchange.begin()
            await exchange.events(chat_event("x"))
            third_is_running.set()

    third_is_running = asyncio.Event()
    server = await serve(answer)
    process = await start_load("--target", server.url, "--tenant", "name=chat", "--duration", "600", "--json", *CHEAP)
    async with asyncio.timeout(20):
        await third_is_running.wait()
    process.send_signal(signal.SIGINT)
    code, output, errors = await output_of(process)
    assert code == 130, errors
    (tenant,) = json.loads(output)["runs"][0]["tenants"]
    assert (tenant["requests"], tenant["completed"]) == (3, 2)
    assert "Traceback" not in errors


async def test_a_target_that_nobody_listens_on_is_one_line(unused_tcp_port: int) -> None:
    target = f"http://127.0.0.1:{unused_tcp_port}"
    code, output, errors = await load("--target", target, "--tenant", "name=chat", *CHEAP)
    assert (code, output) == (1, "")
    assert errors == f"fairqueue load: nothing answers at {target}: connection refused\n"


async def test_bad_input_is_one_line_and_exit_code_2() -> None:
    code, output, errors = await load("--target", "http://127.0.0.1:1", "--tenant", "name=chat,workers=none")
    assert (code, output) == (2, "")
    assert errors.startswith("fairqueue load: --tenant name=chat,workers=none: workers must be a whole number")
    assert errors.count("\n") == 1


async def test_a_workload_is_reported_in_a_table_and_by_its_own_clock() -> None:
    async with running_engine("openai", speed=20) as engine:
        workload = ("--workload", "overload", "--requests", "12", "--speed", "20", *CHEAP)
        code, output, errors = await load("--target", engine.url, *workload)
    assert code == 0, errors
    head, *rows = output.splitlines()
    assert head.split()[:4] == ["tenant", "requests", "completed", "refused"]
    counts = [row.split()[:4] for row in rows[:2]]
    assert [name for name, *_ in counts] == ["client-1", "client-2"]
    assert sum(int(completed) for _, _, completed, _ in counts) == 12
    assert "which ran 20 times as fast" in output


@pytest.mark.long
async def test_ctrl_c_reports_what_a_workload_has_got_so_far(serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        if len(server.received) == 3:
            third_is_here.set()
        else:
            await exchange.chat("x", "y", usage=(256, 256))

    third_is_here = asyncio.Event()
    server = await serve(answer)
    workload = ("--workload", "overload", "--speed", "10", "--json", *CHEAP)
    process = await start_load("--target", server.url, *workload)
    async with asyncio.timeout(20):
        await third_is_here.wait()
    process.send_signal(signal.SIGINT)
    code, output, errors = await output_of(process)
    assert code == 130, errors
    assert sum(tenant["completed"] for tenant in json.loads(output)["runs"][0]["tenants"]) == 2
    assert "Traceback" not in errors
