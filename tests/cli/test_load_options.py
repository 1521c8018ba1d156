"""What `fairqueue load` takes from the command line, and how it refuses the rest: in one line, before it sends."""

import argparse
import sys
from pathlib import Path

import pytest

from fairqueue_cli import load
from fairqueue_cli.load_options import ClosedLoad, OpenLoad, read_options
from fairqueue_cli.load_spec import SpecError, Stop

TRACE = "arrival_seconds,tenant,prompt_tokens,output_tokens\n0.5,a,10,5\n2.5,b,10,5\n4.5,a,10,5\n"


def options(*arguments: str) -> ClosedLoad | OpenLoad:
    parser = argparse.ArgumentParser()
    load.add_arguments(parser)
    return read_options(parser.parse_args(["--target", "http://h:1", *arguments]))


def open_load(*arguments: str) -> OpenLoad:
    found = options(*arguments)
    assert isinstance(found, OpenLoad)
    return found


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "t.csv"
    path.write_text(TRACE)
    return str(path)


def test_a_workload_goes_out_with_the_papers_seed_at_its_own_speed_through_the_library() -> None:
    found = open_load("--workload", "overload", "--requests", "7")
    assert (found.workload.name, len(found.plan.arrivals), found.plan.speed) == ("overload", 7, 1.0)
    assert (found.plan.plan.client, found.plan.plan.api, found.plan.plan.ignore_eos) == ("library", "openai", False)
    assert open_load("--workload", "overload", "--seed", "42").workload.arrivals[:7] == found.workload.arrivals
    assert open_load("--workload", "overload", "--seed", "3").workload.arrivals[:7] != found.workload.arrivals


def test_a_trace_is_cut_after_the_first_requests(trace: str) -> None:
    found = open_load("--trace", trace, "--requests", "2", "--speed", "4")
    assert [one.tenant for one in found.workload.arrivals] == ["a", "b"]
    assert (found.workload.name, found.workload.seconds, found.plan.speed) == ("t.csv", 2.5, 4.0)


def test_keys_are_those_of_the_folder_and_those_given_go_first(trace: str, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "a").write_text("one\n")
    (tmp_path / "other").write_text("two")
    assert open_load("--trace", trace, "--keys", str(folder)).plan.keys == {"a": "one"}
    given = ("--key", f"a={tmp_path / 'other'}", "--key", f"b={tmp_path / 'other'}")
    found = open_load("--trace", trace, "--keys", str(folder), *given)
    assert found.plan.keys == {"a": "two", "b": "two"}
    assert "two" not in repr(found)


def test_a_tenant_that_is_named_like_a_path_gets_no_key_from_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "a").write_text("one")
    (tmp_path / "secret").write_text("two")
    trace = tmp_path / "t.csv"
    trace.write_text(TRACE.replace(",b,", ",../secret,"))
    assert open_load("--trace", str(trace), "--keys", str(folder)).plan.keys == {"a": "one"}


def test_tenants_are_a_closed_loop_for_half_a_minute() -> None:
    found = options("--tenant", "name=a", "--client", "http")
    assert isinstance(found, ClosedLoad)
    assert (found.stop, found.plan.client, found.plan.seed) == (Stop(duration_seconds=30.0), "http", 0)
    assert isinstance(options("--tenant", "name=a", "--until", "a=3"), ClosedLoad)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "nothing to send: give one of --workload NAME, --trace FILE, --tenant SPEC"),
        ("--workload overload --tenant name=a", "--workload and --tenant: give one of"),
        ("--workload overload --trace t.csv", "--workload and --trace: give one of"),
        ("--workload nonsense", "--workload nonsense: there is no such workload: take one of overload, "),
        ("--trace /no/such.csv", "--trace /no/such.csv: can't be read: No such file"),
        ("--workload overload --speed 0", "--speed 0: must be a number above 0"),
        ("--workload overload --speed -3", "--speed -3: must be a number above 0"),
        ("--workload overload --speed nan", "--speed nan: must be a number above 0"),
        ("--workload overload --requests 0", "--requests 0: must be 1 or more"),
        ("--workload overload --seed -1", "--seed -1: must be 0 or more, at most 4294967295"),
        ("--workload overload --seed 4294967296", "--seed 4294967296: must be 0 or more, at most"),
        ("--workload overload --duration 3", "--duration: only with --tenant"),
        ("--workload overload --until a=3", "--until: only with --tenant"),
        ("--tenant name=a --speed 2", "--speed: only with --workload or --trace"),
        ("--tenant name=a --keys keys", "--keys: only with --workload or --trace"),
        ("--tenant name=a --key a=b", "--key: only with --workload or --trace"),
        ("--tenant name=a --duration 0", "--duration 0: must be a number of seconds above 0"),
        ("--tenant name=a --duration 3 --requests 4", "--duration and --requests: give one of"),
        ("--workload overload --api tgi --ignore-eos", "--ignore-eos: TGI's API has no such field"),
        ("--workload overload --keys /no/such", "--keys /no/such: is no directory"),
        ("--workload overload --keys /", "--keys /: has no file for any of the tenants client-1, client-2"),
        ("--workload overload --key client-1", "--key client-1: write it like --key chat=chat.key"),
        ("--workload overload --key chat=f", "there is no tenant 'chat', only client-1, client-2"),
        ("--workload arena --key chat=f", "only tenant-1, tenant-2, tenant-3, tenant-4, tenant-5 and 22 more"),
        ("--workload overload --key client-1=/no/such", "the file cannot be read: No such file"),
        ("--workload overload --key client-1=FILE --key client-1=FILE", "client-1 has one already"),
        ("--workload overload --key client-2=EMPTY", "the file must hold one key in ASCII and nothing else"),
        ("--workload overload --target ftp://h", "--target ftp://h: not an address"),
    ],
)
def test_bad_input_is_refused_in_one_line_that_says_what_is_allowed(arguments: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sesame")
    (tmp_path / "empty").write_text("")
    words = arguments.replace("FILE", str(tmp_path / "key")).replace("EMPTY", str(tmp_path / "empty")).split()
    with pytest.raises(SpecError) as refusal:
        options(*words)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "sesame" not in str(refusal.value)


@pytest.mark.parametrize("source", ["--workload overload", "--trace t.csv"])
def test_without_numpy_it_says_what_to_install(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fairqueue_sim.lab.workloads", raising=False)
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(SpecError, match=r"needs numpy: pip install 'fairqueue\[lab\]' \(numpy is missing\)"):
        options(*source.split())
    assert isinstance(options("--tenant", "name=a"), ClosedLoad)


def test_the_examples_of_the_help_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secrets" / "keys").mkdir(parents=True)
    (tmp_path / "secrets" / "keys" / "client-1").write_text("sesame")
    (tmp_path / "monday.csv").write_text(TRACE)
    examples = [line.split()[4:] for line in load.HELP.splitlines() if line.startswith("  fairqueue load --target")]
    assert [type(options(*example)) for example in examples] == [OpenLoad, OpenLoad, ClosedLoad]
