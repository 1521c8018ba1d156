"""Bodies that go past the queue: how much of them is held, and who gives way."""

import asyncio

import pytest

from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.receiving import Room


def room_of(most_bytes: int) -> Room:
    room = Room()
    room.most_bytes = most_bytes
    return room


def test_room_is_given_back() -> None:
    room = room_of(100)
    with room.take("alice") as body:
        body.count(60)
        assert room.held_bytes == 60
    with room.take("alice") as body:
        body.count(100)
    assert room.held_bytes == 0


def test_the_largest_body_gives_way_of_whoever_holds_most() -> None:
    room = room_of(100)
    with room.take("flood") as small, room.take("flood") as large, room.take("alice") as alice:
        small.count(20)
        large.count(39)
        alice.count(41)
        # Both of the flood's together are more than hers, whose one is the largest.
        alice.count(1)
        assert (large.refused is not None, small.refused, alice.refused) == (True, None, None)
        assert room.held_bytes == 62
        with pytest.raises(Refused) as refused:
            large.count(1)
        assert (refused.value.outcome, refused.value.status) == (Outcome.QUEUE_FULL, 503)
    assert room.held_bytes == 0


def test_a_body_larger_than_the_room_is_refused_itself() -> None:
    room = room_of(100)
    with room.take("alice") as body, room.take("bob") as other:
        other.count(1)
        with pytest.raises(Refused):
            body.count(101)
        assert (room.held_bytes, other.refused) == (1, None)


async def test_who_gives_way_is_told_while_nothing_comes() -> None:
    room = room_of(100)
    with room.take("flood") as silent, room.take("alice") as body:
        silent.count(90)
        async with asyncio.timeout(60) as silent.receiving:
            body.count(20)
            assert silent.receiving is not None
            # It is told by an end to its time, which never comes here.
            assert silent.receiving.when() == 0
            silent.receiving.reschedule(None)
            await asyncio.sleep(0)
    assert silent.refused is not None
