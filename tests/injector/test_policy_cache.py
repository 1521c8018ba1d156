"""Policies by namespace: what lists and changes leave, and policies that this version cannot read."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_api import FairnessPolicy
from fairqueue_api.models import Selector
from fairqueue_operator.cluster_model import ResourceEvent
from fairqueue_operator.injection.label_selectors import matches
from fairqueue_operator.policy_cache import InvalidPolicy, PolicyCache, read_policy
from injector.conftest import invalid_policy, policy


def names(cache: PolicyCache, namespace: str = "team") -> list[str]:
    return [each.metadata.name for each in cache.of(namespace).usable]


def change(kind: Any, item: dict[str, Any]) -> ResourceEvent:
    return ResourceEvent(kind, item, "2")


def test_a_cache_is_filled_by_its_first_list_even_an_empty_one() -> None:
    cache = PolicyCache()
    assert not cache.filled
    cache.apply(change("ADDED", policy()))
    assert not cache.filled
    cache.replace([])
    assert cache.filled
    assert len(cache) == 0


def test_policies_are_given_by_namespace_in_the_order_of_their_names() -> None:
    cache = PolicyCache()
    cache.replace([policy("b"), policy("a"), policy("a", namespace="other")])
    assert names(cache) == ["a", "b"]
    assert names(cache, "other") == ["a"]
    assert names(cache, "third") == []


def test_a_list_forgets_what_is_not_in_it() -> None:
    cache = PolicyCache()
    cache.replace([policy("a")])
    cache.replace([policy("b")])
    assert names(cache) == ["b"]


def test_a_change_can_make_a_policy_invalid_and_usable_again() -> None:
    cache = PolicyCache()
    cache.replace([policy("a")])
    cache.apply(change("MODIFIED", invalid_policy("a")))
    assert (names(cache), [each.name for each in cache.of("team").invalid]) == ([], ["a"])
    cache.apply(change("MODIFIED", policy("a")))
    assert (names(cache), cache.of("team").invalid) == (["a"], ())


changes = st.tuples(
    st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]), st.sampled_from("ab"), st.sampled_from("xy")
)


@given(st.lists(changes))
def test_changes_leave_what_a_list_made_then_would_show(story: list[tuple[str, str, str]]) -> None:
    cache, expected = PolicyCache(), {}
    cache.replace([])
    for kind, name, namespace in story:
        cache.apply(change(kind, policy(name, namespace=namespace)))
        if kind == "DELETED":
            expected.pop((namespace, name), None)
        elif kind != "BOOKMARK":
            expected[namespace, name] = None
    assert [(space, name) for space in "xy" for name in names(cache, space)] == sorted(expected)
    assert len(cache) == len(expected)


def test_what_the_api_server_adds_to_a_policy_is_no_problem() -> None:
    item = policy()
    item["metadata"] |= {"managedFields": [{}], "creationTimestamp": "2026-11-01T00:00:00Z", "generation": 3}
    item["status"] = {"conditions": []}
    assert isinstance(read_policy(item), FairnessPolicy)


def test_a_policy_that_asks_for_what_is_not_supported_yet_is_usable_here() -> None:
    jwt = {"name": "j", "type": "JWT", "jwt": {"issuer": "https://i", "audiences": ["a"], "tenantClaim": "t"}}
    assert isinstance(read_policy(policy(identity={"sources": [jwt]})), FairnessPolicy)


def test_an_invalid_policy_says_what_is_wrong_and_where() -> None:
    read = read_policy(invalid_policy("newer"))
    assert isinstance(read, InvalidPolicy)
    assert read.problem == "policy team/newer: spec.fromTheFuture: unknown field: remove it"


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        pytest.param({"matchLabels": {"app": "llm"}}, True, id="labels"),
        pytest.param({"matchLabels": {"app": "web"}}, False, id="other-labels"),
        pytest.param({"matchLabels": {"app": "llm"}, "matchFields": 1}, True, id="more-than-is-known"),
        pytest.param({"matchLabels": {"app": 7}}, True, id="number-as-label"),
        pytest.param({"matchLabels": "app=llm"}, True, id="unreadable-labels"),
        pytest.param({"matchExpressions": [{"key": "app", "operator": "Near"}]}, True, id="unknown-operator"),
        pytest.param({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}, 7]}, False, id="one-readable"),
        pytest.param({"matchExpressions": [{"key": "app", "operator": "In", "values": None}]}, True, id="no-values"),
        pytest.param({"matchExpressions": [{"key": [], "operator": "Exists"}]}, True, id="no-key"),
        pytest.param({}, True, id="empty"),
        pytest.param("app=llm", True, id="no-mapping"),
        pytest.param(None, True, id="none"),
    ],
)
def test_a_selector_that_cannot_be_read_excludes_nobody(selector: Any, expected: bool) -> None:
    item = policy()
    item["spec"] = {"selector": selector, "fromTheFuture": True}
    read = read_policy(item)
    assert isinstance(read, InvalidPolicy)
    assert read.selects({"app": "llm"}) is expected


words = st.sampled_from(["app", "tier", "llm", "web"])
labels = st.dictionaries(words, words, max_size=3)
conditions = st.fixed_dictionaries(
    {"key": words, "operator": st.sampled_from(["In", "NotIn"]), "values": st.lists(words, min_size=1, max_size=2)}
) | st.fixed_dictionaries({"key": words, "operator": st.sampled_from(["Exists", "DoesNotExist"])})


@given(labels, st.lists(conditions, max_size=3), labels)
def test_a_readable_selector_is_read_as_that_of_a_usable_policy(
    exact: dict[str, str], conditions: list[dict[str, Any]], pod_labels: dict[str, str]
) -> None:
    selector = {"matchLabels": exact, "matchExpressions": conditions}
    if exact or conditions:
        lenient = InvalidPolicy("team", "p", "", selector)
        assert lenient.selects(pod_labels) is matches(Selector.model_validate(selector), pod_labels)


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["spec", "metadata", "selector", "matchLabels", "matchExpressions", "name"]), inner
            )
        ),
    )
)
def test_nothing_in_a_list_is_an_exception(item: Any) -> None:
    if isinstance(item, dict):
        cache = PolicyCache()
        cache.replace([item])
        for namespace in list(cache._by_namespace):
            for invalid in cache.of(namespace).invalid:
                invalid.selects({"app": "llm"})
