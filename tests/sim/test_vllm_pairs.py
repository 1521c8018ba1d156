"""The vLLM simulator answers as the real server did to what clients send and to what the proxy makes of it.

The recordings are those of `make test-vllm`; what is left out of the comparison is listed at `sim.vllm_replay`. Not
among the cases: tools and JSON (the simulator ignores them), stops (its text has other ones), `/invocations` and the
routes of models that do not write, but for embeddings.
"""

import re

import pytest

from fairqueue_sim import running_engine
from sim.replay import Reply, exchange, request_bytes
from sim.vllm_replay import SERVED, vllm_normalised, vllm_recording, vllm_reply

CASES = [
    *("chat-plain-lax", "chat-stream-continuous-usage-only", "chat-stream-usage-false", "chat-stream-options-null"),
    *("chat-stream-lax", "chat-stream-max1", "chat-stream-logprobs", "chat-stream-token-ids"),
    *("completions-plain-two-prompts-n2", "completions-plain-token-prompts", "completions-stream-n2"),
    *("completions-stream-two-prompts", "completions-stream-two-prompts-usage", "completions-stream-two-prompts-n2"),
    *("completions-stream-token-prompts", "completions-stream-echo", "completions-stream-logprobs"),
    *("completions-stream-max1", "responses-plain-turns", "responses-stream-turns"),
    *("embeddings", "embeddings-two", "embeddings-token-ids"),
]
# A hash of the server's configuration, and what an embedding says.
OTHERWISE = re.compile(r'"(system_fingerprint)":"vllm-0\.32\.0-[0-9a-f]{8}"|"(embedding)":\[[^]]*\]')


@pytest.mark.parametrize("case", CASES)
async def test_both_forms_of_a_request_get_the_recorded_replies(case: str) -> None:
    async with running_engine("vllm", **SERVED, slots=4) as engine:
        for recorded in vllm_recording(f"13-{case}")["exchanges"]:
            request = {name: value for name, value in recorded["request"].items() if name != "headers"}
            got = await exchange(engine.port, request_bytes(request, engine.port))
            assert _alike(vllm_normalised(got)) == _alike(vllm_reply(recorded["response"])), recorded["label"]


def _alike(reply: Reply) -> Reply:
    chunks = [OTHERWISE.sub(lambda found: f'"{found[1] or found[2]}":"*"', chunk) for chunk in reply.chunks]
    return Reply(reply.status, reply.headers, chunks)
