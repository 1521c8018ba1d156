"""What is kept of a policy, and everything that is wrong with it."""

from typing import Any

import pytest

from fairqueue_operator.planning.policy_facts import read_policy_facts
from fairqueue_operator.policy_cache import InvalidPolicy
from planning.making import policy, policy_item


def test_a_policy_is_read() -> None:
    facts = policy("chat", "2026-11-01T10:00:00Z")
    assert (facts.namespace, facts.name, facts.uid, facts.generation) == ("team", "chat", "uid-chat", 3)
    assert facts.full_name == "team/chat"
    assert facts.created == "2026-11-01T10:00:00Z"
    assert facts.problems == ()


def test_its_selector_decides() -> None:
    assert policy().selects({"app": "llm", "tier": "a"})
    assert not policy().selects({"app": "web"})


def test_a_policy_of_a_newer_schema_selects_as_far_as_can_be_read() -> None:
    facts = policy(fromTheFuture=1)
    assert isinstance(facts.parsed, InvalidPolicy)
    assert facts.selects({"app": "llm"})
    assert not facts.selects({"app": "web"})


def test_every_problem_of_its_shape_is_kept_without_saying_whose() -> None:
    facts = policy(mode="Sometimes", fromTheFuture=1)
    assert [problem.path for problem in facts.problems] == ["spec.fromTheFuture", "spec.mode"]
    assert {problem.source for problem in facts.problems} == {""}


def test_every_broken_rule_is_kept() -> None:
    facts = policy(
        tenants=[{"name": "other"}, {"name": "a", "group": "nowhere"}],
        identity={
            "sources": [
                {"name": "jwt", "type": "JWT", "jwt": {"issuer": "https://i", "audiences": ["a"], "tenantClaim": "t"}}
            ]
        },
    )
    assert {problem.path for problem in facts.problems} == {
        "spec.tenants[0].name",
        "spec.tenants[1].group",
        "spec.identity.sources[0].type",
    }


def test_of_two_of_one_second_the_name_decides() -> None:
    early, late = policy("z", "2026-11-01T09:59:59Z"), policy("a", "2026-11-01T10:00:00Z")
    assert early.is_older_than(late)
    assert not late.is_older_than(early)
    assert policy("a").is_older_than(policy("b"))
    assert not policy("a").is_older_than(policy("a"))


@pytest.mark.parametrize("metadata", [None, [], {}, {"name": 1, "generation": "x"}])
def test_a_resource_that_is_no_policy_has_problems(metadata: Any) -> None:
    facts = read_policy_facts({**policy_item(), "metadata": metadata})
    assert facts.problems
    assert facts.generation == 0
