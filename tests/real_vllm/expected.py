"""What a client must get and be charged, worked out from vLLM's own bytes by other means than the proxy's."""

import json
import re
from typing import Any

from real_vllm.cases import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Case

_OBJECT = rb"\{(?:[^{}]|\{[^{}]*\})*\}"
_CHUNK_USAGE = re.compile(rb',"usage":' + _OBJECT)
_FINGERPRINT = re.compile(rb',"system_fingerprint":"[^"]*"')
# In two runs of the same request these differ.
_RUN = re.compile(rb'"(id|item_id|created|created_at|completed_at)":("[^"]*"|[\d.]+)')
_INDEX = re.compile(rb'"choices":\[\{"index":(\d+)')
_ENDS_CHOICE = re.compile(rb'"finish_reason":"')


def of_a_run(reply: bytes) -> bytes:
    """The reply without ids and times."""
    return _RUN.sub(rb'"\1":"*"', reply)


def without_unasked(case: Case, reply: bytes) -> bytes:
    """vLLM's reply to the proxy without the usage for which only the proxy asked."""
    if not case.is_stream or case.path not in (CHAT, COMPLETIONS, "/invocations"):
        return reply
    asked = case.body.get("stream_options") or {}
    at_end, in_chunks = asked.get("include_usage"), asked.get("continuous_usage_stats")
    events = reply.split(b"\n\n")
    *chunks, end, done, nothing = events
    assert (b'"choices":[]' in end, done, nothing) == (True, b"data: [DONE]", b""), events[-3:]
    if not (at_end and in_chunks):
        chunks = [_CHUNK_USAGE.sub(b"", chunk) for chunk in chunks]
    if at_end:
        return b"\n\n".join([*chunks, end, done, nothing])
    # Without a usage chunk vLLM puts it into the last chunk of each choice; those that end together get it here, too.
    fingerprint = _FINGERPRINT.search(end)
    number = len(chunks)
    while fingerprint and number and _ENDS_CHOICE.search(chunks[number - 1]):
        number -= 1
        chunks[number] = chunks[number][:-1] + fingerprint[0] + b"}"
    return b"\n\n".join([*chunks, done, nothing])


def apart(case: Case, reply: bytes) -> list[bytes]:
    """The events of a reply without ids and times, those of each choice together: vLLM sends what several choices got
    in a step in any order. Where there are several the fingerprint is left out, too: which of them end together is
    chance."""
    events = of_a_run(reply).split(b"\n\n")
    if not case.is_stream or len({found[1] for event in events if (found := _INDEX.search(event))}) < 2:
        return events
    return sorted((_FINGERPRINT.sub(b"", event) for event in events), key=_place)


def _place(event: bytes) -> int:
    found = _INDEX.search(event)
    return int(found[1]) if found else 1 << 20


def usage_told(case: Case, reply: bytes) -> tuple[int, int]:
    """Input and output tokens by the last usage that vLLM told; it tells the prompt once, however often sampled."""
    told = [usage for each in _objects(case, reply) if (usage := _usage_of(each)) is not None]
    usage = told[-1]
    if "input_tokens" in usage:
        return usage["input_tokens"], usage["output_tokens"]
    return usage["prompt_tokens"] * case.copies, usage.get("completion_tokens") or 0


def charge_of_part(case: Case, events: list[bytes]) -> tuple[int | None, int]:
    """Input and output tokens that the first events of a cut stream tell; None: they don't tell the whole input."""
    path = case.path
    objects = [json.loads(_data(event)) for event in events]
    if path in (CHAT, COMPLETIONS):
        told: dict[int, dict[str, int]] = {}
        for each in objects:
            told |= {choice["index"]: each["usage"] for choice in each["choices"]}
        prompt = sum(usage["prompt_tokens"] for usage in told.values())
        is_whole = len(told) == case.sequences
        return prompt if is_whole else None, sum(usage["completion_tokens"] for usage in told.values())
    deltas = [each for each in objects if each["type"] in ("response.output_text.delta", "content_block_delta")]
    assert path in (RESPONSES, MESSAGES)
    return (objects[0]["message"]["usage"]["input_tokens"] if path == MESSAGES else None), len(deltas)


def field_names(case: Case, reply: bytes) -> set[str]:
    """The names of all fields in a reply, by their place."""
    return {name for each in _objects(case, reply) for name in _names(each, "")}


def _names(value: Any, place: str) -> set[str]:
    if isinstance(value, list):
        return {name for each in value for name in _names(each, place)}
    # In the log probabilities of completions tokens are names.
    if not isinstance(value, dict) or place.endswith("top_logprobs"):
        return {place}
    return {place, *(name for key, each in value.items() for name in _names(each, f"{place}.{key}"))}


def _objects(case: Case, reply: bytes) -> list[dict[str, Any]]:
    if not case.is_stream:
        return [json.loads(reply)]
    return [json.loads(data) for event in reply.split(b"\n\n") if (data := _data(event)) not in (b"", b"[DONE]")]


def _data(event: bytes) -> bytes:
    return event.rpartition(b"data: ")[2]


def _usage_of(told: dict[str, Any]) -> dict[str, int] | None:
    for holder in (told, told.get("response") or {}):
        if holder.get("usage"):
            return dict(holder["usage"])
    return None
