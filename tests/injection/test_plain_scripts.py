"""Scripts of one plain command, in which the words take the shell's place; and scripts that are more than that."""

import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator.injection import Reason
from fairqueue_operator.injection.engine_kinds import ENGINE_KINDS
from fairqueue_operator.injection.plain_scripts import unwrap
from injection.making import decided, engine_after, made_policy

LISTEN = ["--host", "127.0.0.1", "--port", "18000"]
PRINTS_ITS_WORDS = r"""vllm() { printf '%s\0' vllm "$@"; }; """


def words_after(script: str, *shell: str) -> list[str]:
    container: dict[str, Any] = {"command": list(shell or ("/bin/sh", "-c")), "args": [script]}
    unwrap(container, ENGINE_KINDS["VLLM"])
    return [*container["command"], *container["args"]]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("vllm serve m --max_num_batched_tokens 1024", ["vllm", "serve", "m", "--max_num_batched_tokens", "1024"]),
        ("exec vllm serve m", ["vllm", "serve", "m"]),
        ("\n  vllm serve m \\\n    --seed 1\n", ["vllm", "serve", "m", "--seed", "1"]),
        (
            "vllm serve 'a b' --hf-overrides '{\"a\": \"$x\"}'",
            ["vllm", "serve", "a b", "--hf-overrides", '{"a": "$x"}'],
        ),
        ('vllm serve "a b"', ["vllm", "serve", "a b"]),
        ("python3 -m vllm.entrypoints.openai.api_server", ["python3", "-m", "vllm.entrypoints.openai.api_server"]),
    ],
)
def test_the_words_of_a_plain_command_take_the_shells_place(script: str, words: list[str]) -> None:
    assert words_after(script) == words
    after = engine_after({"command": ["bash", "-c", script]}, made_policy())
    assert [*after["command"], *after["args"]] == [*words, *LISTEN]


@pytest.mark.parametrize(
    "script",
    [
        "vllm serve $MODEL",
        'vllm serve "$MODEL"',
        "vllm serve `cat model`",
        "vllm serve m && echo over",
        "sleep 5; vllm serve m",
        "vllm serve m\nvllm serve n",
        "vllm serve m > log",
        "vllm serve m &",
        "vllm serve *",
        "vllm serve ~/m",
        "vllm serve m # the model",
        "vllm serve {a,b}",
        "A=1 vllm serve m",
        "vllm=1 serve",
        "ollama serve m",
        'vllm serve "a\\"b"',
        "vllm serve 'm",
        "if vllm serve m",
        "",
    ],
)
def test_a_script_that_is_more_than_that_stays_and_is_denied(script: str) -> None:
    assert words_after(script) == ["/bin/sh", "-c", script]
    container = {"command": ["sh", "-c", script], "ports": [{"containerPort": 8000}]}
    assert decided(container, made_policy()).reason is Reason.SHELL_COMMAND


@pytest.mark.parametrize(
    "shell", [("sh", "-lc"), ("sh",), ("sh", "-c", "vllm serve m"), ("python", "-c"), ("sh", "-x", "-c")]
)
def test_other_ways_to_start_a_shell_stay(shell: tuple[str, ...]) -> None:
    assert words_after("vllm serve n", *shell) == [*shell, "vllm serve n"]


@given(st.text(alphabet="ab1-=/.,:_'\" \t\\\n$`;&|<>*?~#{}()!", max_size=30))
def test_what_takes_a_shells_place_is_what_the_shell_would_have_run(tail: str) -> None:
    words = words_after(f"vllm {tail}")
    if words[0] == "vllm":
        done = subprocess.run(
            ["sh", "-c", f"{PRINTS_ITS_WORDS}vllm {tail}"], capture_output=True, text=True, check=True
        )
        assert done.stdout.split("\0")[:-1] == words
