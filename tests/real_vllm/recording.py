"""Keeps what passed as golden files, in the form that those in tests/data/vllm have."""

import json
import re
from pathlib import Path
from typing import Any

from real_vllm.cases import Case
from real_vllm.server import OPTIONS
from real_vllm.tap import Headers, Tapped

FOLDER = Path(__file__).parents[1] / "data" / "vllm"
PREFIX = "13-"

ALONE, ASKED = "the client alone", "as the proxy asks"

_ROW = re.compile(r'"<(\d+)>"')
_PORT = re.compile(r"127\.0\.0\.1:\d+")


def record(kind: str, case: Case, seen: list[tuple[str, Tapped]], counted: tuple[int, int]) -> None:
    """`counted`: prompt and output tokens by vLLM's own counters, for the last exchange."""
    rows: list[str] = []
    whole = {
        "case": PREFIX + case.name,
        "description": "a request as its client sends it, and as the proxy does if it asks for more",
        "route": case.path,
        "server_options": f"{OPTIONS[kind]}, KV 1 GiB; random 0.2 M Llama, vocabulary 1024",
        "exchanges": [{"label": label, **_exchange(each, rows)} for label, each in seen],
        "engine_counted": dict(zip(("prompt_tokens", "output_tokens"), counted, strict=True)),
        "notes": "",
    }
    text = json.dumps(whole, indent=1, ensure_ascii=False)
    text = _ROW.sub(lambda found: rows[int(found[1])], text)
    (FOLDER / f"{PREFIX}{case.name}.json").write_text(f"{text}\n")


def _exchange(tapped: Tapped, rows: list[str]) -> dict[str, Any]:
    def row(value: Any) -> str:
        """A value that is to stand on one line."""
        rows.append(json.dumps(value, ensure_ascii=False))
        return f"<{len(rows) - 1}>"

    framing = "chunked" if ("transfer-encoding", "chunked") in tapped.reply_headers else "content-length"
    response: dict[str, Any] = {
        "status": tapped.status,
        "reason": tapped.reason,
        "version": "HTTP/1.1",
        "headers_at": tapped.headers_at,
        "headers": row(tapped.reply_headers),
        "framing": framing,
        "chunks": [row([at, chunk.decode()]) for at, chunk in tapped.chunks],
        "end_at": tapped.end_at,
    }
    if tapped.closed_at is not None:
        response |= {"closed": "client closed", "closed_at": tapped.closed_at}
    request = {
        "method": tapped.method,
        "path": tapped.path,
        "headers": row(_scrubbed(tapped.headers)),
        "body": tapped.body.decode(),
        "sent_at": 0.0,
    }
    return {"request": request, "response": response}


def _scrubbed(headers: Headers) -> list[list[str]]:
    return [[name, _PORT.sub("127.0.0.1:PORT", value)] for name, value in headers]
