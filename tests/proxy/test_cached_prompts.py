"""What a prompt costs of which the engine had a part in its cache, where the policy makes such tokens cheaper."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.conftest import StartProxy
from proxy.raw_client import RawClient, request
from proxy.samples import sample
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, ScriptedEngine, event, json_reply, scripted_engine
from proxy_stack import Stack

CHEAPER = {"cachedInputPercent": 10}
TEXT = "word " * 1000
IDS = [7] * 1000
COUNTS = {"prompt_tokens": 1000, "completion_tokens": 5, "total_tokens": 1005}
USAGE = {**COUNTS, "prompt_tokens_details": {"cached_tokens": 900}}
prompts = pytest.mark.parametrize("prompt", [IDS, TEXT], ids=["token ids", "text"])


@pytest.fixture
async def openai() -> AsyncIterator[ScriptedEngine]:
    async with scripted_engine(object="list", data=[]) as engine:
        yield engine


def text_chunk(text: str = "x", finish_reason: str | None = None, **fields: Any) -> bytes:
    return event({"choices": [{"index": 0, "text": text, "finish_reason": finish_reason}], **fields})


async def assert_charged(stack: Stack, *, units: float, cached: int) -> None:
    metrics = await stack.metrics()
    assert sample(metrics, "service_total", tenant="alice") == units
    assert sample(metrics, "tokens_total", tenant="alice", kind="cached_input") == cached
    assert sample(metrics, "tokens_total", tenant="alice", kind="input") == 1000 - cached


@prompts
@pytest.mark.parametrize("percent", [0, 10, 100])
async def test_a_plain_reply_is_charged_what_its_prompt_costs_at_the_end(
    start_proxy: StartProxy, openai: ScriptedEngine, prompt: object, percent: int
) -> None:
    stack = await start_proxy(openai.port, kind="OpenAI", cost={"cachedInputPercent": percent})
    async with RawClient(stack.data) as client:
        client.send(request("/v1/completions", {"prompt": prompt, "max_tokens": 9}, tenant="alice"))
        choice = {"index": 0, "text": "x", "finish_reason": "length"}
        (await openai.play()).answer(json_reply({"choices": [choice], "usage": USAGE}))
        assert (await client.reply()).status == 200
    await assert_charged(stack, units=100 + 900 * percent / 100 + 10, cached=900)


@prompts
@pytest.mark.parametrize("of_chunks", [{}, {"usage": None}, {"usage": COUNTS}], ids=["none", "null", "each chunk"])
async def test_a_stream_is_not_charged_the_whole_prompt_before_the_engine_has_told_how_much_was_cached(
    start_proxy: StartProxy, openai: ScriptedEngine, prompt: object, of_chunks: dict[str, Any]
) -> None:
    """Some engines tell of the prompt with each chunk, and of their cache only at the end."""
    stack = await start_proxy(openai.port, kind="OpenAI", cost=CHEAPER)
    async with RawClient(stack.data) as client:
        client.send(request("/v1/completions", {"prompt": prompt, "max_tokens": 9, "stream": True}, tenant="alice"))
        play = await openai.play()
        play.write(STREAM_HEAD + text_chunk(**of_chunks))
        await client.until(b"\n\n")
        # Nothing that is charged can be taken back.
        assert sample(await stack.metrics(), "service_total", tenant="alice") <= 110
        last = text_chunk(finish_reason="length", **of_chunks) + event({"choices": [], "usage": USAGE})
        play.answer(last + LAST_CHUNK)
        await client.until(LAST_CHUNK)
    await assert_charged(stack, units=200, cached=900)


@prompts
async def test_an_engine_that_does_not_tell_is_charged_the_whole_prompt(
    start_proxy: StartProxy, openai: ScriptedEngine, prompt: object
) -> None:
    stack = await start_proxy(openai.port, kind="OpenAI", cost=CHEAPER)
    async with RawClient(stack.data) as client:
        client.send(request("/v1/completions", {"prompt": prompt, "max_tokens": 9, "stream": True}, tenant="alice"))
        usage = event({"choices": [], "usage": COUNTS})
        (await openai.play()).answer(STREAM_HEAD + text_chunk(finish_reason="length") + usage + LAST_CHUNK)
        await client.until(LAST_CHUNK)
    await assert_charged(stack, units=1010, cached=0)


async def test_a_stream_that_breaks_before_the_engine_has_told_is_charged_the_whole_prompt(
    start_proxy: StartProxy, openai: ScriptedEngine
) -> None:
    stack = await start_proxy(openai.port, kind="OpenAI", cost=CHEAPER)
    async with RawClient(stack.data) as client:
        client.send(request("/v1/completions", {"prompt": IDS, "max_tokens": 9, "stream": True}, tenant="alice"))
        play = await openai.play()
        play.write(STREAM_HEAD + text_chunk())
        await client.until(b"\n\n")
        play.reset()
        await client.until(LAST_CHUNK)
    await assert_charged(stack, units=1002, cached=0)


async def test_llamacpp_tells_of_its_cache_in_the_last_event(start_proxy: StartProxy) -> None:
    async with scripted_engine(total_slots=8, default_generation_settings={"n_ctx": 4096}) as llama:
        stack = await start_proxy(llama.port, kind="LlamaCpp", cost=CHEAPER)
        async with RawClient(stack.data) as client:
            client.send(request("/completion", {"prompt": IDS, "n_predict": 5, "stream": True}, tenant="alice"))
            play = await llama.play()
            play.write(STREAM_HEAD)
            for number in range(1, 5):
                play.write(event({"content": "x", "tokens_predicted": number, "tokens_evaluated": 1000, "stop": False}))
            timings = {"cache_n": 900, "prompt_n": 100, "predicted_n": 5}
            last = {"content": "", "tokens_predicted": 5, "tokens_evaluated": 1000, "stop": True, "timings": timings}
            play.answer(event(last) + LAST_CHUNK)
            await client.until(LAST_CHUNK)
        await assert_charged(stack, units=200, cached=900)
