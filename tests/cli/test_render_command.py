"""`fairqueue render`, and how `fairqueue serve` has it done by a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fairqueue_api import SecretDirectory, load_policy, parse_document, render
from fairqueue_cli import rendering
from fairqueue_cli.rendering import Rendering
from proxy_stack import serving, write_policy

MODULE = [sys.executable, "-m", "fairqueue_cli.main"]
EVERYBODY = [{"name": "gateway", "type": "Header", "header": {"name": "x-tenant", "trustedCIDRs": ["0.0.0.0/0"]}}]


def rendered(*options: object) -> subprocess.CompletedProcess[str]:
    command = [*MODULE, "render", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_it_prints_the_document_and_nothing_else(tmp_path: Path) -> None:
    policy, secrets = write_policy(tmp_path, tenants=[{"name": "alice"}], engine_key="of-the-engine")
    done = rendered("--policy", policy, "--secrets", secrets)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert parse_document(done.stdout.encode()).document == render(load_policy(policy), SecretDirectory(secrets))


def test_warnings_go_to_standard_error(tmp_path: Path) -> None:
    policy, _ = write_policy(tmp_path, tenants=[{"name": "alice"}], identity={"sources": EVERYBODY})
    content = json.loads(policy.read_text())
    del content["spec"]["tenants"][0]["apiKeySecretRefs"]
    policy.write_text(json.dumps(content))
    done = rendered("--policy", policy)
    assert done.returncode == 0
    assert "trustedCIDRs" in done.stderr
    assert parse_document(done.stdout.encode()).unknown_fields == []
    assert Rendering(policy, None).result().warnings == done.stderr.splitlines()


def test_a_policy_that_can_not_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    policy, _ = write_policy(tmp_path, tenants=[{"name": "alice"}])
    done = rendered("--policy", policy)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fairqueue render: ")
    assert (done.stderr.count("\n"), "pass --secrets DIR" in done.stderr) == (1, True)
    with pytest.raises(ValueError, match="pass --secrets DIR") as caught:
        Rendering(policy, None).result()
    assert f"fairqueue render: {caught.value}\n" == done.stderr


async def test_what_it_prints_is_what_a_proxy_serves_by(tmp_path: Path) -> None:
    policy, secrets = write_policy(tmp_path, tenants=[{"name": "alice"}])
    config = tmp_path / "config"
    config.mkdir()
    (config / "document.json").write_text(rendered("--policy", policy, "--secrets", secrets).stdout)
    async with serving(9, tmp_path / "log", "--config", config, "--engine-kind", "TGI") as stack:
        revision = json.loads((await stack.get(stack.admin, "/-/config"))[1])["revision"]
    assert revision == render(load_policy(policy), SecretDirectory(secrets)).revision


def test_nothing_is_imported_from_the_folder_in_which_the_command_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, secrets = write_policy(tmp_path / "policy", tenants=[{"name": "alice"}])
    (tmp_path / "yaml.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    assert [tenant.name for tenant in Rendering(policy, secrets).result().document.tenants] == ["alice"]


def test_a_process_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, secrets = write_policy(tmp_path, tenants=[{"name": "alice"}])
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"^the policy could not be rendered: \S"):
        Rendering(policy, secrets).result()


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, secrets = write_policy(tmp_path, tenants=[{"name": "alice"}])
    monkeypatch.setattr(rendering, "TIMEOUT_SECONDS", 0.0)
    begun = Rendering(policy, secrets)
    with pytest.raises(ValueError, match="could not be rendered in time"):
        begun.result()
    assert begun._process.returncode is not None
