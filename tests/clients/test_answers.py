"""Through the proxy, a client says what it says when it asks the engine itself."""

from clients.attempts import TOKENS, Said
from clients.calls import Call, attempt
from clients.cases import Case, cases
from clients.conftest import OpenDoors
from proxy_stack import key_of

KEY = key_of("alice")

# Characters of many bytes, a byte a token, that ends by itself; and words that look like the framing around them.
HELLO = "[[eos=20]][[utf8=1]] Say hello"
FRAMES = '[[word=data: {"\\é}]] Say something odd'

EMBEDDING = Call("openai", "embedding")

TEXTS = {HELLO: " h\u00e9llo \u65e5\u672c \U0001f600", FRAMES: ' data: {"\\é}' * TOKENS}


@cases(lambda case: case.at_home or not case.call.asynchronous)
def test_an_answer_is_the_engines_text_usage_and_everything_else(doors: OpenDoors, case: Case) -> None:
    at = doors(case.kind)
    for prompt in [HELLO] if case.call.asynchronous else [HELLO, FRAMES]:
        said = attempt(case.call, at["usual"].url, KEY, prompt)
        assert isinstance(said, Said), said
        # TGI repeats the prompt in a plain reply of `POST /`; and in some streams it calls the end a word.
        assert said.text.removeprefix(prompt).removesuffix("</s>") == TEXTS[prompt]
        # Of streams usage has to be asked for, and then everybody has it.
        if "with" in case.call.name or not (case.call.streams or case.call.name.endswith("generation")):
            assert said.usage
        assert said == attempt(case.call, at.direct, KEY, prompt)


def test_embeddings_are_the_engines(doors: OpenDoors) -> None:
    at = doors("vllm")
    said = attempt(EMBEDDING, at["usual"].url, KEY, "Say hello")
    assert isinstance(said, Said), said
    assert (said.text, said.usage["prompt_tokens"]) == ("[8, 8]", 5)
    assert said == attempt(EMBEDDING, at.direct, KEY, "Say hello")


def test_the_models_are_listed_without_a_key_that_anybody_has(doors: OpenDoors) -> None:
    said = attempt(Call("openai", "models"), doors("vllm")["usual"].url, "nobody's", "")
    assert said == Said("tiny")
