"""Reads the bodies of routes that have input and no output: embeddings, scores, classes, reranking.

Each input of a list is a request of its own to the engine, and each pair of a query and a document.
"""

from typing import Final

from fairqueue_proxy.engines.call import Api, Call
from fairqueue_proxy.engines.conversations import size_of_chat
from fairqueue_proxy.engines.fields import Fields
from fairqueue_proxy.engines.prompts import PromptSize, size_of_pairs, size_of_prompt
from fairqueue_proxy.engines.sized_call import sized_call
from fairqueue_proxy.metering.input_only import InputOnlyMeter

_INPUTS: Final = ("input", "content", "prompt")


def parse_embeddings(fields: Fields) -> Call:
    return sized_call(Api.EMBEDDINGS, fields, _size(fields), stream=False, max_tokens=0, make_meter=InputOnlyMeter)


def _size(fields: Fields) -> PromptSize:
    pairs = size_of_pairs(fields)
    if pairs is not None:
        return pairs
    name = next((name for name in _INPUTS if name in fields), None)
    return size_of_chat(fields) if name is None else size_of_prompt(fields[name])
