"""`fairqueue simulate` as its users call it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairqueue_cli.main import main

TRACE = "arrival_seconds,tenant,prompt_tokens,output_tokens\n" + "".join(
    f"{number / 10},{'flood' if number % 4 else 'chat'},50,40\n" for number in range(200)
)
POLICY = """
apiVersion: fairqueue.dev/v1alpha1
kind: FairnessPolicy
metadata: {name: p, namespace: n}
spec:
  selector: {matchLabels: {app: llm}}
  engine: {kind: TGI}
  queue: {maxRequestsPerTenant: 5}
  tenants:
  - {name: chat, weight: 3, apiKeySecretRefs: [{name: keys, key: chat}]}
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "monday.csv"
    path.write_text(TRACE)
    return path


def simulate(*options: str | Path) -> int:
    return main(["simulate", *map(str, options)])


def result_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out = json.loads(capsys.readouterr().out)
    assert isinstance(out, dict)
    return out


def test_a_workload_is_run_under_fcfs_vtc_and_the_product(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--workload", "overload", "--requests", "40") == 0
    out, err = capsys.readouterr()
    assert "overload: 40 requests of 2 tenants on a10g-llama2-7b (lightllm batching)" in out
    for scheduler in ("fcfs", "vtc", "fairqueue"):
        assert f"\n{scheduler}:\n" in out
    assert err == ""


def test_json_has_the_shape_of_all_results_and_the_same_bytes_each_time(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for _ in range(2):
        assert simulate("--trace", trace, "--scheduler", "fairqueue", "--scheduler", "rpm:20", "--json") == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    result = json.loads(texts[0])
    assert result["workload"] == "monday.csv"
    assert result["model_profile"] == "a10g-llama2-7b"
    product, rpm = result["runs"]
    assert (product["scheduler"], rpm["scheduler"]) == ("fairqueue", "rpm:20")
    assert set(product) >= {
        "throughput_tokens_per_second",
        "service_difference",
        "jain_index",
        "gap",
        "engine_waiting",
        "tenants",
    }
    assert set(product["service_difference"]) == {"max", "avg", "var"}
    assert set(product["gap"]) == {"max", "bound", "violations"}
    assert set(product["engine_waiting"]) == {"p50", "p95", "max"}
    assert rpm["gap"] is rpm["engine_waiting"] is None
    assert rpm["refusals"] == {"rate": 160}
    chat = product["tenants"][0]
    assert (chat["name"], chat["requests"], chat["completed"]) == ("chat", 50, 50)
    assert chat["service"] == 50 * (50 + 2 * 40)
    assert set(chat["ttft_seconds"]) == {"mean", "p50", "p90", "p99", "max"}


def test_policies_are_compared_on_a_trace_and_unknown_tenants_are_warned_of(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(POLICY)
    other.write_text(POLICY + "  - {name: flood, apiKeySecretRefs: [{name: keys, key: flood}]}\n")
    assert simulate("--trace", trace, "--policy", one, "--policy", other, "--slots", "4", "--json") == 0
    out, err = capsys.readouterr()
    assert err == f"fairqueue simulate: {one} has no tenant flood: their requests are refused\n"
    first, second = json.loads(out)["runs"]
    assert (first["scheduler"], second["scheduler"]) == (str(one), str(other))
    assert first["refusals"]["unauthenticated"] == 150
    assert second["refusals"]["tenant_queue_full"] > 0
    assert [tenant["weight"] for tenant in second["tenants"]] == [3, 1]


def test_the_engine_may_be_another(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    throughput = []
    for options in ((), ("--slots", "2"), ("--engine", "vllm"), ("--model-profile", "a10g-llama2-7b-vllm")):
        assert simulate("--trace", trace, "--scheduler", "fcfs", "--json", *options) == 0
        throughput.append(result_of(capsys)["runs"][0]["throughput_tokens_per_second"])
    whole, two_slots, vllm, profile = throughput
    assert two_slots < whole / 2
    assert vllm == profile != whole


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--workload", "overlord"), "--workload overlord: there is no such workload: take one of overload, "),
        (
            ("--workload", "overload", "--scheduler", "best"),
            "--scheduler best: there is no such scheduler: take one of ",
        ),
        (
            ("--workload", "overload", "--model-profile", "h100"),
            "--model-profile h100: there is no such profile: take ",
        ),
        (("--workload", "overload", "--engine", "ollama"), "--engine ollama: there are no such rules: take one of "),
        (("--workload", "overload", "--kv-tokens", "5"), "--kv-tokens 5: must be a whole number from 64 to "),
        (("--workload", "overload", "--seed", "-1"), "--seed -1: must be a whole number from 0 to "),
        (("--workload", "overload", "--requests", "0"), "--requests 0: must be a whole number from 1 to "),
        (("--workload", "overload", "--plot", "x.jpg"), "--plot x.jpg: must end in .png"),
        (("--workload", "overload", "--report", "no/x.html"), "--report no/x.html: there is no such directory"),
        (("--workload", "overload", "--scheduler", "vtc", "--scheduler", "vtc"), "--scheduler vtc: is given twice"),
        (("--workload", "overload", "--policy", "gone.yaml"), "--policy gone.yaml"),
        (("--trace", "gone.csv"), "gone.csv: can't be read: No such file or directory"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(*options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fairqueue simulate: {said}")
    assert err.count("\n") == 1


def test_a_bad_line_of_a_trace_is_named(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace.write_text(TRACE + "99,chat,50,-4\n")
    assert simulate("--trace", trace) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"fairqueue simulate: {trace}:202: output_tokens must be a whole number from 0 to 1000000")


def test_pictures_and_a_page_are_written(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot, report = tmp_path / "a.png", tmp_path / "a.html"
    assert simulate("--trace", trace, "--scheduler", "fcfs", "--plot", plot, "--report", report) == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "<html" in report.read_text()


def test_a_picture_where_a_directory_is_is_refused(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").mkdir()
    assert simulate("--trace", trace, "--scheduler", "fcfs", "--plot", tmp_path / "a.png") == 2
    assert capsys.readouterr().err.endswith("a.png: can't be written: Is a directory: choose another file\n")


def test_without_what_the_lab_needs_it_says_what_to_install(trace: Path) -> None:
    program = (
        "import sys; sys.modules['numpy'] = None\nfrom fairqueue_cli.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "simulate", "--trace", str(trace)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("fairqueue simulate: needs numpy, matplotlib and rich: pip install 'fairqueue[lab]'")
    assert done.stderr.count("\n") == 1


def test_names_of_tenants_stay_on_their_line(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace.write_text(TRACE + '99,"two\nlines",5,5\n99,\x1b[31mred,5,5\n', encoding="utf-8")
    assert simulate("--trace", trace, "--scheduler", "fcfs") == 0
    out = capsys.readouterr().out
    assert "  two\N{REPLACEMENT CHARACTER}lines  " in out
    assert "\x1b" not in out


def test_a_policy_that_only_observes_is_shown_as_if_it_enforced_with_a_warning(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY + "  - {name: flood, apiKeySecretRefs: [{name: keys, key: flood}]}\n  mode: Observe\n")
    assert simulate("--trace", trace, "--policy", path) == 0
    said = "only observes, which would change nothing: shown is what it would do if it enforced"
    assert capsys.readouterr().err == f"fairqueue simulate: {path} {said}\n"


def test_whoever_reads_the_output_may_go(trace: Path) -> None:
    program = "import sys\nfrom fairqueue_cli.main import main\nsys.exit(main(sys.argv[1:]))"
    options = ["simulate", "--trace", str(trace), "--scheduler", "fcfs"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141
