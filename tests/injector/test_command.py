"""`python -m fairqueue_operator injector` as a process of its own, beside an API server over HTTP; and its options."""

import asyncio
import base64
import json
import os
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fairqueue_operator.__main__ import main
from fairqueue_operator.injector_options import OptionError, add_arguments, read_options
from injector.api_server import POLICIES, ApiServer
from injector.command_process import CommandProcess
from injector.conftest import PATIENCE_SECONDS, policy, review, until
from injector.leaves import AUTHORITY, leaf
from injector.running import NAME


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    server = await ApiServer().start()
    server.add_webhooks("fairqueue-injector", "inject.fairqueue.dev")
    server.put(policy())
    yield server
    await server.stop()


class Process(CommandProcess):
    """The injector's, with its ports."""

    def __init__(self, kubeconfig: Path, *arguments: str) -> None:
        given = ["--image", "example.org/proxy:1", "--namespace", "fairqueue-system"]
        given += ["--listen", "127.0.0.1:0", "--health", "127.0.0.1:0", *arguments]
        super().__init__(kubeconfig, "injector-0", "injector", *given)

    async def start(self) -> "Process":
        await self.begin()
        return self

    async def ready(self) -> "Process":
        await until(lambda: bool(self.said("listening")))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.readiness() != 200:
                await asyncio.sleep(0.02)
        return self

    async def readiness(self) -> int:
        url = f"http://127.0.0.1:{self.said('listening')[0]['health']}/readyz"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status

    async def ask(self, server: ApiServer, body: Any) -> Any:
        """What it answers to somebody who trusts what the webhook configuration says now."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=server.bundle().decode())
        url = f"https://127.0.0.1:{self.said('listening')[0]['admissions']}/inject"
        posting = {"json": body, "ssl": context, "server_hostname": NAME}
        async with aiohttp.ClientSession() as session, session.post(url, **posting) as response:
            return (await response.json())["response"]


@pytest.fixture
async def process(server: ApiServer, tmp_path: Path) -> AsyncIterator[Process]:
    process = Process(server.kubeconfig(tmp_path / "kubeconfig"), "--shutdown-delay", "0.3")
    yield process
    if process.process.returncode is None:
        process.process.kill()
    await process.ended()


async def test_it_makes_its_certificate_injects_pods_and_ends_in_order(server: ApiServer, process: Process) -> None:
    await (await process.start()).ready()
    assert set(server.secrets) == {"fairqueue-injector-ca", "fairqueue-injector-tls"}
    assert (await process.ask(server, review()))["patch"]
    await until(lambda: len(server.watches) == 1)
    server.change("DELETED", server.policies.pop(("team", "chat")))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await process.ask(server, review(dryRun=True)))["allowed"]:
            await asyncio.sleep(0.01)
    assert not (await process.ask(server, review()))["allowed"]
    await until(lambda: len(server.events) == 1)
    assert server.events[0]["reportingInstance"] == "injector-0"
    process.process.send_signal(signal.SIGTERM)
    assert await process.ended() == (0, "")
    assert all({"time", "level", "message"} <= set(line) for line in process.lines)
    decisions = [line["decision"] for line in process.said("admission")]
    assert (decisions[0], decisions[-1]) == ("injected", "missing_policy")
    assert [line["message"] for line in process.lines[-2:]] == ["not ready any more", "stopped"]
    assert "PRIVATE" not in json.dumps(process.lines)


async def test_a_pod_that_was_just_denied_is_injected_once_its_policy_is_there(
    server: ApiServer, process: Process
) -> None:
    server.policies.clear()
    await (await process.start()).ready()
    assert not (await process.ask(server, review()))["allowed"]
    # No word to the watch: the list made for this pod finds it.
    server.put(policy())
    assert (await process.ask(server, review()))["allowed"]


async def test_it_serves_a_mounted_certificate_and_leaves_secrets_and_the_bundle_alone(
    server: ApiServer, process: Process, tmp_path: Path
) -> None:
    pair = leaf()
    for name, content in (("tls.crt", pair.certificate_pem), ("tls.key", pair.key_pem)):
        (tmp_path / name).write_bytes(content)
    process.arguments += ["--certificate-files", str(tmp_path)]
    await (await process.start()).ready()
    assert server.bundle() == b""
    # When it looks for bare pods first is a matter of chance.
    assert {seen.path for seen in server.requests} - {"/api/v1/pods"} == {"/version", POLICIES}
    client_config = server.webhooks["fairqueue-injector"]["webhooks"][0]["clientConfig"]
    client_config["caBundle"] = base64.b64encode(AUTHORITY.certificate_pem).decode()
    assert (await process.ask(server, review()))["allowed"]


async def test_an_old_api_server_is_refused_in_one_line(server: ApiServer, process: Process) -> None:
    server.version = {"major": "1", "minor": "31"}
    await process.start()
    line = "fairqueue injector: Kubernetes 1.31 is too old: fairqueue's proxies need 1.32 or newer\n"
    assert await process.ended() == (2, line)


async def test_a_port_that_is_taken_is_refused_in_one_line(server: ApiServer, process: Process) -> None:
    process.arguments += ["--listen", server.url.removeprefix("http://")]
    code, error = await (await process.start()).ended()
    assert code == 2
    assert error.count("\n") == 1
    assert "address already in use" in error


async def test_two_signals_end_it_at_once(server: ApiServer, process: Process) -> None:
    process.arguments += ["--shutdown-delay", "300"]
    await (await process.start()).ready()
    process.process.send_signal(signal.SIGINT)
    await until(lambda: bool(process.said("not ready any more")))
    assert await process.readiness() == 503
    process.process.send_signal(signal.SIGTERM)
    assert await process.ended() == (0, "")


async def test_a_signal_while_the_api_server_is_away_ends_it(process: Process, server: ApiServer) -> None:
    await server.stop()
    await process.start()
    await until(lambda: bool(process.said("the API server's version is not known yet")))
    process.process.send_signal(signal.SIGTERM)
    assert await process.ended() == (0, "")


def test_help_has_an_example_and_loads_no_client_library(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["injector", "--help"])
    assert ended.value.code == 0
    assert "example:\n  python -m fairqueue_operator injector --image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["manager"], "invalid choice"),
        (["injector"], "--image"),
        (["injector", "--image", "x"], "--namespace: not given"),
        (["injector", "--image", "x", "--namespace", "n", "--listen", "9443x"], "--listen 9443x: must be HOST:PORT"),
        (["injector", "--image", "x", "--namespace", "n", "--health", "h:99999"], "--health h:99999: must be"),
        (["injector", "--image", "x", "--namespace", "n", "--shutdown-delay", "-1"], "--shutdown-delay -1: must be"),
        (["injector", "--image", "x", "--namespace", "n", "--shutdown-delay", "nan"], "--shutdown-delay nan: must be"),
        (["injector", "--image", "x", "--namespace", "n", "--memory-limit", "lots"], "--memory-limit lots: must be"),
        (["injector", "--image", "x", "--namespace", "n", "--key-directory", "/nowhere"], "--key-directory /nowhere"),
        (["injector", "--image", "x", "--namespace", "n", "--certificate-files", "/nowhere"], "--certificate-files"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    try:
        code: Any = main(arguments)
    except SystemExit as ended:
        code = ended.code
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    assert said in error


def given(*arguments: str) -> Any:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--image", "x", *arguments])


def test_the_environment_says_what_is_not_given(tmp_path: Path) -> None:
    options = read_options(given("--key-directory", str(tmp_path)), {"POD_NAMESPACE": "mine", "POD_NAME": "i-0"})
    assert (options.namespace, options.instance) == ("mine", "i-0")
    assert (options.listen.port, options.health.port, options.shutdown_delay_seconds) == (9443, 8080, 5.0)
    assert (options.settings.image, options.settings.memory_limit) == ("x", "512Mi")


def test_addresses_may_be_of_version_6(tmp_path: Path) -> None:
    options = read_options(given("--key-directory", str(tmp_path), "--listen", "[::]:1"), {"POD_NAMESPACE": "n"})
    assert (options.listen.host, options.listen.port) == ("::", 1)


def test_a_key_directory_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OptionError, match="can be written to"):
        read_options(given("--key-directory", str(tmp_path)), {"POD_NAMESPACE": "n"})
