"""Whatever happens to the stored certificates in whatever order, replicas end up serving what API servers take."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from injector.conftest import Clock
from injector.fake_cluster import FakeCluster
from injector.replica import CA, TLS, WEBHOOK, Replica

REPLICAS = 2
mishaps = st.one_of(
    st.tuples(st.just("delete"), st.sampled_from([CA, TLS])),
    st.tuples(st.just("spoil"), st.sampled_from([CA, TLS])),
    st.tuples(st.just("bundle"), st.sampled_from([b"", b"garbage"])),
    st.tuples(st.just("wait"), st.sampled_from([1, 15, 700, 5_200_000])),
    st.tuples(st.just("look"), st.integers(0, REPLICAS - 1)),
    st.tuples(st.just("look"), st.integers(0, REPLICAS - 1)),
    st.tuples(st.just("restart"), st.integers(0, REPLICAS - 1)),
)


@given(st.lists(mishaps, max_size=30))
def test_after_any_story_who_looked_is_taken_and_a_minute_later_all_serve_one_leaf(
    story: list[tuple[str, object]],
) -> None:
    asyncio.run(_live_through(story))


async def _live_through(story: list[tuple[str, object]]) -> None:
    clock, cluster = Clock(), FakeCluster()
    replicas = [Replica(cluster, clock) for _ in range(REPLICAS)]
    for what, which in story:
        if what == "look":
            replica = replicas[which]  # type: ignore[call-overload]
            await replica.look()
            assert replica.is_taken
            assert replica.leaf.not_valid_after_utc > clock()
        elif what == "restart":
            replicas[which] = Replica(cluster, clock)  # type: ignore[call-overload]
        else:
            _happen(cluster, clock, what, which)
    for _ in range(4):
        for replica in replicas:
            await replica.look()
            assert replica.is_taken
        clock.advance(seconds=15)
    assert len({replica.leaf for replica in replicas}) == 1
    written = len(cluster.writes)
    for replica in replicas:
        await replica.look()
    assert len(cluster.writes) == written


def _happen(cluster: FakeCluster, clock: Clock, what: str, which: object) -> None:
    if what == "wait":
        clock.advance(seconds=which)  # type: ignore[arg-type]
    elif what == "bundle":
        cluster.set_bundles(**{WEBHOOK: which})  # type: ignore[arg-type]
    elif f"fairqueue-system/{which}" in cluster.secrets:
        cluster.delete(str(which))
        if what == "spoil":
            cluster.put(str(which), {"tls.crt": b"?"})
