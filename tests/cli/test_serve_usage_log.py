"""`fairqueue serve --usage-log`: what it is billed by survives whatever end the proxy comes to."""

import asyncio
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairqueue_sim import RunningEngine, running_engine
from proxy.raw_client import RawClient, ask, request
from proxy.samples import sample
from proxy.usage import KINDS, usage_files, usage_lines, usage_sums
from proxy_stack import Stack, serving, write_policy

TENANTS = [{"name": "alice"}, {"name": "bob"}]
STREAM = "/generate_stream"


@pytest.fixture
def usage(tmp_path: Path) -> Path:
    folder = tmp_path / "usage"
    folder.mkdir()
    return folder


@asynccontextmanager
async def billing(folder: Path, usage: Path, engine: RunningEngine, *options: object) -> AsyncIterator[Stack]:
    """A proxy process with a usage log."""
    policy, secrets = folder / "policy.yaml", folder / "secrets"
    if not policy.exists():
        write_policy(folder, tenants=TENANTS)
    chosen = ("--policy", policy, "--secrets", secrets, "--usage-log", usage, *options)
    async with serving(engine.port, folder / "log", *chosen) as stack:
        yield stack


@pytest.fixture
async def engine() -> AsyncIterator[RunningEngine]:
    async with running_engine("tgi", profile="tiny") as running:
        yield running


def asking(name: str, tenant: str = "alice", tokens: int = 3) -> bytes:
    body = {"inputs": "a secret prompt", "parameters": {"max_new_tokens": tokens}}
    return request(STREAM, body, tenant=tenant, headers={"x-request-id": name})


async def served(stack: Stack, *names: str) -> None:
    replies = await asyncio.gather(*(ask(stack.data, asking(name)) for name in names))
    assert [reply.status for reply in replies] == [200] * len(names)


async def end(stack: Stack, number: signal.Signals) -> int:
    assert stack.process is not None
    stack.process.send_signal(number)
    async with asyncio.timeout(20):
        return await stack.process.wait()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        # Another process writes.
        while not condition():
            await asyncio.sleep(0.01)


async def written(stack: Stack, lines: int) -> None:
    """Returns when so many are on the disk, by the proxy's own count."""
    async with asyncio.timeout(20):
        while sample(await stack.metrics(), "usage_log_written_lines_total") < lines:
            await asyncio.sleep(0.01)


def named(usage: Path) -> set[str]:
    """The requests that there are lines of, each once."""
    names = [line["request_id"] for line in usage_lines(usage)]
    assert len(set(names)) == len(names)
    return set(names)


async def hang_up(stack: Stack, name: str) -> None:
    async with RawClient(stack.data) as client:
        client.send(asking(name, "bob", 500))
        await client.until(b"\n\n")
        client.reset()


async def test_told_to_go_it_writes_all_and_the_sums_are_the_engines_own(
    tmp_path: Path, usage: Path, engine: RunningEngine
) -> None:
    async with billing(tmp_path, usage, engine, "--usage-log-max-bytes", 1000) as stack:
        await served(stack, *(f"a{number}" for number in range(20)))
        for number in range(3):
            await hang_up(stack, f"b{number}")
        async with asyncio.timeout(10):
            while (queue := await stack.queue())["queued"] or queue["in_flight"]:
                await asyncio.sleep(0.01)
        text = await stack.metrics()
        assert await end(stack, signal.SIGTERM) == 0
    sums = usage_sums(lines := usage_lines(usage))
    for tenant, counts in sums.items():
        assert {kind: sample(text, "tokens_total", tenant=tenant, kind=kind) for kind in KINDS} == {
            kind: counts[kind] for kind in KINDS
        }
        assert sample(text, "service_total", tenant=tenant) == counts["cost"]
    truths = [engine.truth.find(line["request_id"]) for line in lines if line["tenant"] == "alice"]
    assert sums["alice"]["input"] == sum(truth.prompt_tokens for truth in truths)
    assert sums["alice"]["output"] == sum(truth.made_tokens for truth in truths) == 20 * 3
    assert len(lines) == 23
    # Finished all of them, and none too large.
    files = usage_files(usage)
    assert {path.suffix for path in files} == {f".{number}" for number in range(1, len(files) + 1)}
    assert all(path.stat().st_size <= 1000 for path in files)
    assert not any("secret" in path.read_text() for path in files)


async def test_killed_it_loses_no_more_than_the_last_interval_and_the_next_one_writes_a_file_of_its_own(
    tmp_path: Path, usage: Path, engine: RunningEngine
) -> None:
    early, late, after = ([f"{when}{number}" for number in range(5)] for when in ("early", "late", "after"))
    async with billing(tmp_path, usage, engine) as stack:
        await served(stack, *early)
        # One interval, and what a busy machine takes.
        await written(stack, 5)
        assert named(usage) == set(early)
        await served(stack, *late)
        await end(stack, signal.SIGKILL)
    kept = named(usage)
    assert set(early) <= kept <= {*early, *late}
    (left,) = usage_files(usage)
    with left.open("a") as file:
        # As a machine that goes down may leave it.
        file.write('{"time":"2026-')
    before = left.read_bytes()
    async with billing(tmp_path, usage, engine) as stack:
        await served(stack, *after)
        assert await end(stack, signal.SIGTERM) == 0
    assert left.read_bytes() == before
    assert named(usage) == kept | set(after)


async def test_told_twice_to_go_it_writes_what_it_has(tmp_path: Path, usage: Path, engine: RunningEngine) -> None:
    async with billing(tmp_path, usage, engine) as stack, RawClient(stack.data) as client:
        await served(stack, "one")
        body = {"inputs": "[[slow=200]] x", "parameters": {"max_new_tokens": 100}}
        client.send(request(STREAM, body, tenant="bob", headers={"x-request-id": "slow"}))
        await client.until(b"\n\n")
        assert stack.process is not None
        stack.process.send_signal(signal.SIGTERM)
        await until(lambda: "drain begins" in (tmp_path / "log").read_text())
        assert await end(stack, signal.SIGTERM) == 0
    assert named(usage) == {"one", "slow"}


async def test_a_disk_that_fills_up_is_told_once_and_what_waited_is_written_when_there_is_room_again(
    tmp_path: Path, usage: Path, engine: RunningEngine
) -> None:
    log = tmp_path / "log"
    async with billing(tmp_path, usage, engine) as stack:
        assert stack.process is not None
        await served(stack, "first")
        await until(lambda: named(usage) == {"first"})
        # As if the disk had room for this much.
        room_bytes = usage_files(usage)[0].stat().st_size + 100
        hard = resource.prlimit(stack.process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(stack.process.pid, resource.RLIMIT_FSIZE, (room_bytes, hard))
        await served(stack, *"12345")
        await until(lambda: "can't be written" in log.read_text())
        assert named(usage) == {"first"}
        await served(stack, "6")
        resource.prlimit(stack.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        await until(lambda: named(usage) == {"first", *"123456"})
        assert sample(await stack.metrics(), "usage_log_lost_lines_total") == 0
        assert await end(stack, signal.SIGTERM) == 0
    text = log.read_text()
    assert text.count(f"the usage log in {usage} can't be written: File too large") == 1
    assert text.count(f"the usage log in {usage} is written again; 0 lines are lost") == 1


def test_a_folder_that_is_not_there_is_named_with_option_and_fix(tmp_path: Path) -> None:
    policy, secrets = write_policy(tmp_path, tenants=TENANTS)
    command = [sys.executable, "-m", "fairqueue_cli.main", "serve", "--policy", policy, "--secrets", secrets]
    command += ["--engine", "http://127.0.0.1:9", "--usage-log", tmp_path / "none"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"fairqueue serve: --usage-log {tmp_path}/none: can't be written: No such file or directory: choose a folder "
        "that the proxy may write to\n"
    )


def test_who_keeps_no_usage_log_does_not_load_what_writes_it() -> None:
    code = "import sys, fairqueue_cli.serve, fairqueue_cli.serving; print('fairqueue_proxy.usage_log' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "False\n"
