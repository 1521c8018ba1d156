"""What the client reads off one event stream, from bytes that real engines sent and from constructed ones."""

import json
from pathlib import Path

import pytest

from fairqueue_cli.load_reply import Outcome, Reply
from fairqueue_cli.load_spec import Api
from fairqueue_cli.load_stream import StreamMeter

DATA = Path(__file__).parent.parent / "data"


def recorded(case: str) -> list[tuple[float, bytes]]:
    """The chunks of a recorded reply with the seconds at which they came."""
    chunks = json.loads((DATA / f"{case}.json").read_text())["response"]["chunks"]
    return [(float(seconds), text.encode()) for seconds, text in chunks]


def read(api: Api, chunks: list[tuple[float, bytes]]) -> Reply:
    reply = Reply(sent_at=0.0, ended_at=0.0)
    meter = StreamMeter(api, reply)
    for seconds, data in chunks:
        meter.feed(data, seconds)
    meter.close()
    return reply


def read_text(api: Api, text: str) -> Reply:
    return read(api, [(1.0, text.encode())])


def chat(text: str | None, **extra: object) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}], **extra})}\n\n"


@pytest.mark.parametrize(
    ("api", "case", "prompt_tokens", "output_tokens", "first_token_at"),
    [
        pytest.param("openai", "llamacpp/01-chat-stream-usage", 41, 12, 0.0102, id="llama.cpp"),
        pytest.param("openai", "tgi/04-chat-stream-usage", 20, 4, 0.0244, id="TGI chat"),
        pytest.param("tgi", "tgi/03-stream-details", 6, 5, 0.0235, id="TGI generate"),
    ],
)
def test_a_recorded_stream_gives_the_engines_own_counts(
    api: Api, case: str, prompt_tokens: int, output_tokens: int, first_token_at: float
) -> None:
    reply = read(api, recorded(case))
    assert (reply.prompt_tokens, reply.output_tokens) == (prompt_tokens, output_tokens)
    assert reply.first_token_at == first_token_at
    assert reply.outcome is Outcome.COMPLETED


def test_where_bytes_are_cut_does_not_matter() -> None:
    whole = b"".join(data for _, data in recorded("llamacpp/01-chat-stream-usage"))
    in_one = read("openai", [(1.0, whole)])
    assert read("openai", [(1.0, whole[at : at + 1]) for at in range(len(whole))]) == in_one


def test_an_event_with_a_role_and_no_content_is_no_token() -> None:
    reply = read("openai", [(1.0, chat(None).encode()), (2.0, chat("").encode()), (3.0, chat("Hi").encode())])
    assert (reply.first_token_at, reply.output_tokens) == (3.0, 1)


def test_without_a_final_count_the_events_are_counted() -> None:
    reply = read_text("openai", chat("a") + chat("b") + "data: [DONE]\n\n")
    assert (reply.output_tokens, reply.prompt_tokens) == (2, None)


def test_a_final_count_replaces_the_count_of_events() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 5}
    assert read_text("openai", chat("several tokens at once", usage=usage) + "data: [DONE]\n\n").output_tokens == 5


def test_a_finish_reason_ends_a_stream_that_has_no_done() -> None:
    event = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    assert read_text("openai", chat("a") + f"data: {json.dumps(event)}\n\n").outcome is Outcome.COMPLETED


@pytest.mark.parametrize("comment", [":\n\n", ": ping\r\n\r\n", "event: x\n"])
def test_comments_and_other_fields_are_passed_over(comment: str) -> None:
    reply = read_text("openai", comment + chat("a") + comment + "data:[DONE]\r\n\r\n")
    assert (reply.outcome, reply.output_tokens) == (Outcome.COMPLETED, 1)


@pytest.mark.parametrize(
    ("api", "event", "detail"),
    [
        ("openai", '{"error": {"message": "busy", "code": 503}}', "503 in the stream"),
        ("openai", '{"error":{"message":"m","http_status_code":422}}', "422 in the stream"),
        ("openai", '{"error":"out of memory"}', "error in the stream"),
        ("tgi", '{"error":"Model is overloaded","error_type":"overloaded"}', "overloaded in the stream"),
        ("openai", '{"choices":', "unreadable event in the stream"),
    ],
)
def test_an_error_event_before_any_token_is_a_refusal(api: Api, event: str, detail: str) -> None:
    reply = read_text(api, f"data: {event}\n\ndata: [DONE]\n\n")
    assert (reply.outcome, reply.detail) == (Outcome.REFUSED, detail)


def test_an_error_event_after_a_token_is_a_failure_that_keeps_its_tokens() -> None:
    reply = read_text("openai", chat("a") + 'data: {"error":{"code":500}}\n\ndata: [DONE]\n\n')
    assert (reply.outcome, reply.detail, reply.output_tokens) == (Outcome.FAILED, "500 in the stream", 1)


def test_a_stream_that_breaks_off_is_a_failure() -> None:
    reply = read_text("openai", chat("a"))
    assert (reply.outcome, reply.detail) == (Outcome.FAILED, "stream broke off")


def test_an_answer_that_is_no_event_stream_is_a_failure() -> None:
    reply = read_text("openai", '{"choices": []}')
    assert (reply.outcome, reply.detail) == (Outcome.FAILED, "no event stream")
