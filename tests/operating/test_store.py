"""Whatever comes in whatever order: which pods are a policy's, and who is told of a change."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator.planning.pod_facts import read_pod
from fairqueue_operator.planning.policy_facts import read_policy_facts
from fairqueue_operator.store import PolicyKey, Store
from operating.resources import Json, pod, policy

NAMESPACES, POLICIES, PODS, APPS = ("a", "b"), ("p", "q", "r"), ("x", "y", "z"), ("one", "two")

policies = st.builds(
    lambda namespace, name, app, generation: policy(
        name, namespace=namespace, labels={"app": app}, generation=generation
    ),
    st.sampled_from(NAMESPACES),
    st.sampled_from(POLICIES),
    st.sampled_from(APPS),
    st.integers(1, 3),
)
pods = st.builds(
    lambda namespace, name, app, bound: pod(name, namespace=namespace, labels={"app": app}, bound=bound),
    st.sampled_from(NAMESPACES),
    st.sampled_from(PODS),
    st.sampled_from(APPS),
    st.sampled_from(("", *POLICIES)),
)
changes = st.lists(
    st.tuples(st.sampled_from(["put_policy", "drop_policy"]), policies)
    | st.tuples(st.sampled_from(["put_pod", "drop_pod"]), pods)
    | st.tuples(st.just("replace"), st.tuples(st.lists(policies, max_size=4), st.lists(pods, max_size=4))),
    max_size=25,
)


def listed(store: Store, policies: list[Json], pods: list[Json]) -> set[PolicyKey]:
    store.begin_listing()
    return store.end_listing(policies, [facts for item in pods if (facts := read_pod(item))])


class Model:
    """All there is, and everything found by looking at all of it."""

    def __init__(self) -> None:
        self.policies: dict[tuple[str, str], Json] = {}
        self.pods: dict[tuple[str, str], Json] = {}

    def change(self, what: str, given: Any) -> None:
        if what == "replace":
            self.policies, self.pods = ({_place(item): item for item in items} for items in given)
            return
        kept = self.policies if what.endswith("policy") else self.pods
        if what.startswith("put"):
            kept[_place(given)] = given
        else:
            kept.pop(_place(given), None)

    def pods_of(self, key: PolicyKey) -> set[str]:
        found = set()
        facts = read_policy_facts(self.policies[key]) if key in self.policies else None
        for (namespace, name), item in self.pods.items():
            known = read_pod(item)
            assert known is not None
            selected = facts is not None and facts.selects(known.labels)
            if namespace == key.namespace and (selected or known.bound_policy == key.name):
                found.add(name)
        return found

    def seen_from(self, key: PolicyKey) -> Any:
        """All that a policy's document and status may depend on, but for what others' selectors select."""
        spec = {name: item["spec"] for (namespace, name), item in self.policies.items() if namespace == key.namespace}
        return spec if key in self.policies else None, {
            name: self.pods[key.namespace, name] for name in self.pods_of(key)
        }


def _place(item: Json) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


@given(changes)
def test_knows_what_looking_at_everything_would_find_and_tells_all_whom_a_change_concerns(
    given_changes: list[tuple[str, Any]],
) -> None:
    store, model = Store(), Model()
    keys = [PolicyKey(namespace, name) for namespace in NAMESPACES for name in POLICIES]
    for what, given_item in given_changes:
        before = {key: model.seen_from(key) for key in keys}
        told = listed(store, *given_item) if what == "replace" else getattr(store, what)(given_item)
        model.change(what, given_item)
        for key in keys:
            assert {known.name for known in store.pods_of(key)} == model.pods_of(key)
            assert (store.policy(key) is not None) == (key in model.policies)
            if model.seen_from(key) != before[key]:
                assert key in told
        assert {key for key, _ in store.policies()} == set(model.policies)
        orphans = [
            (pod["metadata"]["annotations"].get("fairqueue.dev/bound-policy"), place)
            for place, pod in model.pods.items()
        ]
        assert store.orphaned() == sum(
            bool(bound) and (place[0], bound) not in model.policies for bound, place in orphans
        )


def test_a_status_of_ours_concerns_nobody_else() -> None:
    store = Store()
    assert store.put_policy(policy("p")) == {PolicyKey("team", "p")}
    assert store.put_policy(policy("q")) == {PolicyKey("team", "p"), PolicyKey("team", "q")}
    assert store.put_policy(policy("p", status={"tenants": 1})) == {PolicyKey("team", "p")}
    # What we wrote and took down ourselves comes back as an event.
    store.put_status(PolicyKey("team", "p"), {"tenants": 2})
    assert store.put_policy(policy("p", status={"tenants": 2})) == set()


def test_nothing_is_kept_of_what_is_gone() -> None:
    store = Store()
    store.put_policy(policy())
    store.put_pod(pod())
    store.drop_policy(policy())
    store.drop_pod(pod())
    assert store._namespaces == {}
    assert store._members == {}


def test_a_pod_that_ends_is_gone() -> None:
    store = Store()
    store.put_policy(policy())
    store.put_pod(pod())
    ending = pod()
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert store.put_pod(ending) == {PolicyKey("team", "shared")}
    assert store.pods_of(PolicyKey("team", "shared")) == ()


def test_a_pod_of_which_nothing_that_matters_has_changed_concerns_nobody() -> None:
    store = Store()
    store.put_policy(policy())
    assert store.put_pod(pod()) == {PolicyKey("team", "shared")}
    assert store.put_pod(pod()) == set()


def made_again(item: Json, uid: str, version: str) -> Json:
    return {**item, "metadata": {**item["metadata"], "uid": uid, "resourceVersion": version}}


KINDS = [("put_policy", "drop_policy", policy()), ("put_pod", "drop_pod", pod())]


@pytest.mark.parametrize(("put", "drop", "item"), KINDS)
def test_what_is_heard_late_of_an_object_is_not_taken_for_its_successor(put: str, drop: str, item: Json) -> None:
    store = Store()
    old, new = made_again(item, "old", "7"), made_again(item, "new", "9")
    getattr(store, put)(old)
    getattr(store, put)(new)
    # As kopf may give them, which has a worker for each uid.
    assert getattr(store, put)(made_again(item, "old", "8")) == set()
    assert getattr(store, drop)(made_again(item, "old", "8")) == set()
    known = store.policy(PolicyKey("team", "shared"))
    uid = known.facts.uid if known else store._namespaces["team"].pods["engine-0"].uid
    assert uid == "new"


def test_what_events_say_while_a_list_comes_stands_before_the_list() -> None:
    store = Store()
    for name in ("changed", "deleted"):
        store.put_policy(policy(name))
    store.put_pod(pod(started=False))
    store.begin_listing()
    store.put_policy(policy("changed", generation=2, mode="Observe"))
    store.drop_policy(policy("deleted"))
    store.put_policy(policy("new"))
    store.put_pod(pod())
    store.put_pod(pod("new"))
    before = read_pod(pod(started=False))
    assert before
    store.end_listing([policy("changed"), policy("deleted")], [before])
    assert {key.name: known.facts.generation for key, known in store.policies()} == {"changed": 2, "new": 1}
    assert {it.name: it.proxy_started for it in store.pods_of(PolicyKey("team", "new"))} == {
        "engine-0": True,
        "new": True,
    }
    # And the next list is believed again.
    assert listed(store, [], [])
    assert list(store.policies()) == []
