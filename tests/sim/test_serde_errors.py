"""Errors in bodies are told in serde's words; the recorded ones are in `test_recorded_replies`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_sim.bodies import BodyError, decode_body
from fairqueue_sim.serde_errors import explain
from fairqueue_sim.tgi_requests import ChatRequest, CompletionRequest, GenerateRequest

BODIES = [
    b'{"inputs": "a", "parameters": {"max_new_tokens": 1, "stop": ["x"], "top_p": 0.5, "details": true}}',
    b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "stop": null, "n": 2}',
    b'{"prompt": ["a", "b"], "max_tokens": 4, "stream": true, "logit_bias": {"a": [1, -2.5e3]}}',
]
KINDS = [GenerateRequest, ChatRequest, CompletionRequest]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"inputs": "a",}', "trailing comma at line 1 column 16"),
        ('{"inputs" "a"}', "expected `:` at line 1 column 11"),
        ('{inputs: "a"}', "key must be a string at line 1 column 2"),
        ('{"inputs": nil}', "inputs: expected ident at line 1 column 13"),
        ('{"inputs": t', "inputs: EOF while parsing a value at line 1 column 12"),
        ('{"inputs": "a"', "EOF while parsing an object at line 1 column 14"),
        ('{"inputs": "a', "inputs: EOF while parsing a string at line 1 column 13"),
        ('{"inputs": "a\\x"}', "inputs: invalid escape at line 1 column 15"),
        (
            '{"inputs": "a\n"}',
            "inputs: control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0",
        ),
        ('{"inputs": ?}', "inputs: expected value at line 1 column 12"),
        ('{"inputs": "a"} x', "trailing characters at line 1 column 17"),
        ('{"inputs": "a" "b"}', "expected `,` or `}` at line 1 column 16"),
        ('{"inputs": "a",\n "x": [1 2]}', "x: expected `,` or `]` at line 2 column 10"),
    ],
)
def test_broken_json_is_a_400_with_line_and_column(body: str, words: str) -> None:
    with pytest.raises(BodyError) as error:
        decode_body(body.encode(), GenerateRequest)
    assert (error.value.status, error.value.text) == (400, f"Failed to parse the request body as JSON: {words}")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("[1]", "invalid type: sequence, expected struct GenerateRequest at line 1 column 0"),
        ('{"inputs": true}', "inputs: invalid type: boolean `true`, expected a string at line 1 column 15"),
        ('{"inputs": "a", "parameters": {"top_p": "x"}}', 'parameters.top_p: invalid type: string "x", expected f32'),
        ('{"inputs": "a", "parameters": {"top_k": 1.5}}', "parameters.top_k: invalid type: floating point `1.5`"),
        ('{"inputs": "a", "parameters": {"stop": ["x", 5]}}', "parameters.stop[1]: invalid type: integer `5`"),
    ],
)
def test_the_wrong_type_is_a_422_with_path_and_position(body: str, words: str) -> None:
    with pytest.raises(BodyError) as error:
        decode_body(body.encode(), GenerateRequest)
    assert error.value.status == 422
    assert words in error.value.text


@given(st.sampled_from(list(zip(BODIES, KINDS, strict=True))), st.data())
def test_any_damage_to_a_body_is_explained_without_a_crash(case: tuple[bytes, type], data: st.DataObject) -> None:
    body, kind = case
    position = data.draw(st.integers(0, len(body) - 1))
    damage = data.draw(
        st.sampled_from([b"", b"{", b"}", b"[", b"]", b",", b":", b'"', b"7", b"-", b"n", b"\xff", b"\\"])
    )
    damaged = body[:position] + damage + body[position + data.draw(st.integers(0, 3)) :]
    try:
        decode_body(damaged, kind)
    except BodyError as error:
        status, text = error.status, error.text
    else:
        return
    assert status in (400, 422)
    assert text.startswith("Failed to ")


@pytest.mark.parametrize(("body", "kind"), list(zip(BODIES, KINDS, strict=True)), ids=["native", "chat", "completions"])
def test_a_right_body_has_no_error(body: bytes, kind: type) -> None:
    assert explain(body, kind) is None


@pytest.mark.parametrize(("body", "kind"), list(zip(BODIES, KINDS, strict=True)), ids=["native", "chat", "completions"])
def test_a_body_cut_anywhere_is_no_json(body: bytes, kind: type) -> None:
    for length in range(len(body)):
        error = explain(body[:length], kind)
        assert error is not None, body[:length]
        assert error.is_syntax, body[:length]
