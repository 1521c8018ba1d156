"""What clients see under each example policy: what `docs/policies-by-example.md` says, tried on a running proxy."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec import structs

from fairqueue_api import Document
from fairqueue_sim import RunningEngine, running_engine
from manifests.examples_by_hand import document_of_example, proxy_on
from proxy.crowd import Crowd
from proxy.raw_client import Reply, ask, request
from proxy.samples import sample
from proxy.scripted_engine import ScriptedEngine, scripted_engine
from proxy_stack import Stack

GATEWAY, STRANGER = "127.0.0.2", "127.0.0.3"
Start = Callable[[str | Document, int], Awaitable[Stack]]

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
KEYS = ["two-teams", "org-and-team", "trial-users", "hard-caps", "observe-first"]


@pytest.fixture
async def engine() -> AsyncIterator[RunningEngine]:
    async with running_engine(speed=100) as started:
        yield started


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedEngine]:
    async with scripted_engine() as started:
        yield started


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a proxy on an example, or on a document."""
    async with AsyncExitStack() as stack:

        async def started(what: str | Document, engine_port: int) -> Stack:
            document = document_of_example(what, tmp_path) if isinstance(what, str) else what
            return await stack.enter_async_context(proxy_on(document, engine_port))

        yield started


async def chat(stack: Stack, tenant: str | None = None) -> Reply:
    return await ask(stack.data, request("/v1/chat/completions", CHAT, tenant=tenant))


@pytest.mark.parametrize("name", KEYS)
async def test_each_key_is_its_tenants_and_a_wrong_one_is_nobodys(
    start: Start, engine: RunningEngine, tmp_path: Path, name: str
) -> None:
    document = document_of_example(name, tmp_path)
    stack = await start(document, engine.port)
    for tenant in document.tenants:
        reply = await chat(stack, tenant.name)
        assert (reply.status, reply.headers["x-fairqueue-tenant"]) == (200, tenant.name)
        # Who only observes lets nobody wait.
        assert ("x-fairqueue-queue-seconds" in reply.headers) is (document.mode == "Enforce")
    assert (await chat(stack, "nobody")).status == (401 if document.mode == "Enforce" else 200)


async def test_without_a_key_two_teams_serves_nobody(start: Start, engine: RunningEngine) -> None:
    stack = await start("two-teams", engine.port)
    assert (await chat(stack)).status == 401
    assert engine.truth.requests == []


async def test_languages_share_is_split_among_the_users_that_its_requests_name(
    start: Start, scripted: ScriptedEngine
) -> None:
    stack = await start("org-and-team", scripted.port)
    async with Crowd(stack) as crowd:
        for user in ("ann", "ben"):
            await crowd.join(f"{user}-asks", "language", {**CHAT, "user": user}, "/v1/chat/completions")
            await crowd.join(f"{user}-searches", "search", {**CHAT, "user": user}, "/v1/chat/completions")
        assert stack.proxy is not None
        tenants = stack.proxy.runtime.tenants.by_name
        assert sorted(tenants["language"].node.children) == ["=ann", "=ben"]
        assert sorted(tenants["search"].node.children) == []


async def test_a_trial_user_is_anonymous_and_the_25th_at_once_gets_429(start: Start, scripted: ScriptedEngine) -> None:
    stack = await start("trial-users", scripted.port)
    async with Crowd(stack) as crowd:
        for number in range(24):
            await crowd.join(f"trial-{number}")
        await crowd.join("one-more")
        reply = await crowd.tasks["one-more"]
        assert (reply.status, reply.headers["x-fairqueue-tenant"]) == (429, "anonymous")
        assert int(reply.headers["retry-after"]) >= 1
        text = await stack.metrics()
        assert sample(text, "in_flight_requests", tenant="anonymous") == 4
        assert sample(text, "queue_requests", tenant="anonymous") == 20
        for _ in range(4):
            await scripted.play()
        # Who has a key is served meanwhile.
        await crowd.join("customer", "customers")
        assert (await scripted.play()).headers["x-request-id"] == "customer"


async def test_only_the_gateway_is_believed(start: Start, engine: RunningEngine, tmp_path: Path) -> None:
    stack = await start(believing(document_of_example("gateway-identity", tmp_path), f"{GATEWAY}/32"), engine.port)
    seen = {}
    async with Crowd(stack) as crowd:
        for value, source in [
            ("mobile-app", GATEWAY),
            ("partner-east", GATEWAY),
            ("partner-west", GATEWAY),
            ("unknown", GATEWAY),
            ("mobile-app", STRANGER),
        ]:
            name = f"{value} from {source}"
            await crowd.join(name, headers={"x-tenant": value}, source=source)
            reply = await crowd.tasks[name]
            seen[name] = (reply.status, reply.headers.get("x-fairqueue-tenant"))
    assert seen == {
        f"mobile-app from {GATEWAY}": (200, "mobile"),
        f"partner-east from {GATEWAY}": (200, "partners"),
        f"partner-west from {GATEWAY}": (200, "partners"),
        f"unknown from {GATEWAY}": (401, None),
        f"mobile-app from {STRANGER}": (401, None),
    }


def believing(document: Document, *ranges: str) -> Document:
    """The document with other trusted ranges: the test's own addresses."""
    sources = tuple(structs.replace(source, trusted_cidrs=ranges) for source in document.identity.sources)
    return structs.replace(document, identity=structs.replace(document.identity, sources=sources))


async def test_nightly_has_eight_at_once_in_an_idle_server_and_200_that_wait(
    start: Start, scripted: ScriptedEngine
) -> None:
    stack = await start("hard-caps", scripted.port)
    async with Crowd(stack) as crowd:
        for number in range(208):
            await crowd.join(f"job-{number}", "nightly")
        await crowd.join("one-more", "nightly")
        assert await crowd.status("one-more") == 429
        text = await stack.metrics()
        assert sample(text, "in_flight_requests", tenant="nightly") == 8
        assert sample(text, "queue_requests", tenant="nightly") == 200
        for _ in range(8):
            await scripted.play()
        await crowd.join("urgent", "product")
        assert (await scripted.play()).headers["x-request-id"] == "urgent"


async def test_who_only_observes_serves_everybody_and_counts_whom_it_would_refuse(
    start: Start, engine: RunningEngine, tmp_path: Path
) -> None:
    document = document_of_example("observe-first", tmp_path)
    stack = await start(document, engine.port)
    assert (await chat(stack)).status == 200
    assert sample(await stack.metrics(), "observed_refusals_total", tenant="", outcome="unauthenticated") == 1
    enforcing = await start(structs.replace(document, mode="Enforce"), engine.port)
    assert (await chat(enforcing)).status == 401
