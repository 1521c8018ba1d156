"""`fairqueue serve` and its configuration as files: rewritten while it serves, not there yet, gone at a restart."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fairqueue_api import Document
from fairqueue_sim import RunningEngine, running_engine
from proxy.crowd import generate
from proxy.raw_client import RawClient, Reply, ask, request
from proxy.samples import sample
from proxy_stack import Stack, document_of, key_of, serving, serving_proxy

PATIENCE_SECONDS = 10.0
TENANTS = [{"name": "alice"}, {"name": "bob"}]


@pytest.fixture
async def engine() -> AsyncIterator[RunningEngine]:
    """A simulated TGI with a millisecond a step."""
    async with running_engine("tgi", profile="tiny") as running:
        yield running


@asynccontextmanager
async def configured(folder: Path, engine: RunningEngine, *options: object) -> AsyncIterator[Stack]:
    """A proxy as in a pod; it reads `folder/config` and logs to `folder/log`."""
    (folder / "config").mkdir(exist_ok=True)
    given = ("--config", folder / "config", "--engine-kind", "TGI", *options)
    async with serving(engine.port, folder / "log", *given) as stack:
        yield stack


def publish(folder: Path, content: bytes) -> None:
    """Puts a document in its place."""
    beside = folder / "config" / ".beside"
    beside.write_bytes(content)
    beside.replace(folder / "config" / "document.json")


@pytest.fixture
def weighing(tmp_path: Path) -> Callable[[int], Document]:
    """A document in which alice has this weight."""

    @cache
    def document(weight: int) -> Document:
        tenants = [{"name": "alice", "weight": weight}, TENANTS[1]]
        return document_of(tmp_path / f"weight-{weight}", tenants=tenants)

    return document


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits for what another process does."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():
            await asyncio.sleep(0.02)


async def config(stack: Stack) -> dict[str, Any]:
    return dict(json.loads((await stack.get(stack.admin, "/-/config"))[1]))


async def in_force(stack: Stack, revision: str) -> None:
    async def condition() -> bool:
        return bool((await config(stack))["revision"] == revision)

    await until(condition)


async def ready(stack: Stack) -> tuple[int, list[str]]:
    status, text = await stack.get(stack.admin, "/-/ready")
    return status, json.loads(text)["reasons"]


async def asked(stack: Stack, key: str) -> Reply:
    headers = {"Authorization": f"Bearer {key}"}
    return await ask(stack.data, request("/generate", generate(), headers=headers))


def replace(path: Path, text: str) -> None:
    beside = path.with_name(".beside")
    beside.write_text(text)
    beside.replace(path)


async def test_a_policy_file_and_its_keys_may_be_rewritten_while_it_serves(
    tmp_path: Path, engine: RunningEngine
) -> None:
    policy, key = tmp_path / "policy.yaml", tmp_path / "secrets" / "keys" / "alice"
    async with (
        serving_proxy(tmp_path, engine.port, tmp_path / "log", tenants=TENANTS) as stack,
        RawClient(stack.data) as client,
    ):
        slow = generate("[[slow=20]] hello", max_new_tokens=100)
        client.send(request("/generate_stream", slow, tenant="alice"))
        stream = await client.until(b"\n\n")
        # A key.
        key.write_text("rotated")

        async def rotated() -> bool:
            return (await asked(stack, "rotated")).status == 200

        await until(rotated)
        assert (await asked(stack, key_of("alice"))).status == 401
        # A weight.
        text = policy.read_text()
        heavier = json.loads(text)
        heavier["spec"]["tenants"][0]["weight"] = 7
        replace(policy, json.dumps(heavier))

        async def weighs_seven() -> bool:
            return sample(await stack.metrics(), "tenant_weight", tenant="alice") == 7

        await until(weighs_seven)
        before = await config(stack)
        # A mistake, which is told with file and field, and changes nothing.
        heavier["spec"]["tenants"][0]["wieght"] = heavier["spec"]["tenants"][0].pop("weight")
        replace(policy, json.dumps(heavier))

        async def noticed() -> bool:
            return (await config(stack))["problem"] is not None

        await until(noticed)
        told = await config(stack)
        assert "policy.yaml" in told["problem"]
        assert "spec.tenants[0].wieght" in told["problem"]
        assert told["revision"] == before["revision"]
        assert sample(await stack.metrics(), "config_reload_failures_total") == 1
        assert sample(await stack.metrics(), "tenant_weight", tenant="alice") == 7
        stream += await client.until(b"\r\n0\r\n\r\n")
        assert stream.count(b"data:") == 100
    log = (tmp_path / "log").read_text()
    assert "rotated" not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert sum("is in force, revision" in line["message"] for line in lines) == 2
    (error,) = [line for line in lines if line["level"] == "error"]
    assert "the new configuration is not used: " in error["message"]


async def test_without_a_document_it_relays_what_is_free_until_there_is_one(
    tmp_path: Path, engine: RunningEngine, weighing: Callable[[int], Document]
) -> None:
    async with configured(tmp_path, engine) as stack:
        for path in ("/generate", "/v1/chat/completions"):
            reply = await ask(stack.data, request(path, {**generate(), "messages": []}, tenant="alice"))
            assert reply.status == 503
            assert 1 <= int(reply.headers["retry-after"]) <= 120
            error = reply.json if path == "/generate" else reply.json["error"]
            assert error["reason"] == "unconfigured"
        assert (await stack.get(stack.data, "/health"))[0] == 200
        assert json.loads((await stack.get(stack.data, "/info"))[1])["max_total_tokens"] > 0
        assert await ready(stack) == (503, ["no policy"])
        assert (await stack.get(stack.admin, "/-/live"))[0] == 200
        told = await config(stack)
        assert (told["policy"], told["revision"]) == (None, None)
        assert "document.json: No such file" in told["problem"]
        text = await stack.metrics()
        assert sample(text, "requests_total", tenant="", outcome="unconfigured") == 2
        assert "fairqueue_config_info{" not in text
        # One that is broken is no reason to go on differently.
        publish(tmp_path, b'{"schema": 2}')

        async def noticed() -> bool:
            return "schema" in (await config(stack))["problem"]

        await until(noticed)
        assert (await asked(stack, key_of("alice"))).status == 503
        publish(tmp_path, weighing(3).to_json())
        await in_force(stack, weighing(3).revision)
        assert await ready(stack) == (200, [])
        assert (await asked(stack, key_of("alice"))).status == 200
        assert (await asked(stack, "unknown")).status == 401
        assert (await config(stack))["problem"] is None
        assert sample(await stack.metrics(), "tenant_weight", tenant="alice") == 3
    assert engine.truth.requests[-1].path == "/generate"


async def test_each_document_comes_into_force_and_a_stream_goes_on(
    tmp_path: Path, engine: RunningEngine, weighing: Callable[[int], Document]
) -> None:
    (tmp_path / "config").mkdir()
    publish(tmp_path, weighing(1).to_json())
    async with configured(tmp_path, engine) as stack, RawClient(stack.data) as client:
        assert (await config(stack))["revision"] == weighing(1).revision
        slow = generate("[[slow=20]] hello", max_new_tokens=80)
        client.send(request("/generate_stream", slow, tenant="alice"))
        stream = await client.until(b"\n\n")
        for weight in (2, 3):
            publish(tmp_path, weighing(weight).to_json())
            await in_force(stack, weighing(weight).revision)
            assert sample(await stack.metrics(), "tenant_weight", tenant="alice") == weight
        stream += await client.until(b"\r\n0\r\n\r\n")
        assert stream.count(b"data:") == 80
        assert sample(await stack.metrics(), "config_reload_failures_total") == 0


async def test_fields_from_the_future_are_named_in_the_log_and_the_rest_is_used(
    tmp_path: Path, engine: RunningEngine, weighing: Callable[[int], Document]
) -> None:
    def with_future(weight: int) -> bytes:
        content = json.loads(weighing(weight).to_json())
        return json.dumps({**content, "future": 1, "queue": {**content["queue"], "magic": True}}).encode()

    (tmp_path / "config").mkdir()
    publish(tmp_path, with_future(1))
    async with configured(tmp_path, engine) as stack:
        assert await ready(stack) == (200, [])
        publish(tmp_path, with_future(2))
        await in_force(stack, weighing(2).revision)
        assert (await config(stack))["problem"] is None
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    warnings = [line["message"] for line in lines if line["level"] == "warning"]
    assert len(warnings) == 2
    assert all(warning.endswith("that this version does not know: future, queue.magic") for warning in warnings)


@pytest.mark.parametrize("config_is", ["gone", pytest.param("broken", marks=pytest.mark.long)])
async def test_a_restart_without_a_document_starts_by_the_last_good_one(
    tmp_path: Path, engine: RunningEngine, weighing: Callable[[int], Document], config_is: str
) -> None:
    last_good = tmp_path / "memory" / "last-good.json"
    last_good.parent.mkdir()
    (tmp_path / "config").mkdir()
    document = tmp_path / "config" / "document.json"
    publish(tmp_path, weighing(1).to_json())
    async with configured(tmp_path, engine, "--last-good", last_good) as stack:
        publish(tmp_path, weighing(2).to_json())
        await in_force(stack, weighing(2).revision)
        assert stack.process is not None
        os.kill(stack.process.pid, signal.SIGKILL)
        await stack.process.wait()
    if config_is == "gone":
        document.unlink()
    else:
        publish(tmp_path, b"{")
    async with configured(tmp_path, engine, "--last-good", last_good) as stack:
        assert (await config(stack))["revision"] == weighing(2).revision
        assert (await asked(stack, key_of("alice"))).status == 200
        assert sample(await stack.metrics(), "tenant_weight", tenant="alice") == 2

        async def told() -> bool:
            return (await config(stack))["problem"] is not None

        await until(told)
        publish(tmp_path, weighing(3).to_json())
        await in_force(stack, weighing(3).revision)
        assert (await config(stack))["problem"] is None
    assert json.loads(last_good.read_bytes())["revision"] == weighing(3).revision
    first = json.loads((tmp_path / "log").read_text().splitlines()[0])
    assert first["level"] == "warning"
    assert ("No such file" if config_is == "gone" else "is not JSON") in first["message"]


@pytest.mark.parametrize("content", [None, b"", b'{"schema": 2}'], ids=["not there", "empty", "another schema"])
async def test_a_last_good_document_that_is_none_is_named_and_it_waits_for_one(
    tmp_path: Path, engine: RunningEngine, content: bytes | None
) -> None:
    last_good = tmp_path / "last-good.json"
    if content is not None:
        last_good.write_bytes(content)
    async with configured(tmp_path, engine, "--last-good", last_good) as stack:
        assert await ready(stack) == (503, ["no policy"])
    warnings = [json.loads(line)["message"] for line in (tmp_path / "log").read_text().splitlines()[:2]]
    assert ["document.json" in warnings[0], str(last_good) in warnings[1]] == [True, True]


def test_without_a_document_the_engines_kind_must_be_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fairqueue_cli.main", "serve", "--config", str(tmp_path), "--engine", "http://x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "fairqueue serve: --config needs --engine-kind, one of TGI, VLLM, SGLang, LlamaCpp, OpenAI\n"
    )


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="neither policy nor config"),
        pytest.param(("--policy", "p", "--config", "c"), id="both"),
        pytest.param(("--config", "c", "--engine-kind", "Ollama"), id="an engine that is none"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "fairqueue_cli.main", "serve", *options, "--engine", "http://x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert any(word in done.stderr for word in ("--policy", "--config", "--engine-kind"))
