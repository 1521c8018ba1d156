"""docs/metrics.md says what a proxy, an operator and an injector really show: all of it, and nothing else."""

import asyncio
import json
import re
from collections.abc import Iterable
from pathlib import Path

import aiohttp
import pytest
import yaml

from fairqueue_monitoring.made_files import ROOT
from fairqueue_monitoring.metrics_page import (
    Described,
    described,
    injector_metrics,
    metrics_page,
    operator_metrics,
    proxy_metrics,
)
from fairqueue_monitoring.rule_files import Rules
from fairqueue_sim import running_engine
from monitoring.known_metrics import fixed_values
from proxy_stack import Stack, bearer, serving, write_policy

PAGE = (ROOT / "docs" / "metrics.md").read_text()
CHAT = {"messages": [{"role": "user", "content": "some words"}], "max_tokens": 4, "stream": True}
PATIENCE_SECONDS = 20.0


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def row_of(metric: Described) -> str:
    labels = ", ".join(f"`{it}`" for it in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.text} |"


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| `")]


def in_any_order(metrics: Iterable[Described]) -> list[tuple[object, ...]]:
    return sorted((it.name, it.kind, sorted(it.labels), it.text) for it in metrics)


def test_the_page_is_what_the_code_makes() -> None:
    assert metrics_page(Rules()) == PAGE, "run `make monitoring`"


async def talk(stack: Stack) -> None:
    """One of a tenant, and one of nobody, which the policy would have refused."""
    async with aiohttp.ClientSession(stack.url) as session:
        for headers in (bearer("alice"), bearer("stranger")):
            async with session.post("/v1/chat/completions", json=CHAT, headers=headers) as reply:
                assert reply.status == 200
                await reply.read()


async def shown(stack: Stack) -> list[Described]:
    """What is shown once everything is: what the engine reports comes when it is asked next."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = described(await stack.metrics())
            if {it.name for it in found} >= {it.name for it in proxy_metrics()}:
                return found
            await asyncio.sleep(0.1)


async def test_a_proxy_shows_each_metric_of_the_page_with_its_kind_and_labels_and_nothing_else(tmp_path: Path) -> None:
    tenants = [{"name": "alice", "group": "people"}]
    policy, secrets = write_policy(tmp_path, kind="VLLM", tenants=tenants, groups=[{"name": "people"}], mode="Observe")
    # The same folder will do.
    options = ("--policy", policy, "--secrets", secrets, "--usage-log", tmp_path)
    async with running_engine("vllm") as engine, serving(engine.port, tmp_path / "log", *options) as stack:
        await talk(stack)
        found = await shown(stack)
    assert rows(section("The proxy")) == [row_of(it) for it in proxy_metrics()]
    assert in_any_order(found) == in_any_order(proxy_metrics())


@pytest.mark.parametrize(
    ("title", "metrics"), [("The operator", operator_metrics()), ("The injector", injector_metrics())]
)
def test_each_metric_of_operator_and_injector_has_a_line(title: str, metrics: Iterable[Described]) -> None:
    assert rows(section(title)) == [row_of(it) for it in metrics]
    assert len(rows(section(title))) > 3


def test_the_values_of_labels_that_the_page_names_are_those_that_they_have() -> None:
    table = section("What to know of them").partition("| label | values |")[2]
    named = {label: set(re.findall(r"`(\w+)`", rest)) for label, rest in re.findall(r"\| `(\w+)` \| (.*) \|", table)}
    known = fixed_values()
    assert {label: values for label, values in named.items() if values} == {
        label: set(known[label]) for label in ("kind", "budget", "source", "direction", "mode", "what")
    }


def test_each_recorded_series_has_a_line() -> None:
    names = re.findall(r"^\| `([^`]+)`", section("Recorded"), re.MULTILINE)
    assert names == [rule.name for rule in Rules().recordings]


def test_the_jobs_that_the_page_configures_are_those_that_the_rules_ask_for() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    config = yaml.safe_load(shown)
    jobs = {it["job_name"] for it in config["scrape_configs"]}
    asked = set(re.findall(r'job="([^"]+)"', json.dumps([it.expression for it in Rules().alerts]).replace("\\", "")))
    assert jobs == asked | {"fairqueue-operator"}
    assert all((ROOT / "manifests" / "monitoring" / name).exists() for name in config["rule_files"])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('# HELP a_total How many.\n# TYPE a_total counter\na_total{b="1"} 2\n', id="counter"),
        pytest.param(
            '# HELP a How long.\n# TYPE a histogram\na_bucket{b="1",le="+Inf"} 2\na_sum{b="1"} 2\na_count{b="1"} 2\n',
            id="histogram",
        ),
    ],
)
def test_a_page_of_metrics_is_read_with_full_names_and_without_the_bounds_of_buckets(text: str) -> None:
    (found,) = described(text)
    assert found.name == ("a_total" if "counter" in text else "a")
    assert found.labels == ["b"]
