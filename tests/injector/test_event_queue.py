"""Whose Events wait and whose turn it is: that none is lost, and that nobody waits for those who have many."""

from collections import Counter
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator import event_queue
from fairqueue_operator.event_notes import Note
from fairqueue_operator.event_queue import (
    NAMESPACE_BURST,
    NAMESPACE_PER_SECOND,
    TOTAL_BURST,
    TOTAL_PER_SECOND,
    EventQueue,
)
from injector.conftest import START


def note(number: int = 0, namespace: str = "team", reason: str = "Ready", text: str = "It is.") -> Note:
    return Note(namespace, ("v1", "Pod", f"llm-{number}", "uid"), reason, text)


def taken(queue: EventQueue, now: float) -> Iterator[Note]:
    """All that may be written at that time."""
    while (waiting := queue.take(now)) is not None:
        yield waiting.note


def test_what_is_too_much_waits_and_is_not_lost() -> None:
    queue = EventQueue(0.0)
    notes = [note(number) for number in range(1000)]
    for each in notes:
        assert queue.put(each, START, 0.0) is None
    found = list(taken(queue, 0.0))
    assert len(found) == NAMESPACE_BURST
    now = 0.0
    while (wait := queue.wait_seconds(now)) is not None:
        assert wait > 0
        now += wait
        found += taken(queue, now)
    assert found == notes
    assert now <= (1000 - NAMESPACE_BURST) / NAMESPACE_PER_SECOND + 1
    assert len(queue) == 0


def test_who_has_many_keeps_only_its_own_waiting() -> None:
    queue = EventQueue(0.0)
    for number in range(5000):
        queue.put(note(number), START, 0.0)
    list(taken(queue, 0.0))
    queue.put(note(namespace="victim"), START, 0.0)
    assert list(taken(queue, 0.0)) == [note(namespace="victim")]


def test_namespaces_take_turns() -> None:
    queue = EventQueue(0.0)
    for number in range(30):
        for namespace in "ab":
            queue.put(note(number, namespace), START, 0.0)
    queue.put(note(namespace="c"), START, 0.0)
    assert [each.namespace for each in taken(queue, 0.0)][:5] == ["a", "b", "c", "a", "b"]


def test_all_together_have_an_allowance_too() -> None:
    queue = EventQueue(0.0)
    for number in range(1000):
        queue.put(note(namespace=f"n{number}"), START, 0.0)
    assert len(list(taken(queue, 0.0))) == TOTAL_BURST
    assert queue.wait_seconds(0.0) == 1 / TOTAL_PER_SECOND
    assert len(list(taken(queue, 2.0))) == 2 * TOTAL_PER_SECOND


def test_of_one_object_and_reason_the_newest_is_told_at_its_old_place() -> None:
    queue = EventQueue(0.0)
    newest = note(1, text="It is, in other words.")
    for each in (note(1), note(1, reason="Invalid"), note(2), newest):
        queue.put(each, START, 0.0)
    assert len(queue) == 3
    assert list(taken(queue, 0.0)) == [newest, note(1, reason="Invalid"), note(2)]


def test_where_there_is_no_more_room_who_has_most_loses_the_oldest() -> None:
    queue = EventQueue(0.0)
    queue.put(note(namespace="victim"), START, 0.0)
    dropped = [queue.put(note(number), START, 0.0) for number in range(event_queue.MOST_WAITING + 1)]
    assert [each for each in dropped if each is not None] == [note(0), note(1)]
    assert len(queue) == event_queue.MOST_WAITING
    assert note(namespace="victim") in list(taken(queue, 0.0))


def test_what_is_given_back_waits_again_unless_something_newer_does() -> None:
    queue = EventQueue(0.0)
    queue.put(note(1), START, 0.0)
    waiting = queue.take(0.0)
    assert waiting is not None
    queue.give_back(waiting, 1.0)
    assert queue.take(1.0) == waiting
    newer = note(1, text="Newer.")
    queue.put(newer, START, 1.0)
    queue.give_back(waiting, 1.0)
    assert list(taken(queue, 1.0)) == [newer]
    assert len(queue) == 0


def test_namespaces_that_come_and_go_are_not_remembered_for_ever() -> None:
    queue = EventQueue(0.0)
    for number in range(10_000):
        queue.put(note(namespace=f"run-{number}"), START, number * 10.0)
        assert len(list(taken(queue, number * 10.0))) == 1
    assert len(queue._namespaces) <= 1025


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.sampled_from("xy"), st.floats(0, 3))))
def test_whatever_is_told_the_last_word_on_each_object_and_reason_is_written(
    told: list[tuple[str, int, str, float]],
) -> None:
    queue = EventQueue(0.0)
    now = 0.0
    last: dict[tuple[str, int, str], Note] = {}
    found: list[Note] = []
    for index, (namespace, number, reason, seconds) in enumerate(told):
        now += seconds
        last[namespace, number, reason] = note(number, namespace, reason, str(index))
        queue.put(last[namespace, number, reason], START, now)
        if index % 7 == 0:
            found += taken(queue, now)
    while (wait := queue.wait_seconds(now)) is not None:
        now += wait
        found += taken(queue, now)
    assert set(last.values()) <= set(found)
    assert max(Counter(found).values(), default=0) <= 1
