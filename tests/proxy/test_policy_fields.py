"""Fields of a policy that nothing else carries from the file into the proxy: costs, groups, and two of the bounds."""

from typing import Any

import pytest

from fairqueue_proxy.scheduler import Prediction
from fairqueue_sim import RunningEngine
from proxy.conftest import StartProxy
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.raw_client import ask, request
from proxy.samples import sample
from proxy.scripted_engine import ScriptedEngine

QUADRATIC = {"inputInputPerMillion": 1_000_000, "inputOutputPerMillion": 1_000_000, "outputOutputPerMillion": 1_000_000}


@pytest.mark.parametrize(
    ("cost", "of_input", "of_output", "of_request", "squares"),
    [
        ({}, 1, 2, 0, False),
        ({"inputToken": 3, "outputToken": 5, "request": 7}, 3, 5, 7, False),
        ({"type": "Quadratic", "quadratic": QUADRATIC}, 1, 2, 0, True),
    ],
    ids=["the default", "other weights", "Quadratic"],
)
async def test_a_request_costs_what_the_policy_says(
    start_proxy: StartProxy,
    engine: RunningEngine,
    cost: dict[str, Any],
    of_input: int,
    of_output: int,
    of_request: int,
    squares: bool,
) -> None:
    stack = await start_proxy(engine.port, cost=cost)
    assert (await ask(stack.data, request("/generate", generate(), tenant="alice"))).status == 200
    (truth,) = engine.truth.requests
    prompt, output = truth.prompt_tokens, truth.made_tokens
    units = of_input * prompt + of_output * output + of_request
    if squares:
        units += prompt * prompt + prompt * output + output * output
    assert sample(await stack.metrics(), "service_total", tenant="alice") == units


@pytest.mark.parametrize(
    ("prediction", "reserved"),
    [("Mean", 256), ("MaxTokens", 400), ("None", 0)],
)
async def test_what_is_reserved_at_the_start_is_the_policys_prediction(
    start_proxy: StartProxy, scripted: ScriptedEngine, prediction: str, reserved: int
) -> None:
    stack = await start_proxy(scripted.port, cost={"prediction": prediction, "inputToken": 0})
    assert stack.proxy is not None
    assert stack.proxy.dispatcher.scheduler.prediction is Prediction(prediction)
    async with Crowd(stack) as crowd:
        await crowd.join("one", "alice", generate(max_new_tokens=400))
        play = await scripted.play()
        assert sample(await stack.metrics(), "virtual_counter", tenant="alice") == 2 * reserved
        await serve_in_turn(scripted, play, 0)


async def test_groups_share_by_their_weights_whatever_is_below_them(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    """Three turns of four go to the heavy group, though the other has a group below it with more tenants."""
    groups = [{"name": "heavy", "weight": 3}, {"name": "light"}, {"name": "below", "parent": "light"}]
    tenants = [
        {"name": "alice", "group": "heavy"},
        {"name": "bob", "group": "below"},
        {"name": "carol", "group": "below"},
    ]
    stack = await start_proxy(
        scripted.port, groups=groups, tenants=tenants, backpressure=ONE_AT_A_TIME, cost={"prediction": "None"}
    )
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "alice")
        for number in range(12):
            for tenant in ("alice", "bob", "carol"):
                await crowd.join(f"{tenant}-{number}", tenant)
        order = await serve_in_turn(scripted, play, 12)
    served = [name.partition("-")[0] for name in order]
    assert served.count("alice") in (8, 9)
    assert abs(served.count("bob") - served.count("carol")) <= 1


async def test_no_tenant_queues_more_than_each_of_them_may(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue={"maxRequestsPerTenant": 1})
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        for name in ("first", "second"):
            await crowd.join(name, "alice")
        assert await crowd.status("second") == 429
        await crowd.join("other", "bob")
        assert crowd.refused() == {"second": 429}
        await serve_in_turn(scripted, play, 2)


async def test_no_more_prompts_are_read_at_once_than_fit(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await start_proxy(scripted.port, backpressure={"maxRequests": 9, "maxPrefillTokens": 1000})
    assert stack.proxy is not None
    async with Crowd(stack) as crowd:
        # Four bytes are a token until the engine has counted.
        for name in ("first", "second", "third"):
            await crowd.join(name, "alice", generate("x" * 2000))
        plays = [await scripted.play() for _ in range(2)]
        assert [row["request_id"] for row in (await stack.queue())["queued"]] == ["third"]
        assert sample(await stack.metrics(), "capacity_used", budget="prefill") == 1000
        for play in plays:
            await serve_in_turn(scripted, play, 0)
        await serve_in_turn(scripted, await scripted.play(), 0)


async def test_the_anonymous_class_has_the_weight_that_the_policy_gives_it(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(
        engine.port, anonymous={"weight": 3}, identity={"onUnidentified": "Anonymous"}, tenants=[{"name": "alice"}]
    )
    metrics = await stack.metrics()
    assert [sample(metrics, "tenant_weight", tenant=name) for name in ("alice", "anonymous")] == [1, 3]
