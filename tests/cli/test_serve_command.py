"""`fairqueue serve` and `fairqueue drain` as they are run: child processes, signals, exit codes and what they print."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fairqueue_api.address import Address
from fairqueue_cli.serve import _engine
from fairqueue_sim import running_engine
from proxy.raw_client import RawClient, ask, request
from proxy_stack import Stack, key_of, serving_proxy, write_policy

TENANTS = [{"name": "alice"}, {"name": "bob"}]
MODULE = [sys.executable, "-m", "fairqueue_cli.main"]
HEAVY = {"kopf", "kubernetes", "numpy", "matplotlib"}


def stream(words: str, tokens: int) -> bytes:
    body = {"inputs": words, "parameters": {"max_new_tokens": tokens}}
    return request("/generate_stream", body, tenant="alice", headers={"x-request-id": "the-stream"})


@asynccontextmanager
async def serving(folder: Path, **policy: Any) -> AsyncIterator[Stack]:
    """A proxy process in front of a simulated engine; its log goes to `folder/log`."""
    async with (
        running_engine("tgi", profile="tiny") as engine,
        serving_proxy(folder, engine.port, folder / "log", tenants=TENANTS, **policy) as stack,
    ):
        yield stack


def tell(stack: Stack, number: signal.Signals) -> None:
    assert stack.process is not None
    stack.process.send_signal(number)


async def exit_code(stack: Stack) -> int:
    assert stack.process is not None
    async with asyncio.timeout(10):
        return await stack.process.wait()


async def logged(folder: Path, words: str) -> None:
    """Returns when the log has these words."""
    async with asyncio.timeout(10):
        # Another process writes it.
        while words not in (folder / "log").read_text():
            await asyncio.sleep(0.005)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The log's lines, each of them JSON."""
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
async def test_told_to_go_it_finishes_the_stream_takes_no_connection_and_exits_with_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with serving(tmp_path) as stack:
        async with RawClient(stack.data) as client:
            client.send(stream("[[slow=20]] hello", 20))
            beginning = await client.until(b"\n\n")
            tell(stack, number)
            await logged(tmp_path, "drain begins")
            with pytest.raises(ConnectionRefusedError):
                await ask(stack.data, request("/health", method="GET"))
            rest = await client.rest()
            assert (beginning + rest).count(b"data:") == 20
            assert rest.endswith(b"\r\n0\r\n\r\n")
        assert await exit_code(stack) == 0
    (line,) = [line for line in lines_of(tmp_path) if line["message"] == "request"]
    assert (line["outcome"], line["output_tokens"]) == ("completed", 20)


async def test_told_a_second_time_it_ends_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as stack, RawClient(stack.data) as client:
        client.send(stream("[[slow=200]] hello", 1000))
        await client.until(b"\r\n\r\n")
        tell(stack, signal.SIGTERM)
        await logged(tmp_path, "drain begins")
        started_at = time.monotonic()
        tell(stack, signal.SIGTERM)
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
        assert await exit_code(stack) == 0
        assert time.monotonic() - started_at < 3
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_without_anything_to_finish_it_goes_at_once_and_leaves_its_ports(tmp_path: Path) -> None:
    async with serving(tmp_path) as stack:
        started_at = time.monotonic()
        tell(stack, signal.SIGTERM)
        assert await exit_code(stack) == 0
        assert time.monotonic() - started_at < 3
        for address in (stack.data, stack.admin, stack.local):
            with socket.create_server((address.host, address.port)):
                pass


async def test_every_line_of_the_log_is_json_and_none_holds_a_key_or_a_prompt(tmp_path: Path) -> None:
    async with serving(tmp_path) as stack:
        await ask(stack.data, stream("a secret prompt", 3))
        keys = {"Authorization": "Bearer a-wrong-secret-key", "x-request-id": "refused"}
        await ask(stack.data, request("/generate", {"inputs": "a secret prompt"}, headers=keys))
        await ask(stack.data, request(f"/generate?key={key_of('bob')}", b"{", tenant="bob"))
        await ask(stack.data, request("/nowhere", {"inputs": "a secret prompt"}, tenant="bob"))
        await ask(stack.data, f"GET / HTTP/1.1\r\nHost\x00: {key_of('bob')}\r\n\r\n".encode())
        tell(stack, signal.SIGTERM)
        assert await exit_code(stack) == 0
    text = (tmp_path / "log").read_text()
    for secret in (key_of("alice"), key_of("bob"), "secret"):
        assert secret not in text
    lines = lines_of(tmp_path)
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["level"] in ("info", "warning")
    outcomes = [line["outcome"] for line in lines if line["message"] == "request"]
    assert outcomes == ["completed", "unauthenticated", "bad_request", "forbidden_route", "bad_request"]
    completed, refused = (line for line in lines if line.get("request_id") in ("the-stream", "refused"))
    assert completed["queue_seconds"] <= completed["ttft_seconds"] <= completed["seconds"]
    assert (completed["tenant"], completed["route"]) == ("alice", "POST /generate_stream")
    assert (completed["status"], completed["output_tokens"], completed["cached_input_tokens"]) == (200, 3, 0)
    assert completed["cost"] == completed["input_tokens"] + 2 * 3
    assert (refused["tenant"], refused["status"]) == ("", 401)


def drain_command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MODULE, "drain", *options], capture_output=True, text=True, timeout=20, check=False)


async def test_the_drain_command_begins_a_drain(tmp_path: Path) -> None:
    async with serving(tmp_path) as stack:
        local = f"{stack.local.host}:{stack.local.port}"
        done = await asyncio.to_thread(drain_command, "--local", local)
        assert (done.returncode, done.stdout, done.stderr) == (0, "drain begun\n", "")
        status, text = await stack.get(stack.admin, "/-/ready")
        assert (status, json.loads(text)["reasons"]) == (503, ["draining"])
        again = await asyncio.to_thread(drain_command, "--local", local)
        assert again.returncode == 0
        # The other listener can't drain.
        admin = f"{stack.admin.host}:{stack.admin.port}"
        wrong = await asyncio.to_thread(drain_command, "--local", admin)
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert wrong.stderr == f"fairqueue drain: {admin} answered 404: is it a proxy's --local address?\n"


def test_the_drain_command_without_a_proxy_says_so_and_exits_with_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        local = f"127.0.0.1:{free.getsockname()[1]}"
    done = drain_command("--local", local)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"fairqueue drain: no proxy answers at {local}: .*[Cc]onnection refused.*\n", done.stderr)


@pytest.mark.parametrize("local", ["127.0.0.1:many", "127.0.0.1:99999", "9821"])
def test_the_drain_command_refuses_what_is_no_address(local: str) -> None:
    done = drain_command("--local", local)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"fairqueue drain: --local {local}: must be HOST:PORT, e.g. 127.0.0.1:9821\n"


@pytest.fixture
def options(tmp_path: Path) -> dict[str, str]:
    """Options with which `serve` would run."""
    policy, secrets = write_policy(tmp_path, tenants=TENANTS)
    return {
        "--policy": str(policy),
        "--secrets": str(secrets),
        "--engine": "http://127.0.0.1:9",
        "--listen": "127.0.0.1:0",
        "--admin": "127.0.0.1:0",
        "--local": "127.0.0.1:0",
    }


def refusal(options: dict[str, str]) -> str:
    """What `serve` with these options says when it exits with 2: one line."""
    words = [word for pair in options.items() for word in pair]
    done = subprocess.run([*MODULE, "serve", *words], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("fairqueue serve: ")
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1
    return done.stderr


BAD_ADDRESSES = {
    ("--engine", "127.0.0.1:8000"): "must be http://HOST:PORT without a path, e.g. http://127.0.0.1:8000",
    ("--engine", "https://engine"): "must be http://HOST:PORT",
    ("--engine", "http://engine:8000/v1"): "without a path",
    ("--engine", "http://engine:many"): "must be http://HOST:PORT",
    ("--listen", "127.0.0.1"): "must be HOST:PORT, e.g. 127.0.0.1:8080",
    ("--listen", "127.0.0.1:http"): "must be HOST:PORT",
    ("--listen", "127.0.0.1:\u00b2"): "must be HOST:PORT",
    ("--listen", "a..b:8080"): "this can't be the name of a host: choose another address",
    ("--admin", "0.0.0.0:70000"): "must be HOST:PORT",
    ("--local", "127.0.0.1"): "must be HOST:PORT",
    ("--local", "0.0.0.0:9821"): "must be on loopback, e.g. 127.0.0.1:9821",
    ("--local", ":9821"): "must be on loopback",
}


@pytest.mark.parametrize(("option", "value"), BAD_ADDRESSES, ids=lambda text: text)
def test_a_bad_address_is_refused_with_its_option_and_what_it_must_be(
    options: dict[str, str], option: str, value: str
) -> None:
    said = refusal({**options, option: value})
    assert f"{option} {value}: " in said
    assert BAD_ADDRESSES[option, value] in said


@pytest.mark.parametrize(
    "option", ["--listen", *(pytest.param(option, marks=pytest.mark.long) for option in ("--admin", "--local"))]
)
def test_a_port_in_use_is_named_with_its_option(options: dict[str, str], option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        said = refusal({**options, option: address})
    assert f"{option} {address}: " in said
    assert "address already in use" in said.lower()
    assert "choose another" in said


def test_an_address_of_another_machine_is_named_with_its_option(options: dict[str, str]) -> None:
    assert "--listen 192.0.2.1:8080: " in refusal({**options, "--listen": "192.0.2.1:8080"})


def _without_key(policy: dict[str, Any]) -> None:
    policy["spec"]["tenants"][0]["apiKeySecretRefs"][0]["key"] = "nobody"


def _misspelled(policy: dict[str, Any]) -> None:
    policy["spec"]["tenants"][1]["wieght"] = policy["spec"]["tenants"][1].pop("weight", 2)


BAD_POLICIES: dict[str, tuple[Callable[[dict[str, Any]], None], list[str]]] = {
    "a key that is not there": (_without_key, ["secrets/keys/nobody", "file not found", "apiKeySecretRefs"]),
    "a field that does not exist": (_misspelled, ["policy.yaml", "spec.tenants[1].wieght"]),
}


@pytest.mark.parametrize("case", BAD_POLICIES)
def test_a_bad_policy_is_refused_with_file_field_and_fix(options: dict[str, str], case: str) -> None:
    spoil, expected = BAD_POLICIES[case]
    path = Path(options["--policy"])
    policy = json.loads(path.read_text())
    spoil(policy)
    path.write_text(json.dumps(policy))
    said = refusal(options)
    assert [words for words in expected if words not in said] == [], said


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        pytest.param("--policy", "nowhere.yaml", "nowhere.yaml", id="no policy"),
        pytest.param("--secrets", "nowhere", "nowhere", id="no secrets"),
    ],
)
def test_a_file_that_is_not_there_is_named(options: dict[str, str], option: str, value: str, expected: str) -> None:
    said = refusal({**options, option: value})
    assert expected in said
    assert "not found" in said


def test_keys_without_a_directory_for_them_are_refused(options: dict[str, str]) -> None:
    del options["--secrets"]
    assert "pass --secrets DIR" in refusal(options)


@pytest.mark.long
def test_a_policy_that_is_no_yaml_is_refused_without_a_traceback(options: dict[str, str]) -> None:
    Path(options["--policy"]).write_text("spec: [")
    assert "policy.yaml" in refusal(options)


def test_serving_imports_nothing_that_a_sidecar_does_not_need(options: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        options["--listen"] = f"127.0.0.1:{other.getsockname()[1]}"
        words = [word for pair in options.items() for word in pair]
        command = [sys.executable, "-X", "importtime", *MODULE[1:], "serve", *words]
        # It gets as far as its last port.
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert {"aiohttp", "uvloop", "fairqueue_proxy"} <= imported
    assert not HEAVY & imported
    assert not {"pydantic", "yaml"} & imported, "policies are read by a process of their own"


def test_help_needs_no_engine_and_names_every_option() -> None:
    done = subprocess.run([*MODULE, "serve", "--help"], capture_output=True, text=True, timeout=20, check=True)
    for option in ("--policy", "--secrets", "--engine", "--record", "--listen", "--admin", "--local"):
        assert option in done.stdout


def test_an_engines_address_is_read_as_it_is_written() -> None:
    assert _engine("http://[::1]:8000/") == Address("::1", 8000)
    assert _engine("http://engine") == Address("engine", 80)
