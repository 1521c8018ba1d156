"""Marks in a prompt that tell the simulated model what to do, such as `[[eos=4]] Tell me a story`.

They exist so that a test can ask for a certain reply with nothing but an ordinary request:

| mark | what happens |
| --- | --- |
| `[[eos=4]]` | the output ends by itself with token 4, the end-of-sequence token |
| `[[fail=3]]` | the engine fails in place of token 3; everything in the batch dies with it |
| `[[die=3]]` | the connection is cut off in place of token 3 |
| `[[slow=100]]` | an engine step lasts at least 100 ms while this request is in the batch |
| `[[prefill=500]]` | a step that prefills this prompt lasts at least 500 ms |
| `[[spec=3]]` | three tokens a step, as with speculative decoding |
| `[[word=hello]]` | every token is ` hello` |
| `[[utf8=1]]` | one byte of a fixed text with many-byte characters a token |
| `[[nan=1]]` | the log probabilities are not numbers |
| `[[merge=4]]` | not TGI: four tokens share a chunk; in vLLM and SGLang the first has one of its own |
| `[[empty=1]]` | not TGI: the text of every second chunk comes with the next one |

A mark that is none of these, or whose value is no number where one is due, is plain text.
"""

import re
from dataclasses import dataclass

__all__ = ["UNSTEERED", "Steering", "parse_steering"]

_MARK = re.compile(r"\[\[(\w+)=([^\]]*)\]\]")


@dataclass(frozen=True, slots=True)
class Steering:
    """What the marks of one prompt ask for; the defaults are those of a prompt without any."""

    eos: int | None = None
    fail: int | None = None
    die: int | None = None
    step_seconds: float = 0.0
    prefill_seconds: float = 0.0
    tokens_per_step: int = 1
    word: str | None = None
    utf8: bool = False
    nan: bool = False
    merge: int = 1
    empty: bool = False


UNSTEERED = Steering()


def parse_steering(prompt: str) -> Steering:
    """Reads the marks out of a prompt; of two alike the last one counts."""
    if "[[" not in prompt:
        return UNSTEERED
    marks = dict(_MARK.findall(prompt))

    def number(name: str) -> int | None:
        value = marks.get(name, "")
        return int(value) if value.isdecimal() and int(value) > 0 else None

    return Steering(
        eos=number("eos"),
        fail=number("fail"),
        die=number("die"),
        step_seconds=(number("slow") or 0) / 1000,
        prefill_seconds=(number("prefill") or 0) / 1000,
        tokens_per_step=number("spec") or 1,
        word=marks.get("word") or None,
        utf8=number("utf8") is not None,
        nan=number("nan") is not None,
        merge=number("merge") or 1,
        empty=number("empty") is not None,
    )
