"""Routes with input and no output, of models that embed or classify: the engine's bytes, and its count of the input."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from real_vllm.bench import Bench, bench_of
from real_vllm.cases import POOLED, Case
from real_vllm.expected import of_a_run, usage_told
from real_vllm.recording import ALONE, record

pytestmark = pytest.mark.asyncio(loop_scope="session")

CASES = [pytest.param(kind, case, id=case.name) for kind, cases in POOLED.items() for case in cases]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def benches(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Bench]]:
    """A model of each kind."""
    async with AsyncExitStack() as stack:
        yield {kind: await stack.enter_async_context(bench_of(kind, tmp_path_factory.mktemp(kind))) for kind in POOLED}


@pytest.mark.parametrize(("kind", "case"), CASES)
async def test_the_client_gets_the_engines_bytes_and_the_charge_is_its_count(
    benches: dict[str, Bench], kind: str, case: Case, recording: bool
) -> None:
    bench = benches[kind]
    reply, alone = await bench.alone(case.path, case.body)
    assert reply.status == 200, reply.body
    before, name = await bench.idle_counts(), bench.name()
    got = await bench.through(case.path, case.body, name=name)
    line, after = await bench.line(name), await bench.idle_counts()
    asked = bench.tap.posted()[-1]
    assert (got.status, got.body, json.loads(asked.body)) == (200, asked.reply, case.body)
    assert of_a_run(got.body) == of_a_run(alone.reply)
    told = usage_told(case, asked.reply)
    assert (line["outcome"], line["input_tokens"], line["output_tokens"]) == ("completed", *told)
    counted = after[0] - before[0], after[1] - before[1]
    assert counted == told
    if recording:
        record(kind, case, [(ALONE, alone)], counted)
