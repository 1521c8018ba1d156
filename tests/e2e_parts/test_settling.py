"""A policy counts as settled when its status says so of what was ordered last, with every pod of it."""

from typing import Any

import pytest

from suite.settling import Settling, Version

Json = dict[str, Any]


def policy(generation: int, *, observed: int | None = None, ready: str = "True", current: int = 3) -> Json:
    observed = generation if observed is None else observed
    conditions = [
        {"type": kind, "status": ready, "observedGeneration": observed} for kind in ("Accepted", "Programmed", "Ready")
    ]
    pods = {"matched": 3, "unlabelled": 0, "injected": 3, "started": 3, "current": current}
    status = {"observedGeneration": observed, "tenants": 2, "pods": pods, "conditions": conditions}
    return {"metadata": {"namespace": "ns", "name": "llm", "generation": generation}, "status": status}


@pytest.fixture
def settling() -> Settling:
    return Settling(pods=3, tenants=2)


def test_it_is_settled_from_when_it_is_ready_with_the_right_counts(settling: Settling) -> None:
    settling.seen({"metadata": {"namespace": "ns", "name": "llm", "generation": 1}})
    settling.seen(policy(1, current=2))
    assert settling.settled() == {}
    settling.seen(policy(1))
    since = settling.settled()
    settling.seen(policy(1))
    assert since == settling.settled()
    assert list(since) == [Version("ns", "llm", 1)]


@pytest.mark.parametrize(
    "found", [policy(1, ready="False"), policy(1, current=2), policy(1, observed=0)], ids=["not Ready", "count", "old"]
)
def test_it_is_settled_no_more_when_it_says_otherwise(settling: Settling, found: Json) -> None:
    settling.seen(policy(1))
    settling.seen(found)
    assert settling.settled() == {}


def test_another_order_is_another_version_with_a_time_of_its_own(settling: Settling) -> None:
    settling.seen(policy(1))
    settling.seen(policy(2, observed=1))
    assert list(settling.settled()) == [Version("ns", "llm", 1)]
    settling.seen(policy(2))
    took, found = settling.until_settled(Version("ns", "llm", 2))
    assert took >= 0
    assert found == policy(2)
