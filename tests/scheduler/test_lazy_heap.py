"""The heap whose entries are lower bounds of keys that mostly rise."""

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from fairqueue_proxy.scheduler.lazy_heap import LazyHeap


class Item:
    """Something with a key, and no order of its own."""

    def __init__(self, name: str, key: float) -> None:
        self.name = name
        self.key = key


class Counting:
    """A heap of items that counts how often a key is looked at."""

    def __init__(self) -> None:
        self.looks = 0
        self.heap: LazyHeap[Item] = LazyHeap(self._key)

    def _key(self, item: Item) -> tuple[float | str, ...]:
        self.looks += 1
        return (item.key, item.name)

    def filled(self, size: int) -> list[Item]:
        items = [Item(f"{number:06}", number) for number in range(size)]
        for item in items:
            self.heap.add(item)
        return items


def entries(heap: LazyHeap[Item]) -> int:
    return len(heap._heap)


def test_an_empty_heap_has_no_first() -> None:
    assert Counting().heap.first() is None


def test_the_first_is_the_one_with_the_smallest_key() -> None:
    counting = Counting()
    low, high = Item("low", 1), Item("high", 2)
    counting.heap.add(high)
    counting.heap.add(low)
    assert counting.heap.first() is low


def test_looking_at_the_first_leaves_it_in() -> None:
    counting = Counting()
    (item,) = counting.filled(1)
    assert counting.heap.first() is item
    assert counting.heap.first() is item
    assert item in counting.heap


def test_a_risen_key_is_noticed_without_being_reported() -> None:
    counting = Counting()
    low, high = counting.filled(2)
    low.key = 5
    assert counting.heap.first() is high
    assert entries(counting.heap) == 2


def test_a_fallen_key_is_noticed_once_it_is_reported() -> None:
    counting = Counting()
    low, high = counting.filled(2)
    high.key = -1
    assert counting.heap.first() is low
    counting.heap.lowered(high)
    assert counting.heap.first() is high


def test_reporting_a_key_that_has_not_fallen_adds_no_entry() -> None:
    counting = Counting()
    low, high = counting.filled(2)
    counting.heap.lowered(low)
    high.key = 7
    counting.heap.lowered(high)
    assert entries(counting.heap) == 2


def test_reporting_an_item_that_is_not_there_does_not_put_it_in() -> None:
    counting = Counting()
    counting.heap.lowered(Item("stranger", -1))
    assert counting.heap.first() is None


def test_a_key_that_fell_and_rose_again_counts_as_it_is_now() -> None:
    counting = Counting()
    low, high = counting.filled(2)
    high.key = -1
    counting.heap.lowered(high)
    high.key = 9
    assert counting.heap.first() is low
    low.key = 10
    assert counting.heap.first() is high


def test_a_discarded_item_is_gone() -> None:
    counting = Counting()
    low, high = counting.filled(2)
    counting.heap.discard(low)
    assert low not in counting.heap
    assert high in counting.heap
    assert len(counting.heap) == 1
    assert counting.heap.first() is high


def test_discarding_what_is_not_there_changes_nothing() -> None:
    counting = Counting()
    (item,) = counting.filled(1)
    counting.heap.discard(Item("stranger", 0))
    assert counting.heap.first() is item


def test_an_item_can_come_back_with_a_larger_key() -> None:
    counting = Counting()
    low, high = counting.filled(2)
    counting.heap.discard(low)
    low.key = 5
    counting.heap.add(low)
    assert counting.heap.first() is high
    counting.heap.discard(high)
    assert counting.heap.first() is low


def test_adding_an_item_again_does_not_count_it_twice() -> None:
    counting = Counting()
    (item,) = counting.filled(1)
    counting.heap.add(item)
    assert len(counting.heap) == 1
    counting.heap.discard(item)
    assert counting.heap.first() is None


def test_entries_left_behind_take_a_bounded_amount_of_memory() -> None:
    counting = Counting()
    counting.filled(10)
    most = 0
    for number in range(10_000):
        guest = Item(f"guest {number}", 100)
        counting.heap.add(guest)
        most = max(most, entries(counting.heap))
        counting.heap.discard(guest)
    assert most <= 2 * 11 + 16


def test_few_entries_left_behind_are_not_swept_up_at_each_addition() -> None:
    """Sweeping costs as much as the heap is long, so it must wait until that many have gathered."""
    counting = Counting()
    counting.filled(10)
    guests = [Item(f"guest {number}", 100) for number in range(26)]
    for guest in guests:
        counting.heap.add(guest)
        counting.heap.discard(guest)
    assert entries(counting.heap) == 10 + 26


def test_a_sweep_keeps_the_order() -> None:
    counting = Counting()
    items = counting.filled(50)
    for item in items[5:]:
        counting.heap.discard(item)
    counting.heap.add(items[40])
    assert entries(counting.heap) == 6
    order = []
    while (first := counting.heap.first()) is not None:
        order.append(first)
        counting.heap.discard(first)
    assert order == [*items[:5], items[40]]


def test_a_decision_looks_at_as_many_keys_among_10000_as_among_10() -> None:
    def looks_per_decision(size: int) -> float:
        counting = Counting()
        counting.filled(size)
        counting.looks = 0
        for _ in range(1000):
            first = counting.heap.first()
            assert first is not None
            first.key += size
        return counting.looks / 1000

    assert looks_per_decision(10) <= 3
    assert looks_per_decision(10_000) <= 3


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "discard", "set", "set"]), st.integers(0, 7), st.integers(-20, 20)),
        max_size=120,
    )
)
def test_the_first_is_always_the_smallest_of_what_is_in(steps: list[tuple[str, int, int]]) -> None:
    items = [Item(f"{number}", 0) for number in range(8)]
    heap: LazyHeap[Item] = LazyHeap(lambda item: (item.key, item.name))
    inside: set[Hashable] = set()
    for step, which, key in steps:
        item = items[which]
        if step == "add":
            heap.add(item)
            inside.add(item)
        elif step == "discard":
            heap.discard(item)
            inside.discard(item)
        else:
            fell = key < item.key
            item.key = key
            if fell:
                heap.lowered(item)
        expected = min((i for i in items if i in inside), key=lambda i: (i.key, i.name), default=None)
        assert heap.first() is expected
        assert len(heap) == len(inside)
        assert all((i in heap) == (i in inside) for i in items)
