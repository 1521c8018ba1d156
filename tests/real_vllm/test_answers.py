"""Each metered route of vLLM, plain and streamed, through the proxy: the engine's bytes, charged by its own count."""

import json
import re
from dataclasses import dataclass

import pytest

from metering.recorded import cases as cases_like
from metering.recorded import exchanges
from proxy.raw_client import Reply
from real_vllm.bench import Bench
from real_vllm.cases import GENERATED, REFUSED, REFUSED_IN_STREAM, UNCHARGED, Case
from real_vllm.expected import apart, field_names, of_a_run, usage_told, without_unasked
from real_vllm.recording import ALONE, ASKED, record
from real_vllm.tap import Tapped

pytestmark = pytest.mark.asyncio(loop_scope="session")

# vLLM joins chunks that wait for a busy loop, so that one run of a stream may be cut otherwise than the next.
ATTEMPTS = 5
SAME_HEADERS = ("content-type", "server", "vary")


@dataclass
class Seen:
    """A request alone and through the proxy; what the proxy's log, its metrics and the engine say of the latter."""

    alone: Tapped
    asked: Tapped
    got: Reply
    line: dict[str, object]
    charged: tuple[int, int]
    counted: tuple[int, int]


_seen: dict[str, Seen] = {}


async def seen_of(bench: Bench, case: Case) -> Seen:
    """Asks once for all tests of the case."""
    if case.name not in _seen:
        for _ in range(ATTEMPTS):
            seen = await _ask(bench, case)
            if len(seen.alone.reply.split(b"\n\n")) == len(without_unasked(case, seen.asked.reply).split(b"\n\n")):
                break
        _seen[case.name] = seen
    return _seen[case.name]


async def _ask(bench: Bench, case: Case) -> Seen:
    _, alone = await bench.alone(case.path, case.body)
    counted, charged = await bench.idle_counts(), await bench.charged()
    name = bench.name()
    got = await bench.through(case.path, case.body, name=name)
    line = await bench.line(name)
    counts = _difference(await bench.idle_counts(), counted), _difference(await bench.charged(), charged)
    return Seen(alone, bench.tap.posted()[-1], got, line, charged=counts[1], counted=counts[0])


def _difference(after: tuple[int, int], before: tuple[int, int]) -> tuple[int, int]:
    return after[0] - before[0], after[1] - before[1]


def recordings_of(case: Case) -> list[str]:
    """Those of the case, whoever made them."""
    return [name for name in cases_like("vllm", f"*-{case.name}") if name[2:] == f"-{case.name}"]


cases = pytest.mark.parametrize("case", GENERATED, ids=lambda case: case.name)


@cases
async def test_the_client_gets_the_engines_bytes_without_what_only_the_proxy_asked_for(
    bench: Bench, case: Case
) -> None:
    seen = await seen_of(bench, case)
    assert (seen.got.status, seen.asked.status) == (200, 200), seen.got.body
    assert seen.got.body == without_unasked(case, seen.asked.reply)
    headers = dict(seen.asked.reply_headers)
    assert {name: seen.got.headers.get(name) for name in SAME_HEADERS} == {
        name: headers.get(name) for name in SAME_HEADERS
    }


@cases
async def test_the_client_gets_what_it_would_get_without_the_proxy(bench: Bench, case: Case, recording: bool) -> None:
    seen = await seen_of(bench, case)
    assert apart(case, seen.got.body) == apart(case, seen.alone.reply)
    if recording and not case.known:
        asked = [(ASKED, seen.asked)] if json.loads(seen.asked.body) != json.loads(seen.alone.body) else []
        record(bench.kind, case, [(ALONE, seen.alone), *asked], seen.counted)


@cases
async def test_the_engine_says_nothing_that_the_recordings_have_not(bench: Bench, case: Case) -> None:
    seen = await seen_of(bench, case)
    recorded = [each for name in recordings_of(case) for each in exchanges("vllm", name) if each.status == 200]
    assert field_names(case, seen.alone.reply) <= set().union(*(field_names(case, each.reply) for each in recorded))


@cases
async def test_the_charge_is_what_the_engine_tells_and_counts(bench: Bench, case: Case) -> None:
    seen = await seen_of(bench, case)
    told = usage_told(case, seen.asked.reply)
    logged = seen.line["input_tokens"], seen.line["output_tokens"]
    assert (seen.line["outcome"], logged, seen.charged) == ("completed", told, told)
    if not case.hidden_work:
        assert seen.counted == told


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
async def test_what_the_engine_refuses_is_relayed_and_not_charged(bench: Bench, case: Case) -> None:
    seen = await _ask(bench, case)
    assert (seen.got.status, seen.alone.status) == (case.status, case.status), seen.got.body
    # vLLM says how many fields the body had; `store` is one that the proxy sets.
    got, alone = (re.sub(rb"<dict of \d+ items>", b"", of_a_run(each)) for each in (seen.got.body, seen.alone.reply))
    assert got == alone
    assert (seen.line["outcome"], seen.charged) == ("engine_error", (0, 0))


async def test_what_the_engine_refuses_in_the_stream_is_relayed_and_not_charged(bench: Bench, recording: bool) -> None:
    seen = await _ask(bench, REFUSED_IN_STREAM)
    assert (seen.got.status, seen.got.body) == (200, seen.asked.reply)
    assert (seen.line["outcome"], seen.charged) == ("engine_error", (0, 0))
    assert b'"code": 400' in seen.got.body
    if recording:
        record(bench.kind, REFUSED_IN_STREAM, [(ALONE, seen.alone), (ASKED, seen.asked)], (0, 0))


@pytest.mark.parametrize(("method", "path", "body"), UNCHARGED, ids=lambda value: value if value else "")
async def test_what_costs_nothing_is_relayed_as_it_is(bench: Bench, method: str, path: str, body: object) -> None:
    charged = await bench.charged()
    _, alone = await bench.alone(path, body, method=method)
    got = await bench.through(path, body, method=method)
    assert (got.status, of_a_run(got.body)) == (alone.status, of_a_run(alone.reply))
    assert got.headers.get("content-type") == dict(alone.reply_headers).get("content-type")
    assert await bench.charged() == charged


async def test_there_was_nothing_in_the_engines_bytes_that_the_proxy_did_not_understand(bench: Bench) -> None:
    text = await bench.stack.metrics()
    assert "fairqueue_malformed_events_total 0\n" in text
