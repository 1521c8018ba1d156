"""The page on the policy file says what the code does: its examples, its fields, what it refuses, what it prints."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.policies import EVERYTHING, EXAMPLE, POLICY_PAGE, Keys, refusals
from fairqueue_api import PolicyError, SecretDirectory, load_policy, parse_document, policy_warnings, render
from fairqueue_api.crd import schema
from fairqueue_api.reference import BEGIN, END, NOT_SUPPORTED, PageError, is_supported, with_table
from fairqueue_api.yaml_reader import read_mapping

PAGE = POLICY_PAGE.read_text()


def leaves(node: dict[str, Any], place: str) -> Iterator[str]:
    """Every field that holds a plain value, or a list or map of them."""
    if node["type"] == "array" and node["items"]["type"] == "object":
        yield from leaves(node["items"], f"{place}[]")
    elif "properties" in node:
        for name, below in node["properties"].items():
            yield from leaves(below, f"{place}.{name}")
    else:
        yield place


def used(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield f"{place}.{name}"
            yield from used(below, f"{place}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from used(item, f"{place}[]")


def test_the_table_of_fields_is_what_the_models_say() -> None:
    assert with_table(PAGE) == PAGE, "run `make crd`"


def test_the_table_has_a_row_for_each_field_with_its_default() -> None:
    for place in leaves(schema()["properties"]["spec"], "spec"):
        row = f"\n| `{place}` | "
        assert (row in PAGE) == is_supported(place), place
    assert "\n| `spec.cost.outputToken` | 1 to 1000 | `2` | cost of a generated token |\n" in PAGE
    assert "\n| `spec.tenants[].name` | name | required | " in PAGE
    assert "\n| `spec.queue.holdHeaders` | between 0s and 5m | `5s` | " in PAGE
    assert "\n| `spec.anonymous.perIdentity` | `true`, `false` | `true` | " in PAGE


def test_a_row_that_nobody_made_is_taken_out_again() -> None:
    stale = PAGE.replace(END, f"| `spec.more` | | | |\n{END}")
    assert with_table(stale) == PAGE


@pytest.mark.parametrize("mark", [BEGIN, END])
def test_a_page_without_a_place_for_the_table_is_refused(mark: str) -> None:
    with pytest.raises(PageError, match="the page needs the lines"):
        with_table(PAGE.replace(mark, ""))


def test_the_page_shows_the_example_file() -> None:
    assert f"```yaml\n{EXAMPLE.read_text()}```\n" in PAGE


def test_the_page_names_all_that_is_not_supported_yet() -> None:
    section = PAGE.partition("## Not supported yet")[2].partition("\n## ")[0]
    for place in NOT_SUPPORTED:
        assert f"`{place.rpartition('.')[2]}`" in section
        assert f"| `{place}` | | | " in PAGE
    assert "`JWT`" in section
    assert "`ServiceAccount`" in section


def test_the_lines_that_the_page_shows_are_what_is_printed() -> None:
    shown = PAGE.partition("## The file itself")[2].partition("```text\n")[2].partition("```")[0].splitlines()
    content = read_mapping(EXAMPLE)
    content["spec"]["tenants"][2]["weight"] = 0  # type: ignore[index]
    problems = refusals(content)
    with pytest.raises(PolicyError) as caught:
        render(load_policy(EXAMPLE), SecretDirectory(Path("secrets")))
    assert shown[0] == problems[0]
    Path("secrets").mkdir()
    with pytest.raises(PolicyError) as caught:
        render(load_policy(EXAMPLE), SecretDirectory(Path("secrets")))
    assert shown[1] == str(caught.value)


def test_the_example_runs_with_keys_laid_out_as_the_page_says() -> None:
    for name, entries in {
        "team-a-keys": ["current", "next"],
        "team-a-batch-keys": ["token"],
        "team-b-keys": ["token"],
    }.items():
        Path("secrets", name).mkdir(parents=True)
        for entry in entries:
            Path("secrets", name, entry).write_text(f"{name}-{entry}\n")
    document = render(load_policy(EXAMPLE), SecretDirectory(Path("secrets")))
    assert [(tenant.name, len(tenant.key_digests)) for tenant in document.tenants] == [
        ("team-a", 2),
        ("team-a-batch", 1),
        ("team-b", 1),
    ]


def test_the_example_of_everything_uses_every_field_that_is_supported() -> None:
    fields = {place for place in leaves(schema()["properties"]["spec"], "spec") if is_supported(place)}
    assert fields - set(used(read_mapping(EVERYTHING)["spec"], "spec")) == set()


def test_the_example_of_everything_is_valid_without_a_warning_and_renders() -> None:
    policy = load_policy(EVERYTHING)
    assert policy_warnings(policy) == []
    document = render(policy, Keys())
    assert parse_document(document.to_json()).document == document
    assert document.engine.api_key == "engine-key/token"
    assert document.anonymous is not None


def test_the_page_leads_to_the_example_of_everything() -> None:
    assert "(examples/everything.yaml)" in PAGE
