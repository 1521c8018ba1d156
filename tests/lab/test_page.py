"""The report: one file that explains itself, with nothing of elsewhere in it and nothing that runs."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec import json as msgspec_json
from msgspec import structs

from fairqueue_sim.lab import page
from fairqueue_sim.lab.page import write_page
from fairqueue_sim.lab.result import GapResult, Result
from fairqueue_sim.lab.trace import Arrival
from fairqueue_sim.lab.workloads import Workload
from lab.compared import Runs, compare, workload_of

VOID = {"meta", "link", "img", "br", "hr", "input"}
EVIL = "<script>alert('x')</script>&\"quote"


class Page(HTMLParser):
    """What a browser makes of it, as far as the tests need it. Fails if elements don't nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.pre = ""
        self.terms: dict[str, str] = {}
        self._open: list[str] = []
        self._term = ""
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "dt":
            self._term = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif inside == "pre":
            self.pre += data
        elif inside == "dt":
            self._term += data
        elif inside == "dd":
            self.terms[self._term] = self.terms.get(self._term, "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(path: Path, workload: Workload, runs: Runs, machine: str = "tiny", seed: int | None = None) -> str:
    write_page(path / "out.html", workload, machine, runs, seed=seed)
    return (path / "out.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def workload() -> Workload:
    return workload_of({"flood": 100, "modest": 3}, name="two_sorts", weights={"modest": 3})


@pytest.fixture(scope="module")
def runs(workload: Workload) -> Runs:
    return compare(workload)


@pytest.fixture(scope="module")
def text(workload: Workload, runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("page"), workload, runs, seed=42)


@pytest.fixture(scope="module")
def shown(text: str) -> Page:
    return Page(text)


def test_what_was_simulated_is_told_in_words(shown: Page) -> None:
    told = {term: shown.terms[term] for term in list(shown.terms)[:7]}
    assert told == {
        "Workload": "two_sorts",
        "Requests": "103 requests within 2 s, 3,090 tokens of prompts, 2,060 of outputs",
        "Tenants": "2: flood (100 requests) asks for most, modest (3 requests) for least",
        "Weights": "modest 3; who is not named has 1. A weight of 2 is entitled to twice as much",
        "Machine": "tiny: no real machine: one millisecond a step, for tests",
        "Seed": "42: the same seed gives the same requests",
        "Judged": "the first 2 s; what is left then is worked off",
    }


def test_a_trace_has_no_seed_and_a_machine_may_be_any(tmp_path: Path) -> None:
    workload = workload_of({"alone": 1}, name="monday.csv")
    told = Page(written(tmp_path, workload, compare(workload, ["fcfs"]), machine="ours <3")).terms
    assert told["Workload"] == "monday.csv"
    assert "Seed" not in told
    assert told["Machine"] == "ours <3"
    assert told["Tenants"] == "1"
    assert told["Weights"] == "all alike: everybody is entitled to the same"


def test_the_table_has_each_schedulers_figures(shown: Page, runs: Runs) -> None:
    head, *rows = shown.tables[0]
    assert head[0] == "Scheduler"
    assert [row[0] for row in rows] == ["fcfs", "vtc"]
    for row, (_, run) in zip(rows, runs, strict=True):
        it = run.result
        assert it.service_difference is not None
        assert it.light_tenants is not None
        assert it.light_tenants.ttft_seconds.mean is not None
        told = dict(zip(head, row, strict=True))
        assert told["Unfairness"] == f"{it.service_difference.avg:,.1f} (at most {it.service_difference.max:,.1f})"
        assert told["Tokens per second"] == f"{it.throughput_tokens_per_second:,.0f}"
        assert told["Wait of light tenants"].startswith(f"{it.light_tenants.ttft_seconds.mean:.3g} s (p99 ")
        assert told["Evenness"] == (page.ABSENT if it.jain_index is None else f"{it.jain_index:.3f}")
        assert told["Refused"] == "0"
    assert rows[0][5] == page.ABSENT
    assert re.fullmatch(r"[\d,]+ of [\d,]+", rows[1][5])


def test_evenness_is_told_where_two_always_wait(tmp_path: Path) -> None:
    workload = workload_of({"one": 200, "two": 100})
    runs = compare(workload, ["fcfs"])
    index = runs[0][1].result.jain_index
    assert index is not None
    assert index < 0.97
    assert Page(written(tmp_path, workload, runs)).tables[0][1][2] == f"{index:.3f}"


def test_each_column_is_explained(shown: Page) -> None:
    for heading in shown.tables[0][0][1:]:
        assert len(shown.terms[heading]) > 40, heading


def test_each_schedulers_tenants_are_folded_away(shown: Page, runs: Runs) -> None:
    assert len(shown.all("details")) == len(runs) + 1
    for table, (_, run) in zip(shown.tables[1:], runs, strict=True):
        assert [row[:4] for row in table[1:]] == [
            ["flood", "1", "100", str(run.result.tenants[0].completed)],
            ["modest", "3", "3", "3"],
        ]
        ttft = run.result.tenants[0].ttft_seconds
        assert table[1][8:] == [f"{it:.3g} s" for it in (ttft.mean, ttft.p50, ttft.p90, ttft.max)]


def test_machines_find_the_result_as_json(shown: Page, runs: Runs) -> None:
    assert msgspec_json.decode(shown.pre, type=Result) == Result(
        "two_sorts", "tiny", tuple(it.result for _, it in runs)
    )


def test_the_picture_is_part_of_the_page(shown: Page, text: str) -> None:
    [svg] = shown.all("svg")
    assert svg["role"] == "img"
    assert str(svg["aria-label"]).startswith(
        "Service, speed and waits of tenants over time, side by side for fcfs, vtc."
    )
    assert svg["viewbox"]
    assert "width" not in svg
    assert ">modest, weight 3, 3 requests</text>" in text


@pytest.mark.long
def test_a_heavy_picture_becomes_a_png(
    workload: Workload, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "LARGEST_SVG_BYTES", 1000)
    shown = Page(written(tmp_path, workload, runs[:1]))
    [image] = shown.all("img")
    assert str(image["src"]).startswith("data:image/png;base64,iVBORw0KGgo")
    assert image["alt"]
    assert not shown.all("svg")


def test_nothing_runs_and_nothing_is_loaded(shown: Page, text: str) -> None:
    assert not re.search(r"https?:|//\w|<script|<link|<iframe|@import|javascript:", text)
    for tag, attributes in shown.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#"), tag
    policies = [it["content"] for it in shown.all("meta") if it.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert set(re.findall(r"url\((.)", text)) <= {"#"}


def test_names_from_a_trace_are_text_and_never_markup(tmp_path: Path) -> None:
    arrivals = [Arrival(0.1, EVIL, 30, 20, 20), Arrival(0.2, "a\u202eb\x07", 30, 20, 20)]
    workload = Workload(EVIL, arrivals, 1.0, {EVIL: 2}, "tiny")
    runs = [(EVIL, run) for _, run in compare(workload, ["fcfs"])]
    text = written(tmp_path, workload, runs, machine=EVIL)
    assert "<script" not in text
    shown = Page(text)
    assert shown.terms["Workload"] == shown.terms["Machine"] == EVIL
    assert shown.tables[0][1][0] == EVIL
    assert [row[0] for row in shown.tables[1][1:]] == [EVIL, "a\ufffdb\ufffd"]
    assert json.loads(shown.pre)["runs"][0]["tenants"][0]["name"] == EVIL


def test_templates_in_names_are_left_alone(tmp_path: Path) -> None:
    workload = workload_of({"$json $$ ${name}": 2}, name="$picture")
    shown = Page(written(tmp_path, workload, compare(workload, ["fcfs"])))
    assert shown.terms["Workload"] == "$picture"
    assert shown.tables[1][1][0] == "$json $$ ${name}"


def test_it_can_be_read_aloud(shown: Page) -> None:
    assert shown.all("html") == [{"lang": "en"}]
    assert {it.get("scope") for it in shown.all("th")} == {"col", "row"}
    assert len(shown.all("caption")) == len(shown.tables)
    headings = [tag for tag, _ in shown.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}
    ids = [it["id"] for _, it in shown.elements if "id" in it]
    assert len(ids) == len(set(ids))
    # What scrolls can be reached with the keyboard.
    assert all(it["tabindex"] == "0" and it["aria-label"] for it in shown.all("div") if it.get("class") == "wide")


def test_it_suits_dark_screens_phones_and_paper(text: str) -> None:
    for part in ("prefers-color-scheme: dark", 'name="viewport"', "@media print", "max-width: 36rem"):
        assert part in text


def test_refusals_are_counted_by_reason_and_figures_that_do_not_exist_are_dashes(tmp_path: Path) -> None:
    workload = workload_of({"one": 2, "two": 2})
    shown = Page(written(tmp_path, workload, compare(workload, ["fcfs"], kv_tokens=16)))
    assert shown.tables[0][1] == ["fcfs", page.ABSENT, page.ABSENT, "0", page.ABSENT, page.ABSENT, "4 (too_large 4)"]
    assert shown.tables[1][1] == [
        "one",
        "1",
        "2",
        "0",
        "2",
        "0",
        "0",
        "0",
        page.ABSENT,
        page.ABSENT,
        page.ABSENT,
        page.ABSENT,
    ]


def test_a_broken_promise_is_told(workload: Workload, runs: Runs, tmp_path: Path) -> None:
    run = runs[1][1]
    broken = replace(run, result=structs.replace(run.result, gap=GapResult(12345.6, 100.2, 2)))
    shown = Page(written(tmp_path, workload, [("vtc", broken)]))
    assert shown.tables[0][1][5] == "12,346 of 100, broken 2 times"


def test_many_weights_are_left_to_the_tables(tmp_path: Path) -> None:
    names = [f"tenant-{number}" for number in range(13)]
    workload = workload_of(dict.fromkeys(names, 1), weights=dict.fromkeys(names, 2))
    told = Page(written(tmp_path, workload, compare(workload, ["fcfs"]))).terms
    assert told["Weights"] == "13 tenants have another weight than 1: see the tables of tenants"


def test_the_same_input_gives_the_same_bytes(workload: Workload, runs: Runs, text: str, tmp_path: Path) -> None:
    assert written(tmp_path, workload, runs, seed=42) == text


def test_a_path_that_cannot_be_written_is_an_oserror_that_names_it(tmp_path: Path) -> None:
    workload = workload_of({"alone": 1})
    with pytest.raises(IsADirectoryError) as raised:
        write_page(tmp_path, workload, "tiny", compare(workload, ["fcfs"]))
    assert raised.value.filename == str(tmp_path)
