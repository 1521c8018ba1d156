"""The keeper against an API server in memory and a clock that is set: first start, renewal, repair, races, outages.

Two keepers are two replicas. What a client would find is asked of the real cryptography: does the bundle take what a
replica serves? Decisions as such are `test_certificate_plan`'s.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest

from fairqueue_operator import certificate_keeper
from fairqueue_operator.certificates import make_authority, read_bundle
from fairqueue_operator.cluster_model import Conflict, Forbidden, Unreachable
from injector.conftest import Clock
from injector.fake_cluster import FakeCluster
from injector.replica import CA, KEPT, TLS, WEBHOOK, Replica

Lines = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
async def replicas(cluster: FakeCluster, clock: Clock) -> list[Replica]:
    """Two that have started, long ago enough that nothing is left to do."""
    both = [Replica(cluster, clock), Replica(cluster, clock)]
    for _ in range(3):
        for replica in both:
            await replica.look()
        clock.advance(minutes=11)
    for replica in both:
        await replica.look()
    cluster.calls.clear()
    return both


async def test_the_first_look_makes_everything(cluster: FakeCluster, clock: Clock) -> None:
    replica = Replica(cluster, clock)
    await replica.look()
    assert set(cluster.secrets) == {f"fairqueue-system/{CA}", f"fairqueue-system/{TLS}"}
    assert replica.is_taken
    assert set(cluster.secrets[f"fairqueue-system/{TLS}"].data) == {"tls.crt", "tls.key", "ca.crt"}


async def test_a_second_replica_serves_what_the_first_made(cluster: FakeCluster, clock: Clock) -> None:
    first, second = Replica(cluster, clock), Replica(cluster, clock)
    await first.look()
    made = list(cluster.writes)
    await second.look()
    assert cluster.writes == made
    assert second.leaf == first.leaf


async def test_when_nothing_is_to_be_done_nothing_is_written(replicas: list[Replica], cluster: FakeCluster) -> None:
    for replica in replicas:
        await replica.look()
    assert cluster.writes == []
    assert all(len(replica.served) == 1 for replica in replicas)


@pytest.mark.parametrize("missing", [CA, TLS])
async def test_two_replicas_that_start_at_once_agree(cluster: FakeCluster, clock: Clock, missing: str) -> None:
    """The one is overtaken just before it writes, and takes what the other wrote."""
    first, second = Replica(cluster, clock), Replica(cluster, clock)
    await second.look()
    stored = cluster.secrets[f"fairqueue-system/{missing}"].data
    cluster.delete(missing)
    cluster.before["create_secret"] = lambda: cluster.put(missing, stored)
    await first.look()
    assert first.leaf == second.leaf
    assert first.is_taken


async def test_a_leaf_is_renewed_at_two_thirds_of_its_life_once(
    replicas: list[Replica], cluster: FakeCluster, clock: Clock
) -> None:
    first, second = replicas
    old = first.leaf
    clock.advance(days=59)
    await first.look()
    assert first.leaf == old
    clock.advance(days=1)
    await first.look()
    await second.look()
    assert first.leaf == second.leaf != old
    assert cluster.writes == ["replace_secret"]
    assert first.is_taken


async def test_who_loses_the_race_for_a_renewal_serves_the_winners_leaf(
    replicas: list[Replica], cluster: FakeCluster, clock: Clock
) -> None:
    first, second = replicas
    clock.advance(days=60)
    winner = certificate_keeper.new_leaf(
        certificate_keeper.judge_authority(cluster.secrets[f"fairqueue-system/{CA}"].data, clock()).usable,  # type: ignore[arg-type]
        KEPT.dns_names,
        clock(),
    )
    cluster.before["replace_secret"] = lambda: cluster.put(TLS, winner)
    await first.look()
    await second.look()
    assert first.leaf == second.leaf
    assert first.served[-1].certificate_pem == winner["tls.crt"]
    assert cluster.writes == ["replace_secret"]


async def test_endless_conflicts_are_given_up(replicas: list[Replica], cluster: FakeCluster, clock: Clock) -> None:
    clock.advance(days=60)
    cluster.fail["replace_secret"] = Conflict("again")
    with pytest.raises(Conflict):
        await replicas[0].look()
    assert cluster.writes == ["replace_secret"] * 5


@pytest.mark.parametrize("bundle", [b"", b"garbage", make_authority(Clock()()).certificate_pem])
async def test_a_bundle_that_somebody_spoilt_is_repaired(
    replicas: list[Replica], cluster: FakeCluster, bundle: bytes
) -> None:
    cluster.set_bundles(**{WEBHOOK: bundle})
    await replicas[0].look()
    assert replicas[0].is_taken
    assert replicas[1].is_taken


async def test_a_bundle_that_changes_while_it_is_repaired_is_read_again(
    replicas: list[Replica], cluster: FakeCluster
) -> None:
    cluster.set_bundles(**{WEBHOOK: b""})
    cluster.before["patch_bundles"] = lambda: cluster.set_bundles(**{WEBHOOK: b"other", "more.fairqueue.dev": b""})
    await replicas[0].look()
    assert cluster.bundles is not None
    assert len(set(cluster.bundles.values())) == 1
    assert replicas[0].is_taken


async def test_when_the_authority_is_deleted_no_moment_passes_without_admissions_and_soon_all_is_new(
    replicas: list[Replica], cluster: FakeCluster, clock: Clock
) -> None:
    """A look each quarter of a minute by each replica, at different moments."""
    old = replicas[0].leaf
    old_authority = read_bundle((cluster.bundles or {})[WEBHOOK])
    cluster.delete(CA)
    seconds = 0.0
    while any(replica.leaf == old for replica in replicas):
        for replica in replicas:
            await replica.look()
            assert all(each.is_taken for each in replicas)
            clock.advance(seconds=certificate_keeper.INTERVAL_SECONDS / 2)
            seconds += certificate_keeper.INTERVAL_SECONDS / 2
    assert seconds <= 60
    assert replicas[0].leaf == replicas[1].leaf
    # The old authority may have been deleted for a reason: it is not trusted for long.
    clock.advance(minutes=11)
    await replicas[0].look()
    (authority,) = read_bundle((cluster.bundles or {})[WEBHOOK])
    assert authority not in old_authority
    assert all(replica.is_taken for replica in replicas)


async def test_the_leaf_is_not_replaced_before_api_servers_have_seen_the_new_authority(
    replicas: list[Replica], cluster: FakeCluster, clock: Clock
) -> None:
    cluster.delete(CA)
    await replicas[0].look()
    assert cluster.writes == ["create_secret", "patch_bundles"]
    clock.advance(seconds=4)
    await replicas[0].look()
    assert "replace_secret" not in cluster.writes
    clock.advance(seconds=1)
    await replicas[0].look()
    # It was seen trusted five seconds ago only now.
    clock.advance(seconds=5)
    await replicas[0].look()
    assert cluster.writes.count("replace_secret") == 1


async def test_when_both_secrets_are_deleted_admissions_go_on(
    replicas: list[Replica], cluster: FakeCluster, clock: Clock
) -> None:
    cluster.delete(CA)
    cluster.delete(TLS)
    await replicas[0].look()
    assert all(replica.is_taken for replica in replicas)
    assert replicas[0].leaf != replicas[1].leaf
    clock.advance(seconds=15)
    await replicas[1].look()
    assert replicas[0].leaf == replicas[1].leaf
    assert all(replica.is_taken for replica in replicas)


@pytest.mark.parametrize("name", [CA, TLS])
@pytest.mark.parametrize("content", [{}, {"tls.crt": b"x", "tls.key": b"y"}], ids=["empty", "garbage"])
async def test_a_corrupted_secret_is_replaced_and_admissions_go_on(
    replicas: list[Replica], cluster: FakeCluster, clock: Clock, name: str, content: dict[str, bytes]
) -> None:
    cluster.put(name, content)
    for _ in range(4):
        for replica in replicas:
            await replica.look()
            assert all(each.is_taken for each in replicas)
        clock.advance(seconds=15)
    assert replicas[0].leaf == replicas[1].leaf
    assert len(replicas[0].served) == 2


async def test_a_replica_that_starts_while_the_authority_changes_serves_the_old_leaf(
    replicas: list[Replica], cluster: FakeCluster, clock: Clock
) -> None:
    cluster.delete(CA)
    await replicas[0].look()
    late = Replica(cluster, clock)
    await late.look()
    assert late.leaf == replicas[0].leaf
    assert late.is_taken


async def test_what_the_keeper_may_not_repair_does_not_keep_it_from_serving(
    cluster: FakeCluster, clock: Clock, lines: Lines
) -> None:
    cluster.fail["read_webhooks"] = Forbidden("GET webhooks: 403")
    replica = Replica(cluster, clock)
    await replica.look()
    assert replica.served
    assert lines("caBundle not checked") == [{"error": "GET webhooks: 403"}]


async def test_while_the_bundle_cannot_be_read_a_leaf_of_another_authority_is_served_on(
    replicas: list[Replica], cluster: FakeCluster, clock: Clock
) -> None:
    cluster.delete(CA)
    cluster.fail["read_webhooks"] = Unreachable("no answer")
    for _ in range(4):
        await replicas[0].look()
        clock.advance(minutes=1)
    assert cluster.writes == ["create_secret"]
    assert len(replicas[0].served) == 1


async def test_without_a_webhook_configuration_all_else_is_kept(
    cluster: FakeCluster, clock: Clock, lines: Lines
) -> None:
    cluster.bundles = None
    replica = Replica(cluster, clock)
    await replica.look()
    cluster.delete(CA)
    await replica.look()
    assert len(replica.served) == 2
    assert lines("webhook configuration is missing: nothing is injected")


async def test_no_line_holds_anything_of_a_key(
    replicas: list[Replica], cluster: FakeCluster, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.put(CA, {"tls.crt": b"x", "tls.key": b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n"})
    caplog.set_level("DEBUG")
    await replicas[0].look()
    text = " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "certificate made anew" in text
    assert "PRIVATE" not in text
    assert "c2VjcmV0" not in text


class Stop(Exception):
    """Ends what never ends."""


async def test_looks_follow_at_a_quarter_of_a_minute_and_sooner_after_a_failure(
    cluster: FakeCluster, clock: Clock, jitter: random.Random, lines: Lines
) -> None:
    replica = Replica(cluster, clock)
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            cluster.fail["read_secret"] = Unreachable("GET secret: no answer in time")
        if len(waits) == 12:
            del cluster.fail["read_secret"]
        if len(waits) == 14:
            raise Stop

    with pytest.raises(Stop):
        await replica.keeper.run(pause, jitter)
    assert all(13.5 <= wait <= 16.5 for wait in waits[:3] + waits[12:])
    assert waits[3] <= 0.5
    assert max(waits[3:12]) <= 15
    assert lines("certificates not checked") == [{"error": "GET secret: no answer in time"}] * 9


async def test_a_defect_is_logged_and_does_not_end_the_keeper(
    cluster: FakeCluster, clock: Clock, jitter: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise Stop

    cluster.before["read_secret"] = lambda: 1 // 0
    replica = Replica(cluster, clock)
    with pytest.raises(Stop):
        await replica.keeper.run(pause, jitter)
    assert "ZeroDivisionError" in caplog.text
    assert replica.served
