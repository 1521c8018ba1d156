"""Clients that leave in the middle of an output, in simulations."""

from pathlib import Path

import pytest

from fairqueue_sim import FinishReason, Generation, Step, load_profile
from fairqueue_sim.lab.engines import LabEngine, RulesName
from fairqueue_sim.lab.orders import PredictedVtc
from fairqueue_sim.lab.outside import Outside
from fairqueue_sim.lab.policies import open_policy
from fairqueue_sim.lab.simulation import Clock, simulate
from fairqueue_sim.lab.trace import Arrival, read_trace


def served(*arrivals: Arrival, rules: RulesName = "tgi") -> tuple[Outside, list[float | None]]:
    """The product after these, and when each of them ended."""
    engine, clock = LabEngine(load_profile("a10g-llama2-7b"), rules), Clock()
    batch = engine.batch()
    front = Outside(open_policy(engine.kind, ["a"], {}), engine.report(), batch, clock, 0)
    course = simulate(arrivals, batch, front, clock)
    return front, [fate.ended_at for fate in course.fates]


@pytest.mark.parametrize("rules", ["tgi", "vllm"])
def test_one_that_is_hung_up_on_costs_as_much_as_one_that_ends_there_and_teaches_nothing(rules: RulesName) -> None:
    whole, cut = (
        served(Arrival(0.0, "a", 100, 30, max_tokens=500, outcome=outcome), rules=rules)
        for outcome in ("completed", "client_gone")
    )
    assert whole[1] == cut[1]
    nodes = [front.policy.tenants.by_name["a"].node for front, _ in (whole, cut)]
    assert [node.served for node in nodes] == [160_000_000, 160_000_000]
    assert [node.outputs.mean for node in nodes] == [30, None]


def test_who_hangs_up_after_all_that_was_allowed_has_seen_the_whole() -> None:
    front, _ = served(Arrival(0.0, "a", 100, 30, max_tokens=30, outcome="client_gone"))
    assert front.policy.tenants.by_name["a"].node.outputs.mean == 30


def test_a_guess_inside_the_engine_does_not_learn_from_hang_ups_either() -> None:
    order = PredictedVtc({})
    for number, reason in enumerate((FinishReason.EOS, FinishReason.ABORT)):
        generation = Generation(number, 10, 100, client="a", generated_tokens=10 + 80 * number)
        order.append(generation)
        order.take()
        order.over(Step(0.01, finished=[(generation, reason)]))
    assert order._mean(Generation(9, 10, client="a")) == 10


def test_who_left_before_anything_was_made_stays_in_a_replay(tmp_path: Path) -> None:
    """It left because it had to wait, which it may not have to under another policy."""
    path = tmp_path / "trace.csv"
    head = "arrival_seconds,tenant,prompt_tokens,output_tokens,outcome\n"
    path.write_text(head + "0,a,9,40,completed\n1,a,9,0,client_gone\n2,a,9,7,client_gone\n3,a,9,0,queue_full\n")
    read = read_trace(path)
    assert [arrival.hangs_up for arrival in read] == [False, False, True, False]
    assert [arrival.output_tokens for arrival in read] == [40, 24, 7, 24]
    assert read[3].outcome == "queue_full"
