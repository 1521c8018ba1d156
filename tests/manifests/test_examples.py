"""The examples: all of them can be used, fit one another and the servers, and are what their page shows."""

import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest

from fairqueue_api import parse_document, policy_warnings
from fairqueue_api.models import FairnessPolicy
from fairqueue_api.structure import parse_structure
from fairqueue_cli.main import main
from fairqueue_operator.injection import Reason, decide
from injection.golden_files import SETTINGS, patched
from injection.invariants import check_engine, check_injected
from injection.kubernetes_models import find_port
from manifests.examples_by_hand import document_of_example, example, references
from manifests.reading import EXAMPLES, PAGE, POLICIES, SERVERS, Json, fenced, objects, one

NAMES = [file.stem for file in POLICIES]
TEXT = PAGE.read_text()
_CREATE = re.compile(r"kubectl create secret generic (\S+) --from-literal=(\S+?)=")
_LABEL = re.compile(r"kubectl label secret (.+) fairqueue\.dev/api-keys=true")
_LOOP = re.compile(r"for (\w+) in (.+?); do\n(.*?)\ndone", re.DOTALL)


def test_there_are_six_policies_and_the_command_finds_nothing_wrong_with_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(POLICIES) == 6
    assert main(["validate", *map(str, POLICIES)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{file}: default/{file.stem} is valid" for file in POLICIES]


def test_each_file_has_an_object_of_its_own_name_for_the_namespace_of_whoever_applies_it() -> None:
    for file in EXAMPLES.iterdir():
        assert all("namespace" not in made["metadata"] for made in objects(file)), file
    for file in POLICIES:
        (policy,) = objects(file)
        assert policy["metadata"]["name"] == file.stem


@pytest.mark.parametrize("name", NAMES)
def test_each_renders_into_a_document_that_a_proxy_reads(name: str, tmp_path: Path) -> None:
    document = document_of_example(name, tmp_path)
    parsed = parse_document(document.to_json())
    assert parsed == (document, [])
    assert {tenant.name for tenant in document.tenants} == {tenant.name for tenant in example(name).spec.tenants}
    assert policy_warnings(example(name)) == []


def test_the_policies_show_what_they_are_there_for() -> None:
    specs = {name: example(name).spec for name in NAMES}
    assert [(group.name, group.weight) for group in specs["org-and-team"].groups] == [("retail", 2), ("research", 1)]
    assert specs["trial-users"].anonymous is not None
    assert [source.type for source in specs["gateway-identity"].identity.sources] == ["Header"]
    assert any(tenant.limits is not None for tenant in specs["hard-caps"].tenants)
    assert specs["observe-first"].mode == "Observe"


@pytest.mark.parametrize("version", ["1.32", "1.36"])
@pytest.mark.parametrize("kind", SERVERS)
def test_kubernetes_takes_the_servers(kind: str, version: str) -> None:
    for made in objects(SERVERS[kind]):
        kubernetes_validate.validate(made, version, strict=True)


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("name", NAMES)
def test_each_policy_goes_with_each_server_if_it_says_its_kind(name: str, kind: str) -> None:
    policy = of_kind(name, kind)
    made = objects(SERVERS[kind])
    template = one("Deployment", "llm", made)["spec"]["template"]
    pod: Json = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"]["name"] = "llm-1"
    decision = decide(pod, [policy], SETTINGS)
    assert decision.reason is Reason.INJECTED, decision.message
    assert decision.warnings == ()
    check_injected(pod, decision, policy, SETTINGS)
    after = patched(pod, decision)
    check_engine(after, kind)
    kubernetes_validate.validate(after, "1.36", strict=True)
    (port,) = one("Service", "llm", made)["spec"]["ports"]
    assert find_port(after, port["targetPort"]) == ("fairqueue-proxy", find_port(pod, port["targetPort"])[1])  # type: ignore[index]


def of_kind(name: str, kind: str) -> FairnessPolicy:
    (content,) = objects(EXAMPLES / f"{name}.yaml")
    assert content["spec"]["engine"] == {"kind": "TGI"}
    content["spec"]["engine"]["kind"] = kind
    return parse_structure(content, name)


def test_the_page_shows_the_files_and_nothing_else() -> None:
    shown = fenced(TEXT, "yaml")
    assert sorted(shown) == sorted(file.read_text() for file in POLICIES)


def section(name: str) -> str:
    """The part of the page that shows a policy."""
    (found,) = (part for part in TEXT.split("\n## ") if f"\n  name: {name}\n" in part)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_of_each_when_to_use_it_what_clients_see_and_how_to_check(name: str) -> None:
    assert all(f"\n**{what}" in section(name) for what in ("When.", "What a client sees.", "Check."))


@pytest.mark.parametrize("name", NAMES)
def test_its_commands_make_the_keys_that_the_policy_names_and_apply_the_file(name: str) -> None:
    commands = _LOOP.sub(_unrolled, "".join(fenced(section(name), "sh")))
    made = sorted(_CREATE.findall(commands))
    named = sorted({(reference.name, reference.key) for reference in references(example(name))})
    assert made == named
    assert sorted(word for line in _LABEL.findall(commands) for word in line.split()) == [secret for secret, _ in named]
    assert f"kubectl apply -f manifests/examples/{name}.yaml" in commands


def _unrolled(loop: re.Match[str]) -> str:
    variable, words, body = loop.groups()
    return "\n".join(body.replace(f"${variable}", word) for word in words.split())


def test_its_commands_can_be_typed() -> None:
    for commands in fenced(TEXT, "sh"):
        subprocess.run(["bash", "-n"], input=commands, text=True, check=True)
