"""SGLang's replies, by its source: what of them is counted and what is taken out."""

import pytest

from fairqueue_proxy.metering import ErrorKind, EventSplitter, Meter, SglangMeter, SglangNativeMeter
from metering.recorded import replay
from metering.stand_ins import STAND_INS, StandIn, compact, event


def _passed_on(stand_in: StandIn, meter: Meter) -> bytes:
    return replay(stand_in.exchange("sglang", "/"), meter)


@pytest.mark.parametrize("name", ["sglang chat", "sglang completions"])
def test_usage_that_the_client_wanted_stays(name: str) -> None:
    stand_in = STAND_INS[name]
    assert _passed_on(stand_in, SglangMeter(sequences=2)) == stand_in.asked


def test_the_usage_chunk_alone_can_be_wanted() -> None:
    stand_in = STAND_INS["sglang chat"]
    passed_on = _passed_on(stand_in, SglangMeter(strip_chunks=True))
    assert passed_on.count(b'"usage":{') == 1
    assert passed_on.count(b'"usage":null') == 1


def test_chunks_of_the_completions_route_have_a_null_usage_where_none_is_wanted() -> None:
    stand_in = STAND_INS["sglang completions"]
    meter = SglangMeter(sequences=2, copies=2, strip_chunks=True, strip_end=True, null_usage=True)
    assert _passed_on(stand_in, meter) == stand_in.wanted
    assert stand_in.wanted.count(b'"usage":null') == 4


def test_chunks_that_skip_steps_are_counted_by_their_running_total() -> None:
    meter = SglangNativeMeter()
    counts = []
    for each in EventSplitter().feed(STAND_INS["sglang native"].asked):
        meter.event(each)
        counts.append(meter.usage.counted_tokens)
    assert counts == [1, 2, 5, 7, 7]
    assert meter.usage.exact


def test_several_native_results_add_up() -> None:
    result = {"text": "a", "meta_info": {"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 2}}
    meter = SglangNativeMeter(2)
    meter.head(200, {})
    meter.body(compact([result, result]))
    usage = meter.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.output_tokens, usage.final) == (14, 4, 6, True)


@pytest.mark.parametrize(("code", "kind"), [(503, ErrorKind.OVERLOADED), (400, ErrorKind.REFUSED)])
def test_an_error_event_is_classified_by_its_code(code: int, kind: ErrorKind) -> None:
    error = event({"error": {"message": "The request queue is full.", "type": "x", "code": code}})
    for meter in (SglangNativeMeter(), SglangMeter()):
        assert meter.event(error) == error
        assert meter.usage.error is not None
        assert meter.usage.error.kind is kind


def test_a_native_reply_that_tells_no_count_is_passed_on_uncounted() -> None:
    meter = SglangNativeMeter()
    meter.head(200, {})
    assert meter.body(b'[{"text":"a"}]') == b'[{"text":"a"}]'
    assert meter.usage.malformed_events == 1
