"""What recordings of vLLM and replies of the simulator can have in common, beside `sim.replay`."""

import json
import re
from typing import Any

from sim.replay import Reply, recorded_reply, recording

# What the recordings' server was started with, and names of its model; one step of the simulator lasts a millisecond.
SERVED: dict[str, Any] = {"model_id": "tiny", "output_style": "numbered", "max_total_tokens": 2048}

STRING = r'"(?:[^"\\]|\\.)*"'
TEXTS = re.compile(rf'"(content|text|delta|token|prompt|root|id|item_id)":{STRING}')
NUMBERS = re.compile(r'"(created|created_at|sequence_number|logprob)":-?[\d.]+')
ID_LISTS = re.compile(r'"(token_ids|prompt_token_ids|tokens|token_strs|bytes)":\[([^\]]*)\]')
COMPLETION_LOGPROBS = re.compile(r'"logprobs":\{"text_offset":.*?\},("finish_reason")')
COUNTS = re.compile(r'"prompt_tokens":(\d+),"total_tokens":(\d+)')
INPUTS = re.compile(r'"(input_tokens|original_input_tokens|count|total_tokens)":\d+')
DELTA = re.compile(r"event: (response\.output_text\.delta|content_block_delta)\n")


def vllm_recording(case: str) -> dict[str, Any]:
    return recording(case, "vllm")


def vllm_reply(response: dict[str, Any]) -> Reply:
    return vllm_normalised(recorded_reply(response))


def vllm_normalised(reply: Reply) -> Reply:
    """A reply without what the simulator cannot know. The whole list of what that is:

    - what the model says, its tokens' ids and probabilities (of lists of output ids, the length stays);
    - how many tokens the prompt has (that of the output stays);
    - ids, times, the date, the order of header lines, and the length of a body, which reading it has proved;
    - where tokens without text are: consecutive deltas of responses and messages count as one, and are not numbered;
    - in which order the outputs of one step are sent: chunks are sorted by their output.
    """
    headers = sorted((name, "*" if name in ("date", "content-length") else value) for name, value in reply.headers)
    if "server" not in dict(headers):
        # Left out of recordings with many exchanges.
        headers = sorted([*headers, ("date", "*"), ("server", "uvicorn")])
    chunks = [_text(chunk) for chunk in reply.chunks]
    merged = [
        chunk
        for number, chunk in enumerate(chunks)
        if not (number and DELTA.match(chunk) and DELTA.match(chunks[number - 1]))
    ]
    return Reply(reply.status, headers, sorted(merged, key=_choice_index))


def _text(text: str) -> str:
    text = COMPLETION_LOGPROBS.sub(r'"logprobs":{},\1', text)
    text = COUNTS.sub(lambda found: f'"prompt_tokens":0,"total_tokens":{int(found[2]) - int(found[1])}', text)
    text = INPUTS.sub(r'"\1":0', text)
    text = ID_LISTS.sub(_list, text)
    text = NUMBERS.sub(r'"\1":0', text)
    return TEXTS.sub(r'"\1":"*"', text)


def _list(found: re.Match[str]) -> str:
    length = len(found[2].split(",")) if found[1] == "token_ids" else "*"
    return f'"{found[1]}":[{length}]'


def _choice_index(chunk: str) -> int:
    """Where a chunk belongs: roles first, then outputs by their number, then the rest."""
    found = re.search(r'"choices":\[\{"index":(\d+)', chunk)
    if found is None:
        return 1000 if '"choices":[]' in chunk or "[DONE]" in chunk else 0
    return -1 if '"role"' in chunk else int(found[1])


def body_of(request: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request["body"])
    return found


def marked(request: dict[str, Any], mark: str) -> dict[str, Any]:
    """The request with a steering mark in its prompt."""
    body = request["body"].replace("import", f"{mark} import", 1)
    return {name: value for name, value in request.items() if name != "headers"} | {"body": body}
