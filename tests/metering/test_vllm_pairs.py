"""Requests of clients and what the proxy made of them, both recorded from a real vLLM (`make test-vllm`), replayed.

The recordings have vLLM's own counters for each pair. The client must get from the reply to the proxy what it would get
alone, and be charged what vLLM counted.
"""

import json
import random
from typing import Any

import pytest

from fairqueue_proxy.engines import Call, engine_for
from fairqueue_proxy.metering import EventSplitter
from metering.recorded import DATA, Exchange, cases, exchanges, replay
from real_vllm.cases import CHAT, COMPLETIONS, GENERATED, HUNG_UP, POOLED, REFUSED_IN_STREAM, Case
from real_vllm.expected import apart, without_unasked
from real_vllm.recording import PREFIX

WHOLE = [each for each in GENERATED if not each.known] + [each for pooled in POOLED.values() for each in pooled]
whole = pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
hung_up = pytest.mark.parametrize("case", HUNG_UP, ids=lambda case: case.name)


def recorded(case: Case) -> dict[str, Any]:
    return dict(json.loads((DATA / "vllm" / f"{PREFIX}{case.name}.json").read_text()))


def counted(case: Case) -> tuple[int, int]:
    """Prompt and output tokens by vLLM's own counters."""
    counts = recorded(case)["engine_counted"]
    return counts["prompt_tokens"], counts["output_tokens"]


def pair(case: Case) -> tuple[Exchange, Exchange]:
    """The client's exchange, and the one that the proxy makes of it; the same if the proxy asks for nothing more."""
    both = exchanges("vllm", f"{PREFIX}{case.name}")
    return both[0], both[-1]


def call(case: Case) -> Call:
    engine = engine_for("VLLM")
    return engine.parse(engine.route("POST", case.path), json.dumps(case.body).encode())


def test_every_recorded_pair_is_replayed() -> None:
    known = {PREFIX + each.name for each in (*WHOLE, *HUNG_UP, REFUSED_IN_STREAM)}
    assert set(cases("vllm", f"{PREFIX}*")) == known


def test_every_metered_route_was_asked() -> None:
    asked = {each.path for each in (*GENERATED, *WHOLE)}
    assert asked == engine_for("VLLM").metered_paths


@whole
def test_the_proxy_asks_as_it_did_when_it_was_recorded(case: Case) -> None:
    alone, asked = pair(case)
    assert json.loads(alone.request) == case.body
    assert json.loads(call(case).body) == json.loads(asked.request)


@whole
def test_the_charge_is_what_vllm_counted(case: Case) -> None:
    meter = call(case).meter()
    replay(pair(case)[1], meter)
    assert (meter.usage.prompt_tokens, meter.usage.output_tokens) == counted(case)
    assert (meter.usage.final, meter.usage.malformed_events, meter.usage.error) == (True, 0, None)


@whole
def test_the_client_gets_what_it_would_get_alone_however_the_stream_is_cut(case: Case) -> None:
    alone, asked = pair(case)
    for seed in range(3):
        passed_on = replay(asked, call(case).meter(), cuts=random.Random(seed))
        assert passed_on == without_unasked(case, asked.reply)
        assert apart(case, passed_on) == apart(case, alone.reply)


@hung_up
def test_hung_up_the_charge_is_what_was_charged_when_it_was_recorded(case: Case) -> None:
    (asked,) = exchanges("vllm", f"{PREFIX}{case.name}")
    meter = call(case).meter()
    meter.head(200, asked.headers)
    events = EventSplitter().feed(asked.reply)
    for event in events:
        meter.event(event)
    prompt, output = counted(case)
    assert (len(events), meter.usage.output_tokens, meter.usage.final) == (len(asked.chunks), output, False)
    assert meter.usage.exact == (case.path in (CHAT, COMPLETIONS))
    # Where vLLM had not told it, the estimate was charged.
    assert meter.usage.prompt_tokens in (prompt, None)


def test_an_error_that_came_too_late_for_a_status_is_a_refusal() -> None:
    alone, asked = pair(REFUSED_IN_STREAM)
    meter = call(REFUSED_IN_STREAM).meter()
    assert replay(asked, meter) == asked.reply == alone.reply
    assert meter.usage.error is not None
    assert (meter.usage.error.kind.value, meter.usage.output_tokens) == ("refused", 0)
