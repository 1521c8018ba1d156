"""Sizes of prompts that nobody has counted yet: learned by route and model from what the engine has counted."""

import pytest

from fairqueue_proxy.sizing import FIRST_TOKENS_PER_PART, MOST_MODELS, PromptSizes
from proxy.conftest import StartProxy
from proxy.raw_client import RawClient, request
from proxy.samples import sample
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, event, json_reply, scripted_engine

CHAT, COMPLETIONS = "chat", "completions"


def learned(**tokens_of_100_bytes: int) -> PromptSizes:
    """What is known after one prompt of each model on one route."""
    sizes = PromptSizes()
    for model, tokens in tokens_of_100_bytes.items():
        sizes.learn(CHAT, 100, tokens, model=model)
    return sizes


def test_before_anything_is_learned_four_bytes_are_a_token() -> None:
    assert PromptSizes().estimate(CHAT, 400) == 100
    assert PromptSizes().estimate(CHAT, 400, model="small") == 100


def test_no_prompt_is_without_a_token() -> None:
    assert PromptSizes().estimate(CHAT, 0) == 1


def test_each_model_has_its_own_bytes_per_token() -> None:
    sizes = learned(fine=50, coarse=10)
    assert sizes.estimate(CHAT, 1000, model="fine") == 500
    assert sizes.estimate(CHAT, 1000, model="coarse") == 100


def test_a_model_that_is_not_known_yet_is_taken_to_be_like_the_others_of_its_route() -> None:
    sizes = learned(fine=50, coarse=10)
    mean = (50 * 0.98 + 10) / (100 * 0.98 + 100)
    assert sizes.estimate(CHAT, 1000, model="new") == sizes.estimate(CHAT, 1000) == round(1000 * mean)


def test_a_model_on_another_route_is_not_the_same() -> None:
    """Templates are the route's."""
    sizes = learned(fine=50)
    sizes.learn(COMPLETIONS, 100, 20, model="other")
    assert sizes.estimate(COMPLETIONS, 1000, model="fine") == 200


def test_what_was_learned_long_ago_fades() -> None:
    sizes = learned(fine=50)
    for _ in range(300):
        sizes.learn(CHAT, 100, 10, model="fine")
    assert sizes.estimate(CHAT, 1000, model="fine") == 100


def test_images_of_a_model_have_their_own_size() -> None:
    sizes = learned(fine=50)
    assert sizes.estimate(CHAT, 100, 2, model="fine") == 50 + 2 * FIRST_TOKENS_PER_PART
    sizes.learn(CHAT, 100, 50 + 90, 1, model="fine")
    assert sizes.estimate(CHAT, 100, 2, model="fine") == 50 + 2 * 90
    # Of others nothing is known but the route's.
    sizes.learn(CHAT, 100, 10, model="coarse")
    assert sizes.estimate(CHAT, 100, 2, model="coarse") == 10 + 2 * 90


def test_a_prompt_with_images_teaches_nothing_of_its_text() -> None:
    sizes = learned(fine=50)
    sizes.learn(CHAT, 100, 5000, 1, model="fine")
    assert sizes.estimate(CHAT, 1000, model="fine") == 500


@pytest.mark.parametrize(("text_bytes", "tokens"), [(0, 9), (9, 0)], ids=["no text", "no tokens"])
def test_what_has_no_text_or_no_tokens_teaches_nothing(text_bytes: int, tokens: int) -> None:
    sizes = PromptSizes()
    sizes.learn(CHAT, text_bytes, tokens, model="fine")
    assert sizes.estimate(CHAT, 400, model="fine") == 100


def test_of_many_models_only_those_used_last_are_remembered() -> None:
    """Clients write what they like as a model's name."""
    sizes = learned(first=50, second=40)
    assert sizes.estimate(CHAT, 1000, model="first") == 500
    for number in range(MOST_MODELS - 1):
        sizes.learn(CHAT, 100, 10, model=f"made up {number}")
    assert sizes.estimate(CHAT, 1000, model="first") == 500
    assert sizes.estimate(CHAT, 1000, model="second") == sizes.estimate(CHAT, 1000)
    for number in range(1000):
        sizes.learn(CHAT, 100, 10, model=f"made up again {number}")
    assert len(sizes._models) == MOST_MODELS


async def test_a_stream_that_breaks_is_charged_its_prompt_as_others_of_its_model_were_counted(
    start_proxy: StartProxy,
) -> None:
    async with scripted_engine(object="list", data=[]) as engine:
        stack = await start_proxy(engine.port, kind="OpenAI")
        path, charged = "/v1/completions", 0.0
        for model, tokens in (("fine", 100), ("coarse", 10)):
            async with RawClient(stack.data) as client:
                client.send(request(path, {"prompt": "word " * 20, "model": model}, tenant="alice"))
                usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
                choice = {"index": 0, "text": "", "finish_reason": "stop"}
                (await engine.play()).answer(json_reply({"choices": [choice], "usage": usage}))
                assert (await client.reply()).status == 200
            charged += tokens
        # The last is unknown: between the two.
        for model, tokens in (("fine", 100), ("coarse", 10), ("new", 55)):
            async with RawClient(stack.data) as client:
                body = {"prompt": "word " * 20, "model": model, "stream": True}
                client.send(request(path, body, tenant="alice"))
                play = await engine.play()
                play.write(STREAM_HEAD + event({"choices": [{"index": 0, "text": "x", "finish_reason": None}]}))
                await client.until(b"\n\n")
                play.reset()
                await client.until(LAST_CHUNK)
            charged += tokens + 2
            assert sample(await stack.metrics(), "service_total", tenant="alice") == charged
