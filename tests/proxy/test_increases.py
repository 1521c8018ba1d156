"""What Prometheus adds up of the counters is what was charged, whatever becomes of the policy meanwhile."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_api import Document
from fairqueue_api.address import Address
from fairqueue_proxy.exposition import Exposition
from fairqueue_proxy.job import Job
from fairqueue_proxy.metered import record
from fairqueue_proxy.metering import Usage
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.proxy import Proxy
from fairqueue_proxy.scheduler import MICRO, Request, State
from fairqueue_proxy.tenants import Tenant
from proxy.changing import STREAM, Versions
from proxy.conftest import StartProxy, Until
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate
from proxy.raw_client import RawClient, request
from proxy.samples import Increases, counters, sample
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, ScriptedEngine, event, scripted_engine, tgi_token
from proxy_stack import document_of

ALICE, BOB, CAROL = ({"name": name} for name in ("alice", "bob", "carol"))
ORG = [{"name": "org"}]
ANYBODY = {"identity": {"onUnidentified": "Anonymous"}, "anonymous": {"weight": 1}}
POLICIES: list[dict[str, Any]] = [
    {"tenants": [ALICE, BOB]},
    {"tenants": [BOB]},
    {"tenants": [CAROL]},
    {"tenants": [{**ALICE, "weight": 3}, BOB, CAROL]},
    {"tenants": [{**ALICE, "group": "org"}, {**BOB, "group": "org"}], "groups": ORG},
    {"tenants": [{**ALICE, "fairWithin": "User"}, BOB]},
    {"tenants": [ALICE, BOB], **ANYBODY},
    {"tenants": [BOB, CAROL], "cost": {"inputToken": 3, "outputToken": 5, "cachedInputPercent": 50}},
]
MOVES = ("apply", "come", "come", "come", "grow", "grow", "end", "end", "hang up", "scrape")


class World:
    """A proxy that serves nobody, whose requests and engine are a test's; and what was really charged."""

    def __init__(self, documents: list[Document], choice: random.Random) -> None:
        self._documents = documents
        self._choice = choice
        self.proxy = Proxy(documents[0], Address("127.0.0.1", 1), seed=1)
        self._exposition = Exposition(self.proxy.runtime, self.proxy.entitlement, self.proxy.reloads)
        self._jobs: list[Job] = []
        self._seen: dict[Tenant, None] = dict.fromkeys(self.proxy.runtime.tenants.by_name.values())
        self.increases = Increases()
        self.tokens: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.scrape()

    def move(self, what: str) -> None:
        """One thing happens."""
        running = [job for job in self._jobs if job.scheduled.state is State.IN_FLIGHT]
        queued = [job for job in self._jobs if job.scheduled.state is State.QUEUED]
        if what == "apply":
            self.proxy.apply(self._choice.choice(self._documents))
            names = {tenant.name for tenant in self._seen}
            tenants = self.proxy.runtime.tenants.by_name
            self._seen.update(dict.fromkeys(tenants.values()))
            if tenants.keys() - names:
                # What a series begins with is not seen: Prometheus comes by before anything is charged to a new name.
                self.scrape()
        elif what == "come":
            self._come()
        elif what == "grow" and running:
            self._grow(self._choice.choice(running))
        elif what == "end" and running:
            self._end(self._choice.choice(running))
        elif what == "hang up" and queued:
            job = self._choice.choice(queued)
            self.proxy.dispatcher.leave(job)
            self._gone(job, Outcome.CLIENT_GONE)
        elif what == "scrape":
            self.scrape()

    def scrape(self) -> None:
        """Prometheus comes by."""

        async def text() -> str:
            return b"".join([part async for part in self._exposition.slices()]).decode()

        self.increases.scrape(asyncio.run(text()))

    def finish(self) -> None:
        """Everything ends, and Prometheus comes by once more."""
        while self._jobs:
            self._end(next(job for job in self._jobs if job.scheduled.state is State.IN_FLIGHT))
        self.scrape()

    def entitled(self) -> float:
        """Cost units that all tenants there ever were are entitled to."""
        nodes = [node for tenant in self._seen for node in tenant.nodes]
        return sum(map(self.proxy.entitlement.entitled, nodes)) / MICRO

    def waited_seconds(self) -> float:
        """For which all of them together had something queued."""
        nodes = [node for tenant in self._seen for node in tenant.nodes]
        return sum(map(self.proxy.entitlement.active_seconds, nodes))

    def _come(self) -> None:
        dispatcher = self.proxy.dispatcher
        tenant = self._choice.choice(list(self.proxy.runtime.tenants.by_name.values()))
        job = Job("", tenant, self.proxy.runtime.clock(), identity=self._choice.choice([None, "ann", "ben"]))
        dispatcher.receive(job, 10)
        leaf = tenant.leaf(dispatcher.scheduler, job.identity)
        job.request = Request(leaf, prompt_tokens=self._choice.randint(1, 50), max_output_tokens=30)
        dispatcher.submit(job)
        self._jobs.append(job)

    def _grow(self, job: Job) -> None:
        """Tokens come out of the engine, which tells of the prompt, and not yet of its cache."""
        tokens = job.scheduled.output_tokens + self._choice.randint(1, 5)
        self.proxy.dispatcher.confirm(job)
        self.proxy.dispatcher.charge(job, Usage(prompt_tokens=60, output_tokens=tokens, exact=True))

    def _end(self, job: Job) -> None:
        made, cached = job.scheduled.output_tokens, self._choice.choice([0, 0, 20])
        usage = Usage(prompt_tokens=60, cached_tokens=cached, output_tokens=made, exact=True, final=True)
        self.proxy.dispatcher.settle(job, usage, complete=True)
        self.tokens.update(input=60 - cached, cached_input=cached, output=made)
        self._gone(job, Outcome.COMPLETED)

    def _gone(self, job: Job, outcome: Outcome) -> None:
        self._jobs.remove(job)
        job.outcome = outcome
        record(job, self.proxy.runtime.clock())
        self.outcomes[outcome.value] += 1


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    pressure = {"backpressure": {"maxRequests": 2}}
    return [document_of(tmp_path_factory.mktemp("policy"), **policy, **pressure) for policy in POLICIES]


@given(moves=st.lists(st.sampled_from(MOVES), min_size=30, max_size=60), seed=st.integers(0, 1000))
def test_the_increases_of_all_series_are_what_was_charged_whatever_becomes_of_the_policy(
    documents: list[Document], moves: list[str], seed: int
) -> None:
    world = World(documents, random.Random(seed))
    for move in moves:
        world.move(move)
    world.finish()
    assert world.increases.restarts == set()
    found, served = world.increases, world.proxy.dispatcher.scheduler.root.served / MICRO
    for kind in ("input", "cached_input", "output"):
        assert found.of("tokens_total", kind=kind) == world.tokens[kind]
    assert found.of("service_total") == pytest.approx(served)
    assert found.of("entitled_service_total") == pytest.approx(world.entitled())
    assert found.of("backlogged_seconds_total") == pytest.approx(world.waited_seconds())
    for outcome, count in world.outcomes.items():
        assert found.of("requests_total", outcome=outcome) == count
    for name in ("request_seconds_count", "request_seconds_bucket"):
        labels = {"le": "+Inf"} if name.endswith("bucket") else {}
        assert found.of(name, **labels) == world.outcomes.total()
    assert found.of("queue_seconds_count") == world.outcomes["completed"]


async def test_what_was_charged_between_the_last_scrape_and_the_end_of_a_tenant_is_shown_among_the_others(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions, until: Until
) -> None:
    """Under its own name nobody sees it any more; what was seen there is not shown again."""
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    assert stack.proxy is not None
    alice = stack.proxy.runtime.tenants.by_name["alice"]
    found = Increases()
    async with Crowd(stack) as crowd:
        await crowd.join("long", "alice", path=STREAM)
        play = await scripted.play()
        found.scrape(await stack.metrics())
        play.write(STREAM_HEAD + tgi_token("x"))
        await until(lambda: alice.output_tokens == 1)
        found.scrape(await stack.metrics())
        play.write(tgi_token("x"))
        await until(lambda: alice.output_tokens == 2)
        versions.apply(stack, tenants=[BOB], backpressure=ONE_AT_A_TIME)
        found.scrape(text := await stack.metrics())
        assert sample(text, "tokens_total", tenant="other", kind="output") == 1
        assert 'tenant="alice"' not in text
        play.answer(tgi_token("x", last=True) + LAST_CHUNK)
        assert await crowd.status("long") == 200
    found.scrape(await stack.metrics())
    assert found.of("tokens_total", tenant="alice", kind="output") == 1
    assert found.of("tokens_total", tenant="other", kind="output") == 2
    assert found.of("tokens_total", kind="input") == 5
    assert found.of("service_total") == 5 + 2 * 3


async def test_the_others_are_there_at_0_before_anybody_has_gone(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port)
    text = await stack.metrics()
    for kind in ("input", "cached_input", "output"):
        assert sample(text, "tokens_total", tenant="other", kind=kind) == 0
    assert sample(text, "service_total", tenant="other") == 0
    assert 'tenant_weight{tenant="other"}' not in text


def no_counter_falls(before: str, after: str) -> None:
    was, now = counters(before), counters(after)
    assert {series: (value, now[series]) for series, value in was.items() if now[series] < value} == {}


async def test_no_counter_falls_when_the_engine_tells_of_its_cache_at_the_end(start_proxy: StartProxy) -> None:
    """A fall would be a restart for Prometheus, which would add all of it once more."""
    async with scripted_engine(total_slots=8, default_generation_settings={"n_ctx": 4096}) as llama:
        stack = await start_proxy(llama.port, kind="LlamaCpp")
        texts = [await stack.metrics()]
        async with RawClient(stack.data) as client:
            client.send(request("/completion", {"prompt": [7] * 1000, "n_predict": 2, "stream": True}, tenant="alice"))
            play = await llama.play()
            running = {"content": "x", "tokens_predicted": 1, "tokens_evaluated": 1000, "stop": False}
            play.write(STREAM_HEAD + event(running))
            await client.until(b"\n\n")
            texts.append(await stack.metrics())
            timings = {"cache_n": 900, "prompt_n": 100, "predicted_n": 2}
            last = {"content": "", "tokens_predicted": 2, "tokens_evaluated": 1000, "stop": True, "timings": timings}
            play.answer(event(last) + LAST_CHUNK)
            await client.until(LAST_CHUNK)
        texts.append(await stack.metrics())
    no_counter_falls(texts[0], texts[1])
    no_counter_falls(texts[1], texts[2])
    found = [
        sample(texts[2], "tokens_total", tenant="alice", kind=kind) for kind in ("input", "cached_input", "output")
    ]
    assert found == [100, 900, 2]
    assert sample(texts[2], "service_total", tenant="alice") == 1000 + 2 * 2


async def test_no_counter_falls_when_the_engine_says_at_the_end_that_there_were_fewer_tokens(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(request(STREAM, generate(), tenant="alice"))
        play = await scripted.play()
        play.write(STREAM_HEAD + tgi_token("x") * 5)
        await client.until(b"\n\n")
        before = await stack.metrics()
        # It says three.
        play.answer(tgi_token("x", last=True) + LAST_CHUNK)
        await client.until(LAST_CHUNK)
    after = await stack.metrics()
    no_counter_falls(before, after)
    output = sample(after, "tokens_total", tenant="alice", kind="output")
    assert sample(after, "service_total", tenant="alice") == 5 + 2 * output
    assert sample(after, "metering_drift_tokens_total", direction="over") == 3
