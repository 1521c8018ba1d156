"""A trace through the real proxy: each tenant by its key, with the clients' own library."""

import argparse
import random
from pathlib import Path

from fairqueue_cli import load
from fairqueue_cli.load_open import run_open
from fairqueue_cli.load_open_report import summarise_open
from fairqueue_cli.load_options import OpenLoad, read_options
from fairqueue_sim import running_engine
from proxy_stack import serving_proxy


async def test_a_trace_goes_through_the_proxy_with_each_tenants_key(tmp_path: Path) -> None:
    trace = tmp_path / "monday.csv"
    rows = [f"{0.1 * number},{'ab'[number % 2]},{20 + number},{1 + number % 5}" for number in range(20)]
    trace.write_text("arrival_seconds,tenant,prompt_tokens,output_tokens\n" + "\n".join([*rows, "2.0,stranger,20,1"]))
    tenants = [{"name": name} for name in "ab"]
    async with (
        running_engine("tgi") as engine,
        serving_proxy(tmp_path, engine.port, tmp_path / "log", tenants=tenants) as proxy,
    ):
        parser = argparse.ArgumentParser()
        load.add_arguments(parser)
        keys = str(tmp_path / "secrets" / "keys")
        arguments = ["--target", proxy.url, "--api", "tgi", "--trace", str(trace), "--speed", "5", "--keys", keys]
        asked = read_options(parser.parse_args(arguments))
        assert isinstance(asked, OpenLoad)
        result = await run_open(asked.plan, rng=random.Random(1))
        metrics = await proxy.metrics()
    report = summarise_open(result, asked.workload)
    assert [(one.name, one.completed, one.prompt_tokens, one.output_tokens) for one in report.tenants] == [
        ("a", 10, sum(20 + number for number in range(0, 20, 2)), 30),
        ("b", 10, sum(20 + number for number in range(1, 20, 2)), 30),
        ("stranger", 0, 0, 0),
    ]
    assert report.refusals == {"unauthenticated": 1}
    assert 'fairqueue_tokens_total{tenant="a",kind="output"} 30' in metrics
