"""How engines are told where to listen, and what is not believed, on single containers."""

from typing import Any

import pytest

from fairqueue_operator.injection import Reason
from injection.making import decided, engine_after, injected, made_pod, made_policy

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--port", "1", "--port", "8001"], ["--port", "18001", "--port", "18001", "--host", "127.0.0.1"]),
        (["--port=8001", "--host=::"], ["--port=18001", "--host=127.0.0.1"]),
        (["--model", "a=b"], ["--model", "a=b", "--host", "127.0.0.1", "--port", "18000"]),
        (["--nccl-port", "7000"], ["--nccl-port", "7000", "--host", "127.0.0.1", "--port", "18000"]),
        (["-p", "7000"], ["-p", "7000", "--host", "127.0.0.1", "--port", "18000"]),
    ],
)
def test_options_are_replaced_in_every_place_or_added_once(given: list[str], expected: list[str]) -> None:
    assert engine_after({"args": given}, made_policy())["args"] == expected


@pytest.mark.parametrize(
    ("value", "env"),
    [
        ("$(P)", []),
        ("$(P)", [{"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        ("$(P)", [{"name": "P", "value": "$(Q)"}, {"name": "Q", "value": "8001"}]),
        ("$$(P)", [{"name": "P", "value": "8001"}]),
        ("70000", []),
        ("0", []),
        ("http", []),
        ("", []),
        ("8001" * 3000, []),
        ("\u0668\u0660", []),
    ],
)
def test_a_port_that_cannot_be_known_is_denied_unless_the_policy_says_it(value: str, env: list[Json]) -> None:
    container = {"args": ["--port", value], "env": env}
    assert decided(container, made_policy()).reason is Reason.UNKNOWN_VALUE
    assert engine_after(container, made_policy(engine={"port": 8001}))["args"][:2] == ["--port", "18001"]


def test_a_port_in_a_variable_that_refers_to_another_is_known() -> None:
    env = [{"name": "BASE", "value": "80"}, {"name": "P", "value": "$(BASE)01"}]
    after = injected(made_pod({"args": ["--port", "$(P)"], "env": env}), made_policy())
    assert "0.0.0.0:8001" in after["spec"]["initContainers"][0]["args"]


def test_an_option_without_a_value_is_not_guessed_and_is_given_one() -> None:
    assert decided({"args": ["--port"]}, made_policy()).reason is Reason.UNKNOWN_VALUE
    after = engine_after({"command": ["vllm", "serve", "--port"]}, made_policy(engine={"port": 8001}))
    assert after["args"] == ["18001", "--host", "127.0.0.1"]


def test_a_variable_that_is_there_twice_is_set_twice() -> None:
    env = [{"name": "PORT", "value": "1000"}, {"name": "PORT", "value": "2000"}]
    assert engine_after({"env": env}, made_policy("TGI"))["env"] == [
        {"name": "PORT", "value": "12000"},
        {"name": "PORT", "value": "12000"},
        {"name": "HOSTNAME", "value": "127.0.0.1"},
    ]


@pytest.mark.parametrize(
    "script",
    [
        "true; text-generation-launcher --port 80",
        "true; text-generation-launcher -p80",
        "PORT=80 text-generation-launcher",
        "HOSTNAME=:: text-generation-launcher",
        "env -i text-generation-launcher",
        "source /etc/tgi && text-generation-launcher",
        ". /etc/tgi; text-generation-launcher",
        "/run.sh text-generation-launcher",
        "eval text-generation-launcher",
        "text-generation-launcher `cat /etc/args`",
        'text-generation-launcher "$@"',
        "unset PORT; text-generation-launcher",
        "python serve.py",
    ],
)
def test_a_script_that_may_say_more_than_is_seen_is_denied(script: str) -> None:
    container = {"command": ["/bin/bash", "-c", script], "ports": [{"containerPort": 80}]}
    assert decided(container, made_policy("TGI")).reason is Reason.SHELL_COMMAND


@pytest.mark.parametrize(
    "command",
    [
        ["bash", "/opt/tgi"],
        ["tini", "--", "sh", "-c", "vllm serve a/b"],
        ["/opt/start.sh"],
        ["env", "A=1", "/bin/dash"],
    ],
)
def test_shells_and_script_files_are_seen_behind_wrappers(command: list[str]) -> None:
    container = {"command": command, "ports": [{"containerPort": 80}, {"containerPort": 8000}]}
    for kind in ("TGI", "VLLM"):
        assert decided(container, made_policy(kind)).reason is Reason.SHELL_COMMAND


def test_an_own_listen_stands_before_what_is_known_of_the_kind() -> None:
    listen = {"hostEnv": "BIND", "portEnv": "BIND_PORT"}
    container = {"command": ["/opt/start.sh"], "ports": [{"containerPort": 8000}]}
    after = engine_after(container, made_policy(engine={"listen": listen}))
    assert after["env"] == [{"name": "BIND", "value": "127.0.0.1"}, {"name": "BIND_PORT", "value": "18000"}]
    assert "args" not in after


@pytest.mark.parametrize("listen", [None, {}, {"hostEnv": "H"}, {"portArg": "--port"}, {"hostArg": "--host"}])
def test_an_engine_of_which_half_is_known_is_denied(listen: Json | None) -> None:
    policy = made_policy("OpenAI", engine={"port": 5000, "listen": listen})
    assert decided({"args": ["x"]}, policy).reason is Reason.LISTEN_MISSING


def test_an_engine_of_which_nothing_is_known_can_have_the_proxy_beside_it() -> None:
    policy = made_policy("OpenAI", engine={"port": 5000}, injection={"mode": "SidecarOnly"})
    after = injected(made_pod({}), policy)
    assert after["spec"]["initContainers"][0]["args"][3:9:2] == ["--engine", "--engine-kind", "--listen"]
    assert "args" not in after["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("kind", "container"),
    [
        ("VLLM", {"args": ["--uds", "/run/vllm.sock"]}),
        ("VLLM", {"args": ["--ssl_keyfile=/tls/key"]}),
        ("SGLang", {"args": ["--ssl-certfile", "/tls/crt"]}),
        ("LlamaCpp", {"args": ["--ssl-key-file", "/tls/key"]}),
        ("LlamaCpp", {"env": [{"name": "LLAMA_ARG_SSL_KEY_FILE", "value": "/tls/key"}]}),
    ],
)
def test_engines_that_do_not_speak_plain_http_are_denied_in_either_mode(kind: str, container: Json) -> None:
    for mode in ("PortTakeover", "SidecarOnly"):
        assert decided(container, made_policy(kind, injection={"mode": mode})).reason is Reason.NOT_PLAIN_HTTP


@pytest.mark.parametrize(
    ("kind", "container", "expected"),
    [
        ("VLLM", {"args": ["--max_num_seqs", "8"]}, "8"),
        ("VLLM", {"args": ["--max-num-seqs", "$(N)"], "env": [{"name": "N", "value": "8"}]}, "8"),
        ("VLLM", {"args": ["--max-num-seqs", "$(N)"]}, None),
        ("VLLM", {"args": ["--max-num-seqs=8", "-dp", "2"]}, None),
        ("SGLang", {"args": ["--max-running-requests=8"]}, "8"),
        ("SGLang", {"args": ["--max-running-requests=8", "--dp", "2"]}, None),
        ("LlamaCpp", {"args": ["-np", "8"]}, "8"),
        ("LlamaCpp", {"args": ["--parallel", "-1"]}, None),
        ("LlamaCpp", {"env": [{"name": "LLAMA_ARG_N_PARALLEL", "value": "8"}]}, "8"),
        ("LlamaCpp", {"args": ["-np", "4"], "env": [{"name": "LLAMA_ARG_N_PARALLEL", "value": "8"}]}, "4"),
        ("TGI", {"args": ["--max-concurrent-requests", "8"]}, None),
    ],
)
def test_a_batch_limit_is_passed_on_where_it_is_the_whole_engines(
    kind: str, container: Json, expected: str | None
) -> None:
    arguments = injected(made_pod(container), made_policy(kind))["spec"]["initContainers"][0]["args"]
    assert (arguments[-1] if "--batch-limit" in arguments else None) == expected
