"""`fairqueue validate`: all problems of all files, a line each, and exit code 2; nothing that a user wrote."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api.policies import EVERYTHING, EXAMPLE, policy
from fairqueue_cli.main import COMMANDS, main

DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "llm"}, "data": "!"}
WIDE = {"identity": {"sources": [{"name": "g", "type": "Header", "header": {"trustedCIDRs": ["10.0.0.0/8"]}}]}}
WIDE_LINE = (
    "spec.identity.sources[0].header.trustedCIDRs[0]: trusts a wide range (shorter than /16): anybody in it can name "
    "any tenant: write your gateway's addresses"
)
KEY = "sk-0123456789-very-secret"


def write(name: str, *resources: dict[str, Any] | str) -> str:
    texts = [each if isinstance(each, str) else json.dumps(each) for each in resources]
    Path(name).write_text("\n---\n".join(texts))
    return name


def named(name: str, **spec: Any) -> dict[str, Any]:
    return policy(**spec) | {"metadata": {"name": name}}


def tenants(*names: str) -> dict[str, Any]:
    """One tenant for each Secret."""
    return {"tenants": [{"name": name, "apiKeySecretRefs": [{"name": name, "key": "k"}]} for name in names]}


def write_keys(**keys: str) -> None:
    for name, key in keys.items():
        Path("secrets", name).mkdir(parents=True)
        Path("secrets", name, "k").write_text(key)


class Validate:
    """Runs the command and returns its exit code and the lines that it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, list[str]]:
        code = main(["validate", *arguments])
        printed = self._capsys.readouterr()
        assert printed.err == ""
        return code, printed.out.splitlines()

    def json(self, *arguments: str) -> tuple[int, Any]:
        code, lines = self(*arguments, "--json")
        return code, json.loads("\n".join(lines))


@pytest.fixture
def validate(capsys: pytest.CaptureFixture[str]) -> Validate:
    return Validate(capsys)


def test_a_valid_policy_is_named_and_the_exit_code_is_0(validate: Validate) -> None:
    assert validate(write("a.yaml", policy())) == (0, ["a.yaml: default/two-teams is valid"])


def test_the_examples_of_the_documentation_are_valid(validate: Validate) -> None:
    code, lines = validate(str(EXAMPLE), str(EVERYTHING))
    assert code == 0
    assert [line.rpartition(": ")[2] for line in lines] == ["default/two-teams is valid", "llm/everything is valid"]


def test_all_problems_of_all_files_are_told(validate: Validate) -> None:
    write("a.yaml", policy(selector={}, engine={"kind": "OpenAI"}))
    write("b.yaml", policy(tenants=[{"name": "A"}, {"name": "b", "weight": 0}]))
    write("c.yaml", policy())
    assert validate("a.yaml", "b.yaml", "absent.yaml", "c.yaml") == (
        2,
        [
            "a.yaml: spec.selector: is empty and would match every pod: add matchLabels or matchExpressions",
            "a.yaml: spec.engine.port: is required for kind OpenAI: add the port that the engine listens on",
            "b.yaml: spec.tenants[0].name: is not a valid name: use a-z, 0-9 and '-', with a letter or digit at both "
            "ends",
            "b.yaml: spec.tenants[1].weight: must be at least 1: raise it",
            "absent.yaml: file not found: create it, or mend the path",
            "c.yaml: default/two-teams is valid",
        ],
    )


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("JWT", {"jwt": {"issuer": "https://a", "audiences": ["a"], "tenantClaim": "t"}}),
        ("ServiceAccount", {"serviceAccount": {"audiences": ["a"]}}),
    ],
)
def test_what_is_not_supported_yet_is_refused(validate: Validate, kind: str, fields: dict[str, Any]) -> None:
    source = {"name": "s", "type": kind} | fields
    assert validate(write("a.yaml", policy(identity={"sources": [source]}))) == (
        2,
        [f"a.yaml: spec.identity.sources[0].type: {kind} is not supported yet: use APIKey or Header"],
    )


def test_each_document_of_a_file_is_checked_and_others_are_named_as_skipped(validate: Validate) -> None:
    write("a.yaml", named("one"), DEPLOYMENT, "# nothing", named("two", selector={}), named("three"))
    assert validate("a.yaml") == (
        2,
        [
            "a.yaml, document 1: default/one is valid",
            "a.yaml, document 2: skipped, Deployment is no FairnessPolicy",
            "a.yaml, document 3: spec.selector: is empty and would match every pod: "
            "add matchLabels or matchExpressions",
            "a.yaml, document 4: default/three is valid",
        ],
    )


def test_a_document_that_cannot_be_read_does_not_hide_the_others(validate: Validate) -> None:
    write("a.yaml", "kind: FairnessPolicy\nkind: FairnessPolicy\n", named("two"))
    assert validate("a.yaml") == (
        2,
        [
            "a.yaml, document 1: line 2: the field kind appears twice: keep one",
            "a.yaml, document 2: default/two is valid",
        ],
    )


def test_what_kubectl_prints_for_several_policies_is_checked(validate: Validate) -> None:
    items = [named("one"), DEPLOYMENT, named("two", mode="Watch")]
    write("a.yaml", {"apiVersion": "v1", "kind": "List", "items": items})
    assert validate("a.yaml") == (
        2,
        [
            "a.yaml, items[0]: default/one is valid",
            "a.yaml, items[1]: skipped, Deployment is no FairnessPolicy",
            "a.yaml, items[2]: spec.mode: is not one of the values it can have: use Enforce or Observe",
        ],
    )


@pytest.mark.parametrize(
    ("resource", "line"),
    [
        ({"spec": {}}, "a.yaml: apiVersion: is missing: write apiVersion: fairqueue.dev/v1alpha1"),
        ("- a list", "a.yaml: is not a mapping: start with apiVersion: fairqueue.dev/v1alpha1"),
        (policy() | {"kind": "FairnesPolicy"}, "a.yaml: kind: must be FairnessPolicy: write kind: FairnessPolicy"),
        (
            policy() | {"apiVersion": "fairqueue.dev/v2"},
            "a.yaml: apiVersion: must be fairqueue.dev/v1alpha1: write apiVersion: fairqueue.dev/v1alpha1",
        ),
        ("", "a.yaml: is empty: write a FairnessPolicy"),
        ("a: [", "a.yaml: line 2, column 1: is not valid YAML"),
    ],
)
def test_what_may_be_meant_as_a_policy_is_not_skipped(
    validate: Validate, resource: dict[str, Any] | str, line: str
) -> None:
    code, lines = validate(write("a.yaml", resource))
    assert code == 2
    assert lines[0].startswith(line)


def test_files_without_any_policy_are_refused(validate: Validate) -> None:
    assert validate(write("a.yaml", DEPLOYMENT), write("b.yaml", DEPLOYMENT)) == (
        2,
        [
            "a.yaml: skipped, Deployment is no FairnessPolicy",
            "b.yaml: skipped, Deployment is no FairnessPolicy",
            "a.yaml: holds no FairnessPolicy: name a file that does",
        ],
    )


def test_a_list_that_holds_nothing_is_named_as_skipped(validate: Validate) -> None:
    code, lines = validate(write("a.yaml", {"apiVersion": "v1", "kind": "List", "metadata": {}}))
    assert (code, lines[0]) == (2, "a.yaml: skipped, List is no FairnessPolicy")


def test_a_file_of_other_things_beside_a_policy_is_no_error(validate: Validate) -> None:
    code, _ = validate(write("a.yaml", DEPLOYMENT), write("b.yaml", policy()))
    assert code == 0


def test_a_dash_is_standard_input(validate: Validate, monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.TextIOWrapper(io.BytesIO(json.dumps(policy(mode="Watch")).encode()))
    monkeypatch.setattr(sys, "stdin", given)
    assert validate("-") == (
        2,
        ["standard input: spec.mode: is not one of the values it can have: use Enforce or Observe"],
    )


def test_a_warning_is_told_and_is_no_error(validate: Validate) -> None:
    assert validate(write("a.yaml", policy(**WIDE))) == (
        0,
        [f"a.yaml: warning: {WIDE_LINE}", "a.yaml: default/two-teams is valid"],
    )


def test_without_secrets_keys_are_not_looked_for(validate: Validate) -> None:
    assert validate(write("a.yaml", policy(**tenants("a", "b"))))[0] == 0


def test_with_secrets_every_key_must_be_readable_and_of_one_tenant(validate: Validate) -> None:
    write_keys(a=KEY, b=KEY, c="two words")
    write("a.yaml", policy(**tenants("a", "b", "c", "d")))
    code, lines = validate("a.yaml", "--secrets", "secrets")
    assert code == 2
    assert lines == [
        "a.yaml: spec.tenants[1].apiKeySecretRefs[0]: holds the same key as spec.tenants[0].apiKeySecretRefs[0]: "
        "give each tenant keys of its own",
        "secrets/c/k: the key has white space, control or non-ASCII characters in it: "
        "write one key and nothing else into it, or mend spec.tenants[2].apiKeySecretRefs[0]",
        "secrets/d/k: file not found: create it, or mend spec.tenants[3].apiKeySecretRefs[0]",
    ]


def test_with_secrets_the_engines_key_must_be_readable_too(validate: Validate) -> None:
    write_keys(a=KEY)
    engine = {"kind": "TGI", "apiKeySecretRef": {"name": "e", "key": "k"}}
    assert validate(write("a.yaml", policy(engine=engine, **tenants("a"))), "--secrets", "secrets") == (
        2,
        ["secrets/e/k: file not found: create it, or mend spec.engine.apiKeySecretRef"],
    )


def test_with_secrets_a_policy_with_keys_that_can_be_had_is_valid(validate: Validate) -> None:
    write_keys(a=KEY, b=KEY + "2")
    code, lines = validate(write("a.yaml", policy(**tenants("a", "b"))), "--secrets", "secrets")
    assert (code, lines) == (0, ["a.yaml: default/two-teams is valid"])


def test_json_holds_all_of_it(validate: Validate) -> None:
    write("a.yaml", policy(**WIDE), DEPLOYMENT)
    write("b.yaml", policy(selector={}))
    assert validate.json("a.yaml", "b.yaml") == (
        2,
        {
            "valid": False,
            "resources": [
                {
                    "file": "a.yaml",
                    "resource": "document 1",
                    "policy": "default/two-teams",
                    "skipped": "",
                    "problems": [],
                    "warnings": [
                        {
                            "source": "a.yaml, document 1",
                            "path": "spec.identity.sources[0].header.trustedCIDRs[0]",
                            "what": "trusts a wide range (shorter than /16): anybody in it can name any tenant",
                            "fix": "write your gateway's addresses",
                        }
                    ],
                },
                {
                    "file": "a.yaml",
                    "resource": "document 2",
                    "policy": "",
                    "skipped": "Deployment",
                    "problems": [],
                    "warnings": [],
                },
                {
                    "file": "b.yaml",
                    "resource": "",
                    "policy": "",
                    "skipped": "",
                    "problems": [
                        {
                            "source": "b.yaml",
                            "path": "spec.selector",
                            "what": "is empty and would match every pod",
                            "fix": "add matchLabels or matchExpressions",
                        }
                    ],
                    "warnings": [],
                },
            ],
        },
    )


def test_json_of_a_valid_policy_says_so(validate: Validate) -> None:
    code, result = validate.json(write("a.yaml", policy()))
    assert (code, result["valid"]) == (0, True)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(policy(tenants=[{"name": KEY.upper()}]), id="as-a-name"),
        pytest.param(policy() | {"apiVersion": "v1", "kind": f"{KEY} {KEY}"}, id="as-a-kind"),
        pytest.param(policy(identity={"sources": [{"name": "g", "type": KEY}]}), id="as-a-type"),
        pytest.param(tenants("a"), id="not-a-resource"),
    ],
)
def test_what_a_user_wrote_is_not_repeated(validate: Validate, content: dict[str, Any]) -> None:
    _, lines = validate(write("a.yaml", content))
    assert KEY.lower() not in "".join(lines).lower()


def test_the_command_is_there_with_a_help_that_shows_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert "validate" in COMMANDS
    with pytest.raises(SystemExit) as caught:
        main(["validate", "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert "fairqueue validate policy.yaml" in text
    assert "--secrets DIR" in text
    assert "--json" in text


def test_without_a_file_the_usage_is_told_and_the_exit_code_is_2() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["validate"])
    assert caught.value.code == 2


def test_it_needs_neither_the_proxy_nor_what_the_proxy_needs() -> None:
    code = "import sys, fairqueue_cli.validate; print(sorted({n.partition('.')[0] for n in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("aiohttp", "fairqueue_proxy", "uvloop"):
        assert f"'{name}'" not in run.stdout
