"""What /metrics shows: names, types and labels as documented, and values that are what really happened."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import count

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fairqueue_proxy.exposition import Exposition
from fairqueue_proxy.intake import FIRST_LIMIT, STANDING
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.proxy import Proxy
from fairqueue_sim import RunningEngine, running_engine
from proxy.changing import Versions
from proxy.conftest import StartProxy
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.raw_client import ask, request
from proxy.samples import sample, samples
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, ScriptedEngine, chunk, tgi_token
from proxy_stack import Stack

TENANT = {"tenant"}
EVERYTHING = {
    "requests": ("counter", {"tenant", "outcome"}),
    "tokens": ("counter", {"tenant", "kind"}),
    "service": ("counter", TENANT),
    "entitled_service": ("counter", TENANT),
    "owed_service": ("gauge", TENANT),
    "backlogged_seconds": ("counter", TENANT),
    "queue_requests": ("gauge", TENANT),
    "in_flight_requests": ("gauge", TENANT),
    "tenant_weight": ("gauge", TENANT),
    "virtual_counter": ("gauge", TENANT),
    "queue_seconds": ("histogram", TENANT),
    "time_to_first_token_seconds": ("histogram", TENANT),
    "request_seconds": ("histogram", TENANT),
    "fairness_gap": ("gauge", {"group"}),
    "fairness_bound": ("gauge", {"group"}),
    "capacity_limit": ("gauge", {"budget", "source"}),
    "capacity_used": ("gauge", {"budget"}),
    "idle_capacity_seconds": ("counter", set()),
    "metering_drift_tokens": ("counter", {"direction"}),
    "malformed_events": ("counter", set()),
    "engine_up": ("gauge", set()),
    "engine_waiting_requests": ("gauge", set()),
    "engine_running_requests": ("gauge", set()),
    "engine_scrape_age_seconds": ("gauge", set()),
    "config_info": ("gauge", {"policy", "revision", "mode"}),
    "config_refused": ("gauge", set()),
    "config_reload_failures": ("counter", set()),
    "process_cpu_seconds": ("counter", set()),
    "process_start_time_seconds": ("gauge", set()),
    "process_resident_memory_bytes": ("gauge", set()),
    "process_open_fds": ("gauge", set()),
}
HISTOGRAMS = {name for name, (kind, _) in EVERYTHING.items() if kind == "histogram"}
FROM_THE_ENGINE = {"engine_waiting_requests", "engine_running_requests"}


def labels_of(text: str, name: str) -> set[tuple[str, ...]]:
    """The label values of a metric's samples."""
    return {tuple(value for _, value in labels) for found, labels in samples(text) if found == f"fairqueue_{name}"}


async def look(stack: Stack) -> None:
    """Asks the engine for its gauges now."""
    assert stack.proxy is not None
    await stack.proxy.watch.look()


async def test_after_a_request_everything_is_there_with_its_type_and_its_labels_and_nothing_else(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    assert (await ask(stack.data, request("/generate", generate(), tenant="alice"))).status == 200
    await look(stack)
    reply = await ask(stack.admin, request("/metrics", method="GET"))
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in text_string_to_metric_families(reply.body.decode()):
        assert family.documentation.endswith("."), family.name
        labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert len(labels) == 1, family.name
        found[family.name] = (family.type, set(next(iter(labels))))
    assert {name.removeprefix("fairqueue_"): described for name, described in found.items()} == EVERYTHING


async def test_before_the_first_request_counters_of_all_tenants_stand_at_zero_and_empty_histograms_are_left_out(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    text = await stack.metrics()
    families = {family.name.removeprefix("fairqueue_") for family in text_string_to_metric_families(text)}
    # TGI says nothing before its first request.
    assert families == EVERYTHING.keys() - HISTOGRAMS - FROM_THE_ENGINE
    for tenant in ("alice", "bob"):
        for kind in ("input", "cached_input", "output"):
            assert sample(text, "tokens_total", tenant=tenant, kind=kind) == 0
        for name in ("service_total", "entitled_service_total", "backlogged_seconds_total"):
            assert sample(text, name, tenant=tenant) == 0
    # So do those that an alert counts; other outcomes appear when they happen.
    outcomes = ("completed", "tenant_queue_full", "queue_full", "queue_timeout", "engine_unavailable")
    shown = {labels: value for (name, labels), value in samples(text).items() if name == "fairqueue_requests_total"}
    assert {tuple(value for _, value in labels): count for labels, count in shown.items()} == {
        (outcome, tenant): 0 for outcome in outcomes for tenant in ("alice", "bob", "other")
    }


async def test_a_histogram_has_at_most_eight_buckets_and_only_tenants_that_were_seen(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    for _ in range(3):
        await ask(stack.data, request("/generate_stream", generate(), tenant="alice"))
    text = await stack.metrics()
    for name in HISTOGRAMS:
        assert labels_of(text, f"{name}_count") == {("alice",)}
        buckets = sorted(
            (float(dict(labels)["le"]), value)
            for (found, labels), value in samples(text).items()
            if found == f"fairqueue_{name}_bucket"
        )
        counts = [value for _, value in buckets]
        assert 2 < len(buckets) <= 8
        assert counts == sorted(counts)
        assert buckets[-1] == (float("inf"), 3.0)
        assert sample(text, f"{name}_count", tenant="alice") == 3
        assert 0 <= sample(text, f"{name}_sum", tenant="alice") < 30


def totals(engine: RunningEngine, names: Iterable[str]) -> tuple[int, int]:
    """Prompt and output tokens that the engine really had for these requests."""
    truths = [engine.truth.find(name) for name in names]
    return sum(truth.prompt_tokens for truth in truths), sum(truth.made_tokens for truth in truths)


async def test_requests_tokens_and_service_are_what_the_engine_really_did(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port, tenants=[{"name": "alice", "weight": 3}, {"name": "bob"}])
    chat = {"messages": [{"role": "user", "content": "some more words"}], "max_tokens": 7, "stream": True}
    asked: dict[str, list[str]] = {"alice": [], "bob": []}
    for number, (tenant, path, body) in enumerate(
        [
            ("alice", "/generate_stream", generate("one two three", max_new_tokens=5)),
            ("alice", "/generate", generate("four", max_new_tokens=9)),
            ("alice", "/generate", generate("[[fail=3]] five", max_new_tokens=9)),
            ("bob", "/v1/chat/completions", chat),
        ]
    ):
        name = f"r{number}"
        await ask(stack.data, request(path, body, tenant=tenant, headers={"x-request-id": name}))
        if "fail" not in str(body):
            asked[tenant].append(name)
    await ask(stack.data, request("/generate", generate()))
    await ask(stack.data, request("/generate", b"{", tenant="bob"))
    text = await stack.metrics()
    outcomes = {labels: value for (name, labels), value in samples(text).items() if name == "fairqueue_requests_total"}
    assert {tuple(value for _, value in labels): count for labels, count in outcomes.items() if count} == {
        ("completed", "alice"): 2,
        ("engine_error", "alice"): 1,
        ("completed", "bob"): 1,
        ("bad_request", "bob"): 1,
        ("unauthenticated", ""): 1,
    }
    prompt, output = totals(engine, asked["bob"])
    assert sample(text, "tokens_total", tenant="bob", kind="input") == prompt > 0
    assert sample(text, "tokens_total", tenant="bob", kind="output") == output == 7
    assert sample(text, "tokens_total", tenant="bob", kind="cached_input") == 0
    assert sample(text, "service_total", tenant="bob") == prompt + 2 * output
    prompt, output = totals(engine, asked["alice"])
    assert output == 14
    assert sample(text, "tokens_total", tenant="alice", kind="output") >= output
    assert sample(text, "service_total", tenant="alice") >= prompt + 2 * output
    assert sample(text, "tenant_weight", tenant="alice") == 3
    assert sample(text, "tenant_weight", tenant="bob") == 1
    # Refused before it was queued, or before it had a first token: not in the histogram of what comes later.
    counts = [sample(text, f"{name}_count", tenant="bob") for name in sorted(HISTOGRAMS)]
    assert dict(zip(sorted(HISTOGRAMS), counts, strict=True)) == {
        "queue_seconds": 1,
        "request_seconds": 2,
        "time_to_first_token_seconds": 1,
    }


async def test_what_waits_and_what_runs_is_shown_while_it_does(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    tenants = [{"name": "alice"}, {"name": "bob", "weight": 2}]
    stack = await start_proxy(scripted.port, tenants=tenants, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        for name in ("first", "second"):
            await crowd.join(name, "bob")
        text = await stack.metrics()
        for name, alice, bob in (("queue_requests", 0, 2), ("in_flight_requests", 1, 0)):
            assert (sample(text, name, tenant="alice"), sample(text, name, tenant="bob")) == (alice, bob)
        assert sample(text, "capacity_limit", budget="requests", source="policy") == 1
        assert sample(text, "capacity_used", budget="requests") == 1
        assert sample(text, "capacity_used", budget="prefill") > 0
        assert sample(text, "virtual_counter", tenant="alice") > 0
        assert sample(text, "fairness_gap", group="") <= sample(text, "fairness_bound", group="")
        assert sample(text, "idle_capacity_seconds_total") == 0
        # bob waits, alice only runs.
        await asyncio.sleep(0.02)
        waited = [
            [sample(each, "backlogged_seconds_total", tenant=tenant) for each in (text, await stack.metrics())]
            for tenant in ("alice", "bob")
        ]
        assert waited[0][0] == waited[0][1]
        assert waited[1][1] - waited[1][0] >= 0.02
        await serve_in_turn(scripted, play, 2)
        assert [await crowd.status(name) for name in ("occupant", "first", "second")] == [200] * 3
    ended = [await stack.metrics() for _ in range(2)]
    for name in ("queue_requests", "in_flight_requests"):
        assert [sample(ended[0], name, tenant=tenant) for tenant in ("alice", "bob")] == [0, 0]
    stood = [sample(each, "backlogged_seconds_total", tenant="bob") for each in ended]
    assert stood[0] == stood[1] > waited[1][1]


async def test_gap_and_bound_are_shown_for_the_root_and_for_each_group(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    tenants = [{"name": "alice", "group": "team"}, {"name": "bob"}]
    stack = await start_proxy(engine.port, tenants=tenants, groups=[{"name": "team"}])
    await ask(stack.data, request("/generate", generate(), tenant="alice"))
    text = await stack.metrics()
    assert labels_of(text, "fairness_gap") == labels_of(text, "fairness_bound") == {("",), ("team",)}
    assert sample(text, "fairness_gap", group="team") == 0
    assert sample(text, "fairness_bound", group="team") > 0


@pytest.mark.parametrize(
    ("kind", "info", "policy", "limits"),
    [
        pytest.param("OpenAI", {}, {}, {("unstarted", "learned"): FIRST_LIMIT}, id="learned"),
        pytest.param(
            "LlamaCpp",
            {"total_slots": 4},
            {},
            # One more than it runs at once stands in its queue.
            {("requests", "engine"): 4 + STANDING, ("unstarted", "learned"): FIRST_LIMIT},
            id="engine",
        ),
        pytest.param("LlamaCpp", {"total_slots": 4}, {"maxRequests": 3}, {("requests", "policy"): 3}, id="policy"),
    ],
)
async def test_a_limit_names_where_it_comes_from(
    start_proxy: StartProxy,
    scripted: ScriptedEngine,
    kind: str,
    info: dict[str, int],
    policy: dict[str, int],
    limits: dict[tuple[str, str], int],
) -> None:
    scripted.info = info
    stack = await start_proxy(scripted.port, kind=kind, backpressure=policy)
    text = await stack.metrics()
    # A budget without a limit has none to show.
    assert labels_of(text, "capacity_limit") == set(limits)
    for (budget, source), limit in limits.items():
        assert sample(text, "capacity_limit", budget=budget, source=source) == limit
    assert labels_of(text, "capacity_used") == {("requests",), ("tokens",), ("prefill",), ("unstarted",)}


async def test_what_the_engine_reports_is_shown_with_its_age_and_left_out_while_it_is_not_known(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port)
    names = {name.removeprefix("fairqueue_") for name, _ in samples(await stack.metrics())}
    assert not names & FROM_THE_ENGINE
    scripted.metrics = b"# TYPE tgi_queue_size gauge\ntgi_queue_size 3\ntgi_batch_current_size 5\n"
    await look(stack)
    text = await stack.metrics()
    assert [sample(text, f"engine_{name}") for name in ("up", "waiting_requests", "running_requests")] == [1, 3, 5]
    assert 0 <= sample(text, "engine_scrape_age_seconds") < 5
    scripted.healthy = False
    await look(stack)
    assert sample(await stack.metrics(), "engine_up") == 0


async def test_an_engine_whose_metrics_break_off_is_up_all_the_same(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    scripted.answers["GET /metrics"] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntgi_"
    scripted.answers["GET /info"] = b"no HTTP"
    stack = await start_proxy(scripted.port)
    await look(stack)
    assert sample(await stack.metrics(), "engine_up") == 1
    assert (await stack.get(stack.admin, "/-/ready"))[0] == 200


async def test_what_was_counted_is_held_against_what_the_engine_said_at_the_end(start_proxy: StartProxy) -> None:
    async with running_engine("openai", profile="tiny") as engine:
        stack = await start_proxy(engine.port, kind="OpenAI")
        for words, drift in (("plain", 0), ("[[merge=4]] four tokens in a piece", 6)):
            body = {"messages": [{"role": "user", "content": words}], "max_tokens": 8, "stream": True}
            assert (await ask(stack.data, request("/v1/chat/completions", body, tenant="alice"))).status == 200
            text = await stack.metrics()
            assert sample(text, "metering_drift_tokens_total", direction="under") == drift
            assert sample(text, "metering_drift_tokens_total", direction="over") == 0
        # The engine has the last word.
        assert sample(text, "tokens_total", tenant="alice", kind="output") == 16


async def test_events_that_could_not_be_read_are_counted_and_passed_on(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port)
    streaming = asyncio.create_task(ask(stack.data, request("/generate_stream", generate(), tenant="alice")))
    garbage = chunk(b"data: {not json}\n\n")
    (await scripted.play()).answer(STREAM_HEAD + tgi_token(" a") + garbage + tgi_token(" b", last=True) + LAST_CHUNK)
    assert (await streaming).events[1] == "{not json}"
    assert sample(await stack.metrics(), "malformed_events_total") == 1


async def test_the_policy_in_force_is_named(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port)
    config = (await ask(stack.admin, request("/-/config", method="GET"))).json
    assert (
        sample(
            await stack.metrics(), "config_info", policy=config["policy"], revision=config["revision"], mode="Enforce"
        )
        == 1
    )


async def test_counters_that_have_grown_large_still_move_with_each_request(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    assert stack.proxy is not None
    tenant = stack.proxy.runtime.tenants.by_name["alice"]
    tenant.input_tokens = 98_765_432_109_876
    tenant.outcomes[Outcome.COMPLETED] = 12_345_678_901
    tenant.node.served = 12_345_678_901_500_000
    before = await stack.metrics()
    assert 'tokens_total{tenant="alice",kind="input"} 98765432109876\n' in before
    assert 'requests_total{tenant="alice",outcome="completed"} 12345678901\n' in before
    assert 'fairqueue_service_total{tenant="alice"} 12345678901.5\n' in before
    assert (await ask(stack.data, request("/generate", generate(), tenant="alice"))).status == 200
    after = await stack.metrics()
    assert 'outcome="completed"} 12345678902\n' in after
    assert sample(after, "tokens_total", tenant="alice", kind="input") > 98_765_432_109_876
    assert sample(after, "service_total", tenant="alice") > 12_345_678_901.5


async def sliced(proxy: Proxy, between: Callable[[], None] = lambda: None) -> list[str]:
    """A scrape whose slices are as small as can be, as time flies; `between` is called after each of them."""
    proxy.runtime.clock = count().__next__
    slices = []
    async for text in Exposition(proxy.runtime, proxy.entitlement, proxy.reloads).slices():
        slices.append(text.decode())
        between()
    return slices


async def test_others_are_let_in_between_the_slices_of_a_scrape(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port, tenants=[{"name": f"tenant-{number}"} for number in range(50)])
    assert stack.proxy is not None
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    slices = await sliced(stack.proxy)
    turning.cancel()
    families = list(text_string_to_metric_families("".join(slices)))
    assert len(slices) > 10 * 50
    assert turns > len(slices) - 10
    assert len({family.name for family in families}) == len(families)
    assert len(labels_of("".join(slices), "tokens_total")) == 3 * (50 + 1)


async def test_a_scrape_takes_all_that_it_shows_of_tenants_at_its_beginning(
    start_proxy: StartProxy, engine: RunningEngine, versions: Versions
) -> None:
    stack = await start_proxy(engine.port)
    proxy = stack.proxy
    assert proxy is not None
    await ask(stack.data, request("/generate", generate(), tenant="alice"))
    alice = proxy.runtime.tenants.by_name["alice"]
    before = alice.output_tokens

    def change() -> None:
        alice.output_tokens += 1
        if "alice" in proxy.runtime.tenants.by_name:
            versions.apply(stack, tenants=[{"name": "carol"}])

    text = "".join(await sliced(proxy, change))
    assert {tenant for (tenant,) in labels_of(text, "virtual_counter")} == {"alice", "bob"}
    assert sample(text, "tokens_total", tenant="alice", kind="output") == before
    assert sample(text, "queue_seconds_count", tenant="alice") == 1
