"""The TGI simulator gives the replies that the real router gave: status, headers, framing and every byte of the body.

What is not compared is listed in `replay.normalised`, what is left out on purpose in `tests/data/tgi/README.md`.
"""

import pytest

from fairqueue_sim import running_engine
from sim.replay import (
    RECORDED,
    Connection,
    assert_same_chunks,
    exchange,
    normalised,
    post,
    recorded_reply,
    recording,
    request_bytes,
)

SINGLE = [
    *("01-generate-plain", "01-generate-details", "01-generate-no-parameters", "01-generate-empty-parameters-details"),
    *("01-generate-best-of", "01-generate-decoder-input-details", "01-generate-full-text-stop"),
    *("01-generate-stream-field-ignored", "01-generate-top-n-tokens", "01-generate-truncate"),
    *("02-root-plain", "02-root-plain-details", "02-root-stream", "02-root-stream-details"),
    *("03-stream-plain", "03-stream-details", "03-stream-eos", "03-stream-stop", "03-stream-top-n", "03-stream-utf8"),
    *("03-stream-best-of", "03-stream-decoder-input-details", "03-stream-nan-logprob", "03-stream-speculation"),
    *("04-chat-plain", "04-chat-plain-eos-model", "04-chat-plain-logprobs", "04-chat-stream"),
    *("04-chat-stream-usage", "04-chat-stream-eos-usage", "04-chat-stream-logprobs", "04-chat-stream-speculation"),
    *("04-chat-stream-stop", "04-chat-stream-utf8"),
    *("05-completions-plain", "05-completions-plain-eos", "05-completions-plain-two-prompts", "05-completions-stream"),
    *("05-completions-stream-eos", "05-completions-stream-include-usage", "05-completions-stream-two-prompts"),
    *("08-error-first-generate", "08-error-first-root", "08-error-first-chat", "08-error-first-completions"),
    *("08-error-first-generate-stream", "08-error-first-root-stream", "08-error-first-chat-stream"),
    *("08-error-first-completions-stream", "08-error-first-completions-two-prompts", "08-error-first-best-of"),
    *("08-error-mid-generate", "08-error-mid-root", "08-error-mid-chat", "08-error-mid-completions"),
    *("08-error-mid-generate-stream", "08-error-mid-root-stream", "08-error-mid-chat-stream"),
    *("08-error-mid-completions-stream", "08-error-mid-completions-two-prompts", "08-error-mid-best-of"),
    *("10-health", "10-ping", "10-root-get", "10-info", "10-models", "10-metrics-fresh"),
    *("10-tokenize", "10-tokenize-options"),
]
VALIDATION = [
    *("06-validation-generate", "06-validation-generate-stream", "06-validation-root", "06-validation-root-stream"),
    *("06-validation-chat", "06-validation-chat-stream"),
    *("06-validation-completions", "06-validation-completions-stream", "06-validation-others"),
]
# Routes and fields that the simulator does not have, and bodies that the recording cut.
LEFT_OUT = (
    *("grammar", "tool", "chat_tokenize", "vertex", "invocations", "payload limit", "GET /docs", "HTTP/2", "garbage"),
)


@pytest.mark.parametrize("case", SINGLE)
async def test_a_recorded_request_gets_the_recorded_reply(case: str) -> None:
    recorded = recording(case)
    request = recorded["request"]
    async with running_engine("tgi", **RECORDED) as engine:
        got = await exchange(engine.port, request_bytes(request, engine.port), method=request["method"])
    body = request["body"] or ""
    assert normalised(got, body) == normalised(recorded_reply(recorded["response"]), body)


@pytest.mark.parametrize("case", VALIDATION)
async def test_a_bad_request_is_refused_in_the_routers_words(case: str) -> None:
    limits = {"max_input_tokens": 50, "max_total_tokens": 100, "max_body_bytes": 20_000}
    compared = 0
    async with running_engine("tgi", **RECORDED, **limits) as engine:
        for recorded in recording(case)["exchanges"]:
            if any(word in recorded["label"] for word in LEFT_OUT):
                continue
            request = recorded["request"]
            got = await exchange(engine.port, request_bytes(request, engine.port))
            body = request["body"]
            assert normalised(got, body) == normalised(recorded_reply(recorded["response"]), body), recorded["label"]
            compared += 1
        assert engine.engine.loop.batch.running == 0
    assert compared > 3


async def test_the_odds_and_ends_of_http_are_as_recorded() -> None:
    async with running_engine("tgi", **RECORDED) as engine:
        for recorded in recording("10-http-odds")["exchanges"]:
            if any(word in recorded["label"] for word in LEFT_OUT):
                continue
            request = recorded["request"]
            connection = await Connection.to(engine.port)
            await connection.send(request_bytes(request, engine.port))
            got = await connection.reply(method=request.get("method", "POST"))
            if got.status == 100:
                got = await connection.reply()
            await connection.close()
            body = str(request)
            assert normalised(got, body) == normalised(recorded_reply(recorded["response"]), body), recorded["label"]


async def test_what_is_no_http_is_answered_400_and_cut_off() -> None:
    (recorded,) = (e for e in recording("10-http-odds")["exchanges"] if e["label"] == "garbage")
    async with running_engine("tgi") as engine:
        connection = await Connection.to(engine.port)
        await connection.send(request_bytes(recorded["request"], engine.port))
        got = await connection.reply()
        assert normalised(got, "") == normalised(recorded_reply(recorded["response"]), "")
        assert await connection.reader.read() == b""
        await connection.close()


@pytest.mark.parametrize(
    "case",
    [
        "14-long-1025",
        "14-long-1100-chat-stream",
        *(pytest.param(f"14-long-{case}", marks=pytest.mark.long) for case in ("1024", "1500", "1500-plain")),
    ],
)
async def test_more_than_1024_tokens_come_in_whole_pieces(case: str) -> None:
    recorded = recording(case)
    request = recorded["request"]
    async with running_engine("tgi", **RECORDED, speed=10_000) as engine:
        got = await exchange(engine.port, request_bytes(request, engine.port))
        made = engine.truth.requests[0].made_tokens
    expected = normalised(recorded_reply(recorded["response"]), request["body"])
    got = normalised(got, request["body"])
    assert (got.status, got.headers) == (expected.status, expected.headers)
    if "counted" in recorded:
        assert made == recorded["counted"].get("events", made)
    if len(expected.chunks) > 1:
        # The last chunk holds the whole text, which the recording cuts.
        assert_same_chunks(got.chunks[:-1], expected.chunks[:-1])


async def test_a_body_over_the_limit_is_refused_as_recorded() -> None:
    (recorded,) = (e for e in recording("06-validation-generate")["exchanges"] if "payload limit" in e["label"])
    async with running_engine("tgi", max_body_bytes=20_000) as engine:
        got = await exchange(engine.port, post("/generate", '{"inputs": "' + 30_000 * "x" + '"}'))
    assert normalised(got, "") == normalised(recorded_reply(recorded["response"]), "")
