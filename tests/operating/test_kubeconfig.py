"""Which cluster is meant: kubeconfigs as users have them, credential plugins, and files that cannot be used."""

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairqueue_operator import kubeconfig as module
from fairqueue_operator.cluster_model import ClusterError
from fairqueue_operator.kubeconfig import Access, load

SECRET = "s3cr3t"


def kubeconfig(path: Path, **changes: Any) -> Path:
    """Two contexts; `changes` replace whole entries."""
    content: dict[str, Any] = {
        "current-context": "one",
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example:6443"}} for name in ("one", "two")],
        "contexts": [
            {"name": "one", "context": {"cluster": "one", "user": "u", "namespace": "models"}},
            {"name": "two", "context": {"cluster": "two", "user": "u"}},
        ],
        "users": [{"name": "u", "user": {"token": SECRET}}],
    }
    path.write_text(yaml.safe_dump(content | changes))
    return path


async def loaded(file: Path | str | None = None, context: str | None = None) -> Access:
    return await load(None if file is None else str(file), context)


async def refused(file: Path | str | None = None, context: str | None = None) -> str:
    with pytest.raises(ClusterError) as caught:
        await loaded(file, context)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(module, "_ACCOUNT", tmp_path / "no-account")


async def test_the_option_stands_before_the_environment_and_that_before_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(name: str) -> Path:
        cluster = {"name": "one", "cluster": {"server": f"https://{name}"}}
        return kubeconfig(tmp_path / name, clusters=[cluster])

    (tmp_path / ".kube").mkdir()
    of(".kube/config")
    assert (await loaded()).configuration.host == "https://.kube/config"
    monkeypatch.setenv("KUBECONFIG", str(of("environment")))
    assert (await loaded()).configuration.host == "https://environment"
    assert (await loaded(of("option"))).configuration.host == "https://option"


async def test_context_namespace_and_token_are_those_of_the_file(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path / "k")
    first, second = await loaded(file), await loaded(file, "two")
    assert (first.configuration.host, first.namespace) == ("https://one.example:6443", "models")
    assert (second.configuration.host, second.namespace) == ("https://two.example:6443", "default")
    assert first.configuration.api_key == {"BearerToken": f"Bearer {SECRET}"}


async def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    kubeconfig(tmp_path / "a", users=[])
    kubeconfig(tmp_path / "b", clusters=[], contexts=[])
    access = await loaded(f"{tmp_path / 'absent'}:{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert access.configuration.api_key == {"BearerToken": f"Bearer {SECRET}"}


async def test_authorities_are_checked_no_stricter_than_kubectl_does(tmp_path: Path) -> None:
    access = await loaded(kubeconfig(tmp_path / "k"))
    assert access.configuration.disable_strict_ssl_verification
    assert access.configuration.verify_ssl


async def test_a_file_that_is_not_there_is_named_with_the_fix(tmp_path: Path) -> None:
    said = await refused(tmp_path / "nowhere")
    assert said == f"no cluster: {tmp_path}/nowhere is not there: set KUBECONFIG, or give --kubeconfig FILE"
    assert f"{tmp_path}/.kube/config is not there" in await refused()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"current-context": "three"}, "three is not in it"),
        ({"clusters": []}, "one is not in it"),
        ({"users": [{"name": "u", "usr": {"token": SECRET}}]}, "user is not in it"),
        ({"users": [{"nme": "u", "user": {"token": SECRET}}]}, "not a complete kubeconfig"),
        ({"users": SECRET}, "name is not in it"),
        ({"clusters": [{"name": "one", "cluster": SECRET}]}, "server is not in it"),
        ({"clusters": [{"name": "one", "cluster": {}}]}, "cannot be used"),
        ({"contexts": None}, "cannot be used"),
    ],
    ids=str,
)
async def test_what_is_missing_in_it_is_said_and_nothing_that_is_there(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    assert words in await refused(kubeconfig(tmp_path / "k", **changes))


@pytest.mark.parametrize("content", ["a: [", "- 1", "text", "\x00", "{}", "current-context: x"], ids=repr)
async def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "k").write_text(content)
    assert f"{tmp_path}/k cannot be used: " in await refused(tmp_path / "k")


def plugin(path: Path, script: str) -> Path:
    program = path / "plugin"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    described = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program)}
    return kubeconfig(path / "k", users=[{"name": "u", "user": {"exec": described}}])


async def test_credential_plugins_are_run(tmp_path: Path) -> None:
    answer = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"of-plugin"}}'
    access = await loaded(plugin(tmp_path, f"echo '{answer}'"))
    assert access.configuration.api_key == {"BearerToken": "Bearer of-plugin"}


@pytest.mark.parametrize(
    ("script", "words"),
    [("echo log in first >&2; exit 1", "log in first"), ("echo nonsense", "decode"), ("echo '{}'", "malformed")],
)
async def test_a_credential_plugin_that_fails_is_told_of(
    tmp_path: Path, script: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert words in await refused(plugin(tmp_path, script))
    # And once only.
    assert caplog.records == []


async def test_in_a_pod_its_service_account_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = tmp_path / "account"
    account.mkdir()
    (account / "namespace").write_text("models\n")
    monkeypatch.setattr(module, "_ACCOUNT", account)
    # It is not one: its files are elsewhere, and not there.
    assert await refused() == "no cluster: this pod's service account cannot be used: Service host/port is not set."
    monkeypatch.setattr(module, "load_incluster_config", lambda configuration: None)
    assert (await loaded()).namespace == "models"
