"""Our checks and the API server's agree: on defaults and structure, repeated entries, and each rule in CEL.

The API server is played by `api_server`, on the generated schema. Policies are random; enough of each kind are drawn
that every rule is seen to hold and to be broken.
"""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import api_server
from api.random_policies import random_policy
from fairqueue_api import PolicyError
from fairqueue_api.crd import schema
from fairqueue_api.models import FairnessPolicy
from fairqueue_api.own_rules import _repeated_entries
from fairqueue_api.places import values_at
from fairqueue_api.rules import RULES, Rule
from fairqueue_api.structure import parse_structure

SCHEMA = schema()
SEEDS = st.integers(0, 2**32)
RULE_IDS = [f"{rule.place}-{n}" for n, rule in enumerate(RULES)]


def stored(content: dict[str, Any]) -> dict[str, Any]:
    result = api_server.defaulted(SCHEMA, content)
    assert isinstance(result, dict)
    return result


def parsed(content: dict[str, Any]) -> FairnessPolicy | None:
    try:
        return parse_structure(content, "policy.yaml")
    except PolicyError:
        return None


def verdicts(rule: Rule, content: dict[str, Any]) -> list[tuple[bool, bool]]:
    """For each value at the rule's place, what CEL and what our own check says."""
    policy = parsed(content)
    assert policy is not None
    by_cel = [api_server.holds(rule.cel, value) for value in api_server.values_at(stored(content), rule.place)]
    by_us = [not list(rule.findings(value)) for _, value in values_at(policy, rule.place)]
    return list(zip(by_cel, by_us, strict=True))


@given(seed=SEEDS)
def test_structure_is_judged_alike(seed: int) -> None:
    content = random_policy(seed, faults=True)
    is_well_formed = api_server.is_well_formed(SCHEMA["properties"]["spec"], stored(content).get("spec"))
    assert (parsed(content) is not None) == is_well_formed, content


@given(seed=SEEDS)
def test_every_rule_is_judged_alike_in_cel_and_here(seed: int) -> None:
    content = random_policy(seed, faults=False)
    for rule in RULES:
        assert all(by_cel == by_us for by_cel, by_us in verdicts(rule, content)), (rule.cel, content)


@given(seed=SEEDS)
def test_repeated_entries_are_found_where_the_api_server_finds_them(seed: int) -> None:
    content = random_policy(seed, faults=False)
    policy = parsed(content)
    assert policy is not None
    assert len(list(_repeated_entries(policy, ""))) == api_server.repeated_entries(SCHEMA, stored(content))


@given(seed=SEEDS)
def test_defaults_are_the_same(seed: int) -> None:
    content = random_policy(seed, faults=False)
    policy = parsed(content)
    assert policy is not None
    shown = policy.model_dump(by_alias=True, exclude_none=True, include={"spec"})["spec"]
    assert without_empty(shown) == without_empty(stored(content)["spec"])


def without_empty(value: Any) -> Any:
    """Lists and mappings that are empty are as good as absent."""
    if isinstance(value, list):
        return [without_empty(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: without_empty(item) for name, item in value.items()}
    return {name: item for name, item in kept.items() if item not in ({}, [])}


def test_the_random_policies_are_well_formed_and_not() -> None:
    outcomes = Counter(parsed(random_policy(seed, faults=True)) is not None for seed in range(200))
    assert min(outcomes[True], outcomes[False]) > 20
    assert all(parsed(random_policy(seed, faults=False)) is not None for seed in range(200))


@pytest.mark.parametrize("rule", RULES, ids=RULE_IDS)
def test_the_random_policies_keep_and_break_each_rule(rule: Rule) -> None:
    seen: set[bool] = set()
    for seed in range(150):
        seen.update(by_us for _, by_us in verdicts(rule, random_policy(seed, faults=False)))
        if len(seen) == 2:
            break
    assert seen == {True, False}
