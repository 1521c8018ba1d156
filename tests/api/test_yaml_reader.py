"""The file as such: what YAML allows and a policy must not use, and files that are none."""

import json
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from api.policies import EXAMPLE, load, policy, refusals
from fairqueue_api import PolicyError, load_policy, yaml_reader
from fairqueue_api.yaml_reader import read_mapping

PLAIN = """\
apiVersion: fairqueue.dev/v1alpha1
kind: FairnessPolicy
metadata: {name: two-teams}
spec:
  selector: {matchLabels: {app: llm}}
  engine: {kind: TGI}
"""
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text("abc-_ ", min_size=1), children, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PLAIN, id="yaml"),
        pytest.param("---\n" + PLAIN + "---\n# nothing more\n", id="empty-documents-around-it"),
        pytest.param("\ufeff" + PLAIN, id="byte-order-mark"),
        pytest.param(PLAIN.replace("\n", "\r\n"), id="windows-line-ends"),
        pytest.param(PLAIN.replace("spec:", "spec: &spec"), id="anchor-without-alias"),
        pytest.param(json.dumps(policy(), indent=2), id="json"),
        pytest.param(json.dumps(policy(), indent="\t"), id="json-indented-with-tabs"),
    ],
)
def test_one_yaml_or_json_document_is_read(content: str) -> None:
    assert load(content).spec.engine.kind == "TGI"


TOKEN_LINE = "is not valid YAML: indent with spaces, not tabs, and quote special characters"
NOT_TEXT_LINE = "is not a text file: save the policy as UTF-8 text"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param("", "is empty: write a FairnessPolicy", id="empty"),
        pytest.param("# only words\n---\n", "is empty: write a FairnessPolicy", id="comments"),
        pytest.param(
            PLAIN + "---\n" + PLAIN, "holds 2 documents: keep one FairnessPolicy in a file", id="two-documents"
        ),
        pytest.param("- a", "is not a mapping: start with apiVersion: fairqueue.dev/v1alpha1", id="list"),
        pytest.param("word", "is not a mapping: start with apiVersion: fairqueue.dev/v1alpha1", id="scalar"),
        pytest.param(PLAIN + "spec: {}\n", "line 7: the field spec appears twice: keep one", id="repeated-field"),
        pytest.param(
            PLAIN + "  tenants:\n  - {name: a, name: b}\n",
            "line 8: the field name appears twice: keep one",
            id="repeated-nested-field",
        ),
        pytest.param("a: &a [1]\nb: *a\n", "line 2: aliases are not allowed: write the value out", id="alias"),
        pytest.param(
            "a: 1\n<<: {b: 2}\n", "line 2: the name of a field is not a string: put it in quotes", id="merge-key"
        ),
        pytest.param("on: 1\n", "line 1: the name of a field is not a string: put it in quotes", id="truth-as-name"),
        pytest.param("[a]: 1\n", "line 1: the name of a field is not a string: put it in quotes", id="list-as-name"),
        pytest.param(
            "a: !!python/name:os.system x\n",
            "line 1: is neither text nor a number: put it in quotes",
            id="python-object",
        ),
        pytest.param("a: !x [1]\n", "line 1: has a tag: remove the word that starts with '!'", id="tagged-list"),
        pytest.param("a: 2026-01-01\n", "line 1: is neither text nor a number: put it in quotes", id="date"),
        pytest.param(f"a: {'9' * 5000}\n", "line 1: is not a valid int: mend the value", id="endless-number"),
        pytest.param("a: !!bool perhaps\n", "line 1: is not a valid bool: mend the value", id="no-truth-value"),
        pytest.param("a:\n\t- b\n", f"line 2, column 1: {TOKEN_LINE}", id="tab"),
        pytest.param("a: @b\n", f"line 1, column 4: {TOKEN_LINE}", id="special-character"),
        pytest.param("[" * 65, "line 1: is nested more than 64 levels deep: a policy needs ten", id="deep"),
        pytest.param("[" * 500_000, "line 1: is nested more than 64 levels deep: a policy needs ten", id="very-deep"),
        pytest.param(b"\x7fELF\x02\x00\x00", NOT_TEXT_LINE, id="binary"),
        pytest.param(b"a: \xff\n", NOT_TEXT_LINE, id="not-utf-8"),
        pytest.param("a: 1\n".encode("utf-16"), NOT_TEXT_LINE, id="utf-16"),
        pytest.param("#" * 1_048_577, "is larger than 1 MiB: keep nothing but the policy in it", id="too-large"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_with_the_place_and_the_fix(content: str | bytes, line: str) -> None:
    assert refusals(content) == [f"policy.yaml: {line}"]


def test_a_syntax_error_names_its_line() -> None:
    (line,) = refusals("a: [1\nb: 2\n")
    assert line.startswith("policy.yaml: line 2, column 2: is not valid YAML (")
    assert line.endswith("): mend the line")


def test_a_file_of_just_one_mebibyte_is_read() -> None:
    assert refusals(PLAIN + "#" * (1_048_576 - len(PLAIN))) == []


def test_a_missing_file_is_named() -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(Path("absent/policy.yaml"))
    assert str(caught.value) == "absent/policy.yaml: file not found: create it, or mend the path"


def test_a_directory_is_named() -> None:
    Path("policies").mkdir()
    with pytest.raises(PolicyError) as caught:
        load_policy(Path("policies"))
    assert str(caught.value) == "policies: is a directory: name the policy file in it"


def test_a_file_below_a_file_cannot_be_read() -> None:
    Path("policy.yaml").write_text(PLAIN)
    with pytest.raises(PolicyError) as caught:
        load_policy(Path("policy.yaml/policy.yaml"))
    assert str(caught.value) == (
        "policy.yaml/policy.yaml: cannot be read (Not a directory): mend the path or the file's rights"
    )


def test_a_file_name_cannot_break_the_line() -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(Path("a\nb\x1b.yaml"))
    assert str(caught.value) == "a\\nb\\x1b.yaml: file not found: create it, or mend the path"


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(Path("a\0b"))
    assert str(caught.value) == "a\\x00b: cannot be read (not a valid path): mend the path or the file's rights"


def test_a_pipe_is_read_as_a_file(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, PLAIN.encode())
    os.close(writer)
    try:
        assert load_policy(Path(f"/dev/fd/{reader}")).metadata.name == "two-teams"
    finally:
        os.close(reader)


def test_the_reader_in_pure_python_reads_and_refuses_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with_libyaml = read_mapping(EXAMPLE)
    monkeypatch.setattr(yaml_reader, "_LOADER", yaml.SafeLoader)
    assert read_mapping(EXAMPLE) == with_libyaml
    assert refusals("a: &a [1]\nb: *a\n") == ["policy.yaml: line 2: aliases are not allowed: write the value out"]
    assert refusals("a:\n\t- b\n") == [f"policy.yaml: line 2, column 1: {TOKEN_LINE}"]
    assert refusals(b"a: \x00\n") == [f"policy.yaml: {NOT_TEXT_LINE}"]


@given(value=JSON_VALUES)
def test_json_is_read_as_json(value: object) -> None:
    Path("any.json").write_text(json.dumps({"value": value}))
    assert read_mapping(Path("any.json")) == {"value": value}
