"""Turns: nothing before its time, never too many at once, nothing lost, and nobody kept waiting by others' crowds."""

from collections import Counter
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator.planning.turns import PolicyName, Turns

A, B, OTHER = ("team", "a"), ("team", "b"), ("other", "a")


def taken(turns: Turns, now: float, number: int = 1000) -> list[tuple[PolicyName, str]]:
    found = []
    while len(found) < number and (thing := turns.take(now)) is not None:
        found.append(thing)
    return found


def test_nothing_comes_before_its_time_and_what_is_due_longest_comes_first() -> None:
    turns = Turns(10, 10)
    turns.put(A, "late", 3.0)
    turns.put(A, "soon", 2.0)
    assert (turns.take(1.9), turns.next_at()) == (None, 2.0)
    assert taken(turns, 3.0) == [(A, "soon"), (A, "late")]
    assert turns.next_at() == inf


def test_a_thing_is_due_when_it_was_said_to_be_soonest_and_once() -> None:
    turns = Turns(10, 10)
    for due in (5.0, 2.0, 9.0):
        turns.put(A, "it", due)
    assert turns.next_at() == 2.0
    assert taken(turns, 2.0) == [(A, "it")]
    assert taken(turns, 10.0) == []
    turns.put(A, "it", 11.0)
    assert taken(turns, 11.0) == [(A, "it")]


def test_what_is_dropped_is_not_due() -> None:
    turns = Turns(10, 1)
    for uid in ("gone", "gone later", "here"):
        turns.put(A, uid, 1.0)
    turns.drop(A, "gone")
    # The first of them is under way, and the others wait for it.
    turns.put(A, "before", 0.0)
    assert taken(turns, 1.0) == [(A, "before")]
    turns.drop(A, "gone later")
    turns.drop(B, "never there")
    turns.done(A)
    assert taken(turns, 1.0) == [(A, "here")]


def test_policies_of_a_namespace_take_turns_and_so_do_namespaces() -> None:
    turns = Turns(100, 100)
    for number in range(10):
        turns.put(A, f"a-{number}", 0.0)
    turns.put(B, "b", 1.0)
    turns.put(OTHER, "other", 1.0)
    assert taken(turns, 0.0, 2) == [(A, "a-0"), (A, "a-1")]
    for _ in range(2):
        turns.done(A)
    order = []
    for _ in range(4):
        order += taken(turns, 1.0, 1)
        turns.done(order[-1][0])
    assert sorted(policy for policy, _ in order[:3]) == [OTHER, A, B]


def test_a_free_place_goes_to_who_has_the_fewest_under_way() -> None:
    turns = Turns(4, 3)
    for number in range(10):
        turns.put(A, f"a-{number}", 0.0)
    assert [policy for policy, _ in taken(turns, 0.0)] == [A] * 3
    assert turns.next_at() == inf
    for number in range(3):
        turns.put(OTHER, f"other-{number}", 0.0)
    assert taken(turns, 0.0) == [(OTHER, "other-0")]
    turns.done(A)
    # Two and one.
    assert [policy for policy, _ in taken(turns, 0.0)] == [OTHER]
    turns.done(OTHER)
    turns.done(OTHER)
    assert turns.next_at() == -inf


POLICIES = [(namespace, name) for namespace in ("x", "y", "z") for name in ("a", "b")]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(POLICIES), st.integers(0, 5), st.integers(0, 20)),
        st.tuples(st.just("drop"), st.sampled_from(POLICIES), st.integers(0, 5), st.just(0)),
        st.tuples(st.sampled_from(["take", "done"]), st.just(A), st.just(0), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 6), st.integers(1, 3))
def test_against_a_plain_table_of_what_is_due(
    steps: list[tuple[str, PolicyName, int, int]], at_once: int, of_a_namespace: int
) -> None:
    turns, now = Turns(at_once, of_a_namespace), 0.0
    due: dict[tuple[PolicyName, str], float] = {}
    under_way: list[PolicyName] = []
    for what, policy, uid, number in steps:
        if what == "put":
            turns.put(policy, str(uid), now + number)
            due[policy, str(uid)] = min(due.get((policy, str(uid)), inf), now + number)
        elif what == "drop":
            turns.drop(policy, str(uid))
            due.pop((policy, str(uid)), None)
        elif what == "done" and under_way:
            turns.done(under_way.pop(number % len(under_way)))
        else:
            now += number
            for thing in taken(turns, now):
                assert due.pop(thing) <= now
                under_way.append(thing[0])
            counts = Counter(namespace for namespace, _ in under_way)
            assert len(under_way) <= at_once
            assert max(counts.values(), default=0) <= of_a_namespace
            # Whatever is due and was not taken had no place.
            full = len(under_way) == at_once
            assert all(full or counts[name[0]] == of_a_namespace for (name, _), at in due.items() if at <= now)
            later = [at for at in due.values() if at > now]
            assert turns.next_at() == min(later, default=inf)
    for policy in under_way:
        turns.done(policy)
    left = []
    while (thing := turns.take(now + 100)) is not None:
        left.append(thing)
        turns.done(thing[0])
    assert sorted(left) == sorted(due)
    assert (turns._due, turns._ready, +turns._under_way) == ({}, {}, Counter())
