"""A tenant's own users, and identities without a tenant: they share what their class gets, and take nothing from
others. How they are held back together is in `test_users_limits`."""

from typing import Any

import pytest

from fairqueue_api.json_lines import JsonLines
from fairqueue_proxy import tenants as tenants_module
from proxy.conftest import StartProxy, Until
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.raw_client import RawClient, request
from proxy.samples import samples
from proxy.scripted_engine import Play, ScriptedEngine, json_reply
from proxy_stack import Stack

GATEWAY = "127.0.0.2"
GENERATED = json_reply({"generated_text": "x"})

SPLIT = [{"name": "alice", "fairWithin": "User"}, {"name": "bob"}]
IDENTITY = {
    "onUnidentified": "Anonymous",
    "sources": [
        {"name": "gateway", "type": "Header", "header": {"name": "X-Tenant", "trustedCIDRs": [f"{GATEWAY}/32"]}},
        {"name": "api-key", "type": "APIKey", "apiKey": {}},
    ],
}


def chat(user: str | None = None) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    return body if user is None else {**body, "user": user}


async def join(crowd: Crowd, count: int, user: str | None, *, tenant: str = "alice", name: str | None = None) -> None:
    """So many requests of one user, named after it."""
    for number in range(count):
        await crowd.join(f"{name or user}-{number}", tenant, chat(user), "/v1/chat/completions")


def names(name: str, *numbers: int) -> list[str]:
    return [f"{name}-{number}" for number in numbers]


def leaf_names(stack: Stack, tenant: str) -> list[str]:
    assert stack.proxy is not None
    return sorted(stack.proxy.runtime.tenants.by_name[tenant].node.children)


BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": chat(),
    "/v1/completions": {"prompt": "hello", "max_tokens": 2},
    "/v1/embeddings": {"input": "hello"},
    "/v1/responses": {"input": "hello", "max_output_tokens": 2},
    "/v1/messages": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, "user": "ignored"},
}


@pytest.mark.parametrize("path", BODIES)
async def test_two_users_of_a_tenant_take_turns_though_one_floods(
    start_proxy: StartProxy, scripted: ScriptedEngine, path: str
) -> None:
    stack = await start_proxy(scripted.port, kind="OpenAI", tenants=SPLIT, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        await crowd.join("occupant", "bob", chat(), "/v1/chat/completions")
        play = await scripted.play()
        for user, count in (("busy", 5), ("calm", 2)):
            named = {"metadata": {"user_id": user}} if path == "/v1/messages" else {"user": user}
            for number in range(count):
                await crowd.join(f"{user}-{number}", "alice", BODIES[path] | named, path)
        order = await serve_in_turn(scripted, play, 7)
    assert order == ["busy-0", "calm-0", "busy-1", "calm-1", "busy-2", "busy-3", "busy-4"]


async def test_users_count_for_nothing_where_the_policy_does_not_split(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, tenants=[{"name": "alice"}, {"name": "bob"}], backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "bob")
        await join(crowd, 3, "busy")
        await join(crowd, 1, "calm")
        assert leaf_names(stack, "alice") == []
        assert await serve_in_turn(scripted, play, 4) == [*names("busy", 0, 1, 2), "calm-0"]


async def test_requests_that_name_nobody_are_one_user_more(start_proxy: StartProxy, scripted: ScriptedEngine) -> None:
    stack = await start_proxy(scripted.port, tenants=SPLIT, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "bob")
        await join(crowd, 2, None, name="nobody")
        # Whoever calls himself as leaves are called inside is a user like any other.
        await join(crowd, 2, "(nobody)", name="sly")
        assert leaf_names(stack, "alice") == ["(nobody)", "=(nobody)"]
        assert await serve_in_turn(scripted, play, 4) == ["nobody-0", "sly-0", "nobody-1", "sly-1"]


async def test_made_up_users_get_a_tenant_no_more_than_its_share(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    tenants = [*SPLIT, {"name": "carol"}]
    stack = await start_proxy(scripted.port, tenants=tenants, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "carol")
        for number in range(50):
            await join(crowd, 1, f"made-up-{number}")
        await join(crowd, 5, None, tenant="bob", name="bob")
        order = await serve_in_turn(scripted, play, 10)
        assert order[1::2] == names("bob", 0, 1, 2, 3, 4)
        # One of two turns, for whichever of them.
        assert order[::2] == [f"made-up-{number}-0" for number in range(5)]


async def test_users_are_forgotten_when_they_have_gone(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    stack = await start_proxy(scripted.port, tenants=SPLIT, backpressure={"maxRequests": 4})
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher
    for round_number in range(3):
        async with Crowd(stack) as crowd:
            for number in range(20):
                await join(crowd, 1, f"user-{round_number}-{number}")
            assert len(leaf_names(stack, "alice")) == 20
            # Half of them hang up, some of them in the queue.
            for number in range(0, 20, 2):
                crowd.hang_up(f"user-{round_number}-{number}-0")
            await until(lambda: len(dispatcher.jobs) == 10)
            for _ in range(12):
                (await scripted.play()).answer(GENERATED)
            for number in range(1, 20, 2):
                assert await crowd.status(f"user-{round_number}-{number}-0") == 200
            assert dispatcher.jobs == []
            assert leaf_names(stack, "alice") == []


async def test_users_beyond_the_most_share_a_leaf(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants_module, "MOST_LEAVES", 2)
    stack = await start_proxy(scripted.port, tenants=SPLIT, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "bob")
        for user in ("ann", "ben", "cem", "dan", "eva"):
            await join(crowd, 2, user)
        assert leaf_names(stack, "alice") == ["(others)", "=ann", "=ben"]
        # Those who share take turns as one, in the order in which they came.
        order = await serve_in_turn(scripted, play, 10)
        shared = [*names("cem", 0, 1), *names("dan", 0, 1), *names("eva", 0, 1)]
        assert order == ["ann-0", "ben-0", "cem-0", "ann-1", "ben-1", *shared[1:]]


async def test_a_forgotten_users_place_is_free_for_the_next(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants_module, "MOST_LEAVES", 2)
    stack = await start_proxy(scripted.port, tenants=SPLIT, backpressure=ONE_AT_A_TIME)
    for users in (("ann", "ben", "cem"), ("dan", "eva", "fay")):
        async with Crowd(stack) as crowd:
            play = await occupy(crowd, scripted, "bob")
            for user in users:
                await join(crowd, 1, user)
            assert leaf_names(stack, "alice") == ["(others)", *(f"={user}" for user in users[:2])]
            await serve_in_turn(scripted, play, 3)
            for user in users:
                assert await crowd.status(f"{user}-0") == 200


@pytest.mark.parametrize(
    ("per_identity", "order"),
    [
        pytest.param(True, ["busy-0", "calm-0", "busy-1", "calm-1", "busy-2"], id="each-has-a-part"),
        pytest.param(False, ["busy-0", "busy-1", "busy-2", "calm-0", "calm-1"], id="all-in-one-queue"),
    ],
)
async def test_identities_without_a_tenant_share_as_the_policy_says(
    start_proxy: StartProxy, scripted: ScriptedEngine, per_identity: bool, order: list[str]
) -> None:
    stack = await start_proxy(
        scripted.port,
        tenants=[{"name": "bob"}],
        identity=IDENTITY,
        anonymous={"perIdentity": per_identity},
        backpressure=ONE_AT_A_TIME,
    )
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "bob")
        for identity, count in (("busy", 3), ("calm", 2)):
            for number in range(count):
                await crowd.join(f"{identity}-{number}", headers={"X-Tenant": identity}, source=GATEWAY)
        assert await serve_in_turn(scripted, play, 5) == order


async def test_the_user_in_a_body_makes_no_identity_of_who_has_none(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    """Else those who show nothing could have as many parts of the class as names come to mind."""
    stack = await start_proxy(
        scripted.port, tenants=[{"name": "bob"}], identity=IDENTITY, anonymous={}, backpressure=ONE_AT_A_TIME
    )
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "bob")
        for number in range(3):
            await crowd.join(f"made-up-{number}", None, chat(f"user-{number}"), "/v1/chat/completions")
        for number in range(2):
            await crowd.join(f"known-{number}", headers={"X-Tenant": "carol"}, source=GATEWAY)
        assert leaf_names(stack, "anonymous") == ["=(nobody)", "=gateway/carol"]
        order = await serve_in_turn(scripted, play, 5)
        assert [name.partition("-")[0] for name in order[:4]] == ["made", "known", "made", "known"]


async def test_a_verified_identity_is_not_split_by_the_users_that_it_names(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, tenants=SPLIT, identity=IDENTITY, anonymous={})
    async with Crowd(stack) as crowd:
        for number in range(3):
            await crowd.join(
                f"carol-{number}", None, chat(f"user-{number}"), "/v1/chat/completions",
                headers={"X-Tenant": "carol"}, source=GATEWAY,
            )  # fmt: skip
        assert leaf_names(stack, "anonymous") == ["=gateway/carol"]
        for _ in range(3):
            (await scripted.play()).answer(GENERATED)


async def test_metrics_and_replies_name_tenants_and_never_users(
    start_proxy: StartProxy, scripted: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    stack = await start_proxy(
        scripted.port, tenants=SPLIT, identity=IDENTITY, anonymous={}, backpressure={"maxRequests": 2}
    )
    async with Crowd(stack) as crowd:
        await join(crowd, 2, "zoe", name="of-a-tenant")
        await crowd.join("of-nobody", headers={"X-Tenant": "carol"}, source=GATEWAY)
        while_they_wait = await stack.metrics()
        for _ in range(3):
            (await scripted.play()).answer(GENERATED)
        replies = [await crowd.tasks[name] for name in crowd.tasks]
    assert [reply.headers["x-fairqueue-tenant"] for reply in replies] == ["alice", "alice", "anonymous"]
    for text in (while_they_wait, await stack.metrics()):
        labels = [dict(labels) for _, labels in samples(text)]
        assert {each["tenant"] for each in labels if "tenant" in each} == {"alice", "bob", "anonymous", "other"}
        assert {each["group"] for each in labels if "group" in each} == {""}
        for private in ("zoe", "carol", "(nobody)"):
            assert private not in text
    logged = [JsonLines().format(record) for record in caplog.records]
    assert len(logged) >= 3
    assert not [line for line in logged if "zoe" in line or "carol" in line]
    assert 'fairqueue_in_flight_requests{tenant="alice"} 2\n' in while_they_wait
    assert 'fairqueue_queue_requests{tenant="anonymous"} 1\n' in while_they_wait


async def test_a_user_learns_the_lengths_of_its_tenants_outputs(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    """What a forgotten leaf has learned is not lost with it."""
    stack = await start_proxy(scripted.port, tenants=SPLIT)
    assert stack.proxy is not None

    async def one(client: RawClient, user: str) -> Play:
        client.send(request("/generate", {**generate(max_new_tokens=500), "user": user}, tenant="alice"))
        return await scripted.play()

    async with RawClient(stack.data) as client:
        details = {"finish_reason": "length", "generated_tokens": 40, "prefill": [{}] * 3, "tokens": [{}] * 40}
        (await one(client, "ann")).answer(json_reply({"generated_text": "x", "details": details}))
        await client.reply()
        assert leaf_names(stack, "alice") == []
        play = await one(client, "ben")
        (job,) = stack.proxy.dispatcher.jobs
        assert (job.scheduled.leaf.name, job.scheduled.predicted_tokens) == ("=ben", 40)
        play.answer(GENERATED)
        await client.reply()
