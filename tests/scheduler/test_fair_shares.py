"""Who gets how much of an engine, in virtual time: goals of the scheduler core, with output lengths unknown to it."""

import pytest

from fairqueue_proxy.scheduler import Limits
from scheduler.engine_model import Engine

LONG_STEPS = 3000
RUNS = [(1, 1000), *(pytest.param(seed, LONG_STEPS, marks=pytest.mark.long) for seed in range(1, 12))]


def with_floods(engine: Engine, number: int) -> None:
    for flood in range(number):
        engine.backlogged.append(engine.core.add_node(f"flood {flood}"))


@pytest.mark.parametrize(("seed", "steps"), RUNS)
def test_backlogged_tenants_of_weights_1_and_3_are_served_1_to_3(seed: int, steps: int) -> None:
    engine = Engine(slots=16, seed=seed)
    light, heavy = engine.core.add_node("light"), engine.core.add_node("heavy", weight=3)
    engine.backlogged += [light, heavy]
    engine.measure(steps)
    ratio = engine.service[heavy] / engine.service[light]
    assert ratio == pytest.approx(3, rel=0.02), f"1 to {ratio:.3f}"
    assert engine.empty_slot_steps == 0
    assert engine.worst_gap <= 1, f"gap at {engine.worst_gap:.3f} of its bound"


@pytest.mark.parametrize(("seed", "steps"), RUNS)
def test_a_tenant_at_its_own_limit_costs_the_engine_nothing(seed: int, steps: int) -> None:
    engine = Engine(slots=16, seed=seed)
    capped = engine.core.add_node("capped", weight=100, limits=Limits(max_in_flight=1))
    engine.backlogged.append(capped)
    with_floods(engine, 2)
    engine.measure(steps)
    assert engine.empty_slot_steps == 0
    assert engine.made.total() == 16 * steps
    assert engine.worst_gap <= 1, f"gap at {engine.worst_gap:.3f} of its bound"


@pytest.mark.parametrize(
    ("cap", "goal", "seed", "steps"),
    [
        (2, 0.93, 1, 1000),
        *(
            pytest.param(cap, goal, seed, LONG_STEPS, marks=pytest.mark.long)
            for cap, goal in ((1, 0.93), (2, 0.93), (3, 0.85))
            for seed in range(1, 12)
        ),
    ],
)
def test_a_capped_tenant_gets_what_its_cap_allows_beside_seven_floods(
    cap: int, goal: float, seed: int, steps: int
) -> None:
    """On 24 slots the share of each of eight is three, so a cap of three is the tenant's very share."""
    engine = Engine(slots=24, seed=seed)
    capped = engine.core.add_node("capped", limits=Limits(max_in_flight=cap))
    engine.backlogged.append(capped)
    with_floods(engine, 7)
    engine.measure(steps)
    part = engine.made[capped] / (cap * steps)
    assert part >= goal, f"{part:.3f} of {cap} slots"
    assert engine.empty_slot_steps == 0
    assert engine.worst_gap <= 1, f"gap at {engine.worst_gap:.3f} of its bound"


@pytest.mark.parametrize(("seed", "steps"), RUNS)
def test_four_users_who_wait_for_each_answer_keep_their_share_beside_a_flood(seed: int, steps: int) -> None:
    """On 8 slots the users' tenant is entitled to four, just what its four users can use."""
    engine = Engine(slots=8, seed=seed)
    tenant = engine.core.add_node("chat")
    engine.users += [engine.core.add_node(f"user {number}", tenant) for number in range(4)]
    with_floods(engine, 1)
    engine.measure(steps)
    part = sum(engine.made[user] for user in engine.users) / (4 * steps)
    assert part >= 0.8, f"{part:.3f} of four slots"
    assert engine.empty_slot_steps == 0
    assert engine.worst_gap <= 1, f"gap at {engine.worst_gap:.3f} of its bound"
