"""The adapter against a real vLLM: what it says through the proxy is what it says, and the charge is its own count.

The requests are those of the recordings that `make test` replays (`tests/data/vllm`), so that both say the same of the
same bodies. What the server answers directly is left in `build/vllm/`, in the recordings' form.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from fairqueue_proxy.engines import Access, engine_for
from metering.normalised import normalised
from metering.recorded import DATA, Exchange, exchanges
from proxy.raw_client import RawClient, Reply, request
from vllm_server.conftest import Bench
from vllm_server.server import ROOT

SEEN = ROOT / "build" / "vllm"
on_the_sessions_loop = pytest.mark.asyncio(loop_scope="session")

# What was recorded with the options that the server has here.
PLAIN_OPTIONS = "KV 1 GiB; random 0.6 M Llama, vocabulary 1024"


def cases() -> dict[str, Exchange]:
    """All recorded requests on metered routes, by case, that were answered."""
    found = {}
    for path in sorted((DATA / "vllm").glob("0[124]-*.json")):
        if not str(json.loads(path.read_text()).get("server_options")).endswith(PLAIN_OPTIONS):
            continue
        # Two thousand tokens are worth no wait.
        found_in = [] if path.stem == "04-responses-no-max" else exchanges("vllm", path.stem)
        for number, each in enumerate(found_in):
            if each.status == 200 and engine_for("VLLM").route("POST", each.path).access is Access.METERED:
                found[f"{path.stem}-{number}" if number else path.stem] = each
    return found


CASES = cases()


def test_there_is_a_case_for_each_route_that_generates() -> None:
    paths = {each.path for each in CASES.values()}
    assert {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/invocations"} <= paths
    assert len(CASES) > 35


@on_the_sessions_loop
@pytest.mark.parametrize("case", CASES)
async def test_the_client_gets_the_engines_bytes_and_the_charge_is_the_engines_count(bench: Bench, case: str) -> None:
    exchange = CASES[case]
    direct = await bench.direct(exchange.path, exchange.request)
    keep(case, exchange, direct)
    before = await bench.engines_counts()
    proxied = await bench.proxied(exchange.path, exchange.request, case)
    after = await bench.engines_counts()
    assert proxied.status == direct.status == 200
    assert proxied.headers["content-type"] == direct.headers["content-type"]
    same_events = sorted(events(proxied)) == sorted(events(direct))
    # Two runs may differ in what vLLM merges into one event; then all that is said must be the same.
    assert same_events or (len(events(proxied)) != len(events(direct)) and said(proxied) == said(direct))
    line = await bench.line(case)
    charged = line["input_tokens"], line["output_tokens"]
    counted = tuple(now - then for now, then in zip(after, before, strict=True))
    # For beams the engine counts all that it tried, its usage what it gives.
    assert charged == (counted if "beam" not in case else tuple(usage(direct))), line
    recorded = names(Reply(exchange.status, exchange.headers, exchange.reply))
    assert names(direct) <= recorded, "vLLM says something that the recordings have not: record it"


def events(reply: Reply) -> list[str]:
    """What must be the same in two runs, but for the order of choices that run beside each other."""
    body = reply.body if "event-stream" in reply.headers["content-type"] else b"data: " + reply.body
    return [repr(each) for each in normalised(body)]


def contents(reply: Reply) -> list[Any]:
    """The JSON of every event, or of the body."""
    return [each for each in reply.events if not isinstance(each, str)] or [reply.json]


def said(reply: Reply) -> dict[str, str]:
    """All text, by where it stands in its event and of which choice it is."""
    found: dict[str, str] = {}
    for content in contents(reply):
        for choice in content.get("choices") or [content]:
            for name, value in leaves(choice):
                if name in ("text", "delta", "delta.content", "delta.text") and isinstance(value, str):
                    place = f"{choice.get('index', 0)} {name}"
                    found[place] = found.get(place, "") + value
    return found


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every value that is no object or list, by its names; where tokens are names, their values have none."""
    if isinstance(value, dict):
        by_token = path.endswith("logprobs")
        inner = [leaves(each, path if by_token else f"{path}.{name}".strip(".")) for name, each in value.items()]
        return [leaf for each in inner for leaf in each]
    if isinstance(value, list):
        return [leaf for each in value for leaf in leaves(each, path)]
    return [(path, value)]


def names(reply: Reply) -> set[str]:
    """The names of all fields."""
    return {name for content in contents(reply) for name, _ in leaves(content)}


def usage(reply: Reply) -> tuple[int, int]:
    """What a plain reply says of its tokens, of each sequence its own prompt."""
    told = reply.json["usage"]
    return told["prompt_tokens"] * len(reply.json["choices"]), told["completion_tokens"]


@on_the_sessions_loop
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
async def test_who_leaves_in_the_middle_pays_for_no_more_than_the_engine_made(bench: Bench, path: str) -> None:
    words, length = "import the module and return a value", 1500
    body: dict[str, Any] = {"model": "tiny", "stream": True, "temperature": 0, "ignore_eos": True}
    if path == "/v1/completions":
        body |= {"prompt": words, "max_tokens": length}
    elif path == "/v1/responses":
        body |= {"input": words, "max_output_tokens": length}
    else:
        body |= {"messages": [{"role": "user", "content": words}], "max_tokens": length}
    name = f"leaves{path.replace('/', '-')}"
    before = await bench.engines_counts()
    async with RawClient(bench.stack.data) as client:
        client.send(request(path, body, tenant="alice", headers={"x-request-id": name}))
        for _ in range(20):
            await client.until(b"\n\n")
    line = await bench.line(name)
    after = await bench.engines_counts()
    assert line["outcome"] == "client_gone"
    made = after[1] - before[1]
    # What vLLM made in the steps until it noticed has not come through the proxy.
    assert 5 <= line["output_tokens"] <= made < length, (line, made)


ERRORS = {
    "no such model": {"model": "nobody", "messages": [{"role": "user", "content": "x"}]},
    "no messages": {"model": "tiny"},
    "too many tokens": {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 100_000},
    "a type that is wrong": {"model": "tiny", "messages": 5, "stream": True},
}


@on_the_sessions_loop
@pytest.mark.parametrize("error", ERRORS)
async def test_the_engines_refusals_are_passed_on_and_cost_nothing(bench: Bench, error: str) -> None:
    body = json.dumps(ERRORS[error]).encode()
    name = f"refused-{error.replace(' ', '-')}"
    direct = await bench.direct("/v1/chat/completions", body)
    proxied = await bench.proxied("/v1/chat/completions", body, name)
    assert proxied.status == direct.status >= 400
    # Where the body is told in the message, it is the one that the engine got.
    assert names(proxied) == names(direct)
    line = await bench.line(name)
    assert (line["outcome"], line["cost"]) == ("engine_error", 0)


@on_the_sessions_loop
async def test_free_and_identified_routes_answer_as_the_engine_does(bench: Bench) -> None:
    for path in ("/health", "/v1/models", "/version"):
        assert (await bench.stack.get(bench.stack.data, path))[0] == 200
    body = json.dumps({"model": "tiny", "prompt": "import the module"}).encode()
    assert (await bench.proxied("/tokenize", body, "tokenize")).body == (await bench.direct("/tokenize", body)).body
    assert "vllm:num_requests_waiting" in (await bench.stack.get(bench.stack.data, "/metrics"))[1]


def keep(case: str, exchange: Exchange, reply: Reply) -> None:
    """Leaves an exchange where it can be taken as a recording."""
    SEEN.mkdir(parents=True, exist_ok=True)
    content = {
        "case": case,
        "request": {"method": "POST", "path": exchange.path, "body": exchange.request.decode()},
        "response": {
            "status": reply.status,
            "headers": [[name, value] for name, value in reply.headers.items()],
            "chunks": [[0.0, reply.body.decode()]],
        },
    }
    Path(SEEN / f"{case}.json").write_text(json.dumps(content, indent=1))
