"""What goes over the wire and what is read from it, by each client and for each API."""

import asyncio
import json
import random
import sys
import time
from itertools import product

import pytest
from huggingface_hub import get_async_session

from cli.sse_server import Exchange, Serve, chat_event
from fairqueue_cli.load_open import OpenPlan, OpenResult, run_open
from fairqueue_cli.load_reply import Outcome, Reply
from fairqueue_cli.load_sender import Ask, Contact, open_sender, require_client
from fairqueue_cli.load_spec import Api, Client, LoadPlan, SpecError
from fairqueue_sim import EngineKind, running_engine
from fairqueue_sim.lab.trace import Arrival

BOTH_CLIENTS: list[Client] = ["library", "http"]
BOTH_APIS: list[Api] = ["tgi", "openai"]
each_way = pytest.mark.parametrize(
    ("api", "client"), [pytest.param(*way, id=" ".join(way)) for way in product(BOTH_APIS, BOTH_CLIENTS)]
)
each_client = pytest.mark.parametrize("client", BOTH_CLIENTS)
# More than httpx lets wait at a time by its default, which is 100.
MANY = 101
TOKEN = {"index": 1, "token": {"id": 1, "text": "x", "logprob": 0.0, "special": False}}
DETAILS = {"finish_reason": "length", "generated_tokens": 1, "input_length": 7}


@pytest.fixture(autouse=True)
def keys_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user has set for the libraries is not for a load's target."""
    for name in ("OPENAI_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "the-users-own")


async def send_one(url: str, api: Api, client: Client, ask: Ask, **plan: object) -> tuple[Reply, Contact]:
    load = LoadPlan(url, api, (), client=client, **plan)  # type: ignore[arg-type]
    reply = Reply(0.0, 0.0)
    async with asyncio.timeout(10), open_sender(load, time.monotonic) as sender:
        await sender.send(ask, reply, lambda _: None)
        return reply, sender.contact


async def whole_reply(exchange: Exchange) -> None:
    """One token, in the words of the API that was asked."""
    if "messages" in exchange.body:
        await exchange.chat("x", usage=(7, 1))
    else:
        await exchange.begin()
        await exchange.events({**TOKEN, "generated_text": "x", "details": DETAILS})
        await exchange.end()


@each_way
async def test_an_engine_gets_the_lengths_of_the_workload_to_the_token(api: Api, client: Client) -> None:
    kinds: dict[Api, EngineKind] = {"tgi": "tgi", "openai": "vllm"}
    arrivals = [Arrival(0.0, "a", prompt, output) for prompt, output in ((16, 1), (40, 9), (300, 20))]
    async with running_engine(kinds[api], speed=10) as engine:
        plan = OpenPlan(LoadPlan(engine.url, api, (), client=client), arrivals)
        result = await run_open(plan, rng=random.Random(1))
    asked = {(arrival.prompt_tokens, arrival.output_tokens) for arrival in arrivals}
    assert {(one.prompt_tokens, one.made_tokens) for one in engine.truth.requests} == asked
    assert {(one.reply.prompt_tokens, one.reply.output_tokens) for one in result.sent} == asked
    assert result.outcomes == {Outcome.COMPLETED: 3}


@each_way
async def test_the_generator_never_waits_in_its_own_client(api: Api, client: Client, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        if len(server.received) == MANY:
            all_are_here.set()
        await all_are_here.wait()
        await whole_reply(exchange)

    all_are_here = asyncio.Event()
    server = await serve(answer)
    arrivals = [Arrival(0.0, "a", 1, 1)] * MANY
    async with asyncio.timeout(20):
        result = await run_open(OpenPlan(LoadPlan(server.url, api, (), client=client), arrivals), rng=random.Random(1))
    assert result.outcomes == {Outcome.COMPLETED: MANY}


@each_way
async def test_a_request_has_the_key_of_its_tenant_or_none(api: Api, client: Client, serve: Serve) -> None:
    server = await serve(whole_reply)
    await send_one(server.url, api, client, Ask("Hello", 1, key="sesame"))
    await send_one(server.url, api, client, Ask("Hello", 1))
    assert [one.headers.get("authorization") for one in server.received] == ["Bearer sesame", None]
    assert "the-users-own" not in str(server.received)
    assert "sesame" not in repr(Ask("Hello", 1, key="sesame"))


@each_client
async def test_a_chat_names_user_and_model_and_asks_to_go_on(client: Client, serve: Serve) -> None:
    server = await serve(whole_reply)
    ask = Ask("Hello", 5, user="ann")
    await send_one(server.url, "openai", client, ask, model="llama", ignore_eos=True)
    assert server.received[0].body == {
        "model": "llama",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 5,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": "ann",
        "ignore_eos": True,
    }
    assert server.received[0].path == "/v1/chat/completions"


@each_client
async def test_what_is_not_wanted_is_not_in_a_chat(client: Client, serve: Serve) -> None:
    server = await serve(whole_reply)
    await send_one(server.url, "openai", client, Ask("Hello", 5))
    assert not {"model", "user", "ignore_eos"} & server.received[0].body.keys()


@each_way
async def test_a_refusal_is_kept_with_its_status_its_pause_and_the_proxys_name_for_it(
    api: Api, client: Client, serve: Serve
) -> None:
    bodies: dict[Api, object] = {
        "openai": {"error": {"message": "m", "code": 503, "reason": "queue_full"}, "error_type": "overloaded"},
        "tgi": {"error": "m", "error_type": "overloaded", "reason": "queue_full"},
    }
    server = await serve(lambda exchange: exchange.refuse(503, "Retry-After: 3", body=json.dumps(bodies[api])))
    reply, contact = await send_one(server.url, api, client, Ask("Hello", 1))
    assert (reply.outcome, reply.detail, reply.reason) == (Outcome.REFUSED, "503", "queue_full")
    assert reply.retry_after_seconds == 3.0
    assert contact.answered
    # Nothing is tried again behind the generator's back.
    assert len(server.received) == 1


@each_way
@pytest.mark.parametrize("body", ["", "no JSON", '{"error": {"reason": "a made-up secret"}}'])
async def test_what_a_refusal_says_otherwise_is_not_kept(api: Api, client: Client, body: str, serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.refuse(418, body=body))
    reply, _ = await send_one(server.url, api, client, Ask("Hello", 1))
    assert (reply.outcome, reply.detail, reply.reason) == (Outcome.REFUSED, "418", "")


@each_way
async def test_a_refusal_without_sense_ends_no_run(api: Api, client: Client, serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.refuse(418, body='["reason"]'))
    reply, _ = await send_one(server.url, api, client, Ask("Hello", 1))
    assert reply.outcome is Outcome.REFUSED


@each_client
async def test_an_error_event_of_the_proxy_is_a_refusal_by_its_name(client: Client, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        error = {"message": "m", "type": "timeout_error", "code": 504, "reason": "queue_timeout"}
        await exchange.events({"error": error}, "[DONE]")
        await exchange.end()

    reply, _ = await send_one((await serve(answer)).url, "openai", client, Ask("Hello", 1))
    assert (reply.outcome, reply.detail, reply.reason) == (Outcome.REFUSED, "504 in the stream", "queue_timeout")


@each_client
async def test_an_error_event_of_tgi_is_named_by_its_kind(client: Client, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.events(TOKEN, {"error": "m", "error_type": "generation"})
        await exchange.end()

    reply, _ = await send_one((await serve(answer)).url, "tgi", client, Ask("Hello", 1))
    assert (reply.outcome, reply.detail, reply.output_tokens) == (Outcome.FAILED, "generation in the stream", 1)


@each_way
async def test_a_stream_that_breaks_off_keeps_the_tokens_that_came(api: Api, client: Client, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.events(chat_event("x") if api == "openai" else TOKEN)
        await exchange.hang_up()

    reply, _ = await send_one((await serve(answer)).url, api, client, Ask("Hello", 1))
    assert (reply.outcome, reply.detail, reply.output_tokens) == (Outcome.FAILED, "stream broke off", 1)


@each_way
@pytest.mark.parametrize(
    ("payload", "detail"), [("{", "unreadable event in the stream"), (None, "no event stream")], ids=["cut", "empty"]
)
async def test_a_stream_without_sense_is_no_reply(
    api: Api, client: Client, payload: str | None, detail: str, serve: Serve
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        if payload is not None:
            await exchange.events(payload)
        await exchange.end()

    reply, _ = await send_one((await serve(answer)).url, api, client, Ask("Hello", 1))
    assert (reply.output_tokens, reply.detail) == (0, detail)


@each_way
async def test_a_lost_connection_is_a_failure(api: Api, client: Client, serve: Serve) -> None:
    server = await serve(lambda exchange: exchange.hang_up())
    reply, contact = await send_one(server.url, api, client, Ask("Hello", 1))
    assert (reply.outcome, reply.detail, contact.unreachable) == (Outcome.FAILED, "connection lost", "")


@each_way
async def test_a_target_that_nobody_listens_on_is_told(api: Api, client: Client, unused_tcp_port: int) -> None:
    _, contact = await send_one(f"http://127.0.0.1:{unused_tcp_port}", api, client, Ask("Hello", 1))
    assert contact.unreachable == "connection refused"


@each_way
async def test_an_interrupt_cuts_what_runs_and_sends_no_more(api: Api, client: Client, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.events(chat_event("x") if api == "openai" else TOKEN)
        interrupt.set()

    interrupt = asyncio.Event()
    server = await serve(answer)
    plan = OpenPlan(LoadPlan(server.url, api, (), client=client), [Arrival(0.0, "a", 1, 9), Arrival(600.0, "a", 1, 9)])
    async with asyncio.timeout(10):
        result: OpenResult = await run_open(plan, rng=random.Random(1), interrupt=interrupt)
    assert result.interrupted
    assert result.outcomes == {Outcome.UNFINISHED: 1}
    assert result.running == 0


@each_way
async def test_a_cut_request_hangs_up_at_once(api: Api, client: Client, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.events(chat_event("x") if api == "openai" else TOKEN)

    server = await serve(answer)
    load, reply, begun = LoadPlan(server.url, api, (), client=client), Reply(0.0, 0.0), asyncio.Event()
    async with asyncio.timeout(10), open_sender(load, time.monotonic) as sender:
        sending = asyncio.create_task(sender.send(Ask("Hello", 9), reply, lambda _: begun.set()))
        await begun.wait()
        sending.cancel()
        await server.received[0].client_is_gone()
    assert (reply.outcome, reply.output_tokens) == (Outcome.UNFINISHED, 1)


async def test_who_uses_the_hubs_client_afterwards_has_it_as_it_was(serve: Serve) -> None:
    server = await serve(whole_reply)
    await send_one(server.url, "tgi", "library", Ask("Hello", 1))
    async with get_async_session() as session:
        assert session.event_hooks["request"]


@pytest.mark.parametrize(("api", "module"), [("openai", "openai"), ("tgi", "huggingface_hub")])
def test_a_library_that_is_missing_is_named_with_what_to_do(
    api: Api, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (module, "fairqueue_cli.load_openai", "fairqueue_cli.load_hub"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SpecError, match=r"--client library: .* is missing: pip install .*, or take --client http"):
        require_client(LoadPlan("http://h:1", api, (), client="library"))
    require_client(LoadPlan("http://h:1", api, ()))
