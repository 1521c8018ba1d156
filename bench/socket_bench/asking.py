"""Requests as bytes, drawn from a seed: the n-th that is sent is the same in both halves of a pair.

All clients draw from one source, whoever's turn it is. So it does not matter to the engine's work whose requests an
order of tenants prefers.
"""

import json
from random import Random

from fairqueue_cli.load_prompt import unseen_prompt
from fairqueue_cli.load_spec import Api
from socket_bench.cells import EngineName, Requests

__all__ = ["Asking"]

# In the simulator's tokenizer, such as [[eos=40]]: each bracket, the name, the sign and the number.
MARK_TOKENS = 7


class Asking:
    """The next request for whoever asks."""

    def __init__(self, engine: EngineName, requests: Requests, seed: str) -> None:
        self._engine = engine
        self._requests = requests
        self._random = Random(seed)

    def next(self, key: str, *, begun: bool = False) -> bytes:
        """With the head; `begun`: as much of an output as one that began some time ago would have left.

        With whole outputs all that start together would end together, over and over.
        """
        requests, random = self._requests, self._random
        prompt = random.randint(*requests.prompt_tokens)
        output = random.randint(*requests.output_tokens)
        streamed = random.random() >= requests.plain_share
        left = random.randint(1, output)
        path, body = self._body(prompt, left if begun else output, streamed)
        encoded = json.dumps(body).encode()
        return (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(encoded)}\r\n\r\n"
        ).encode() + encoded

    def _body(self, prompt_tokens: int, output_tokens: int, streamed: bool) -> tuple[str, dict[str, object]]:
        allowed = self._requests.allowed_tokens or output_tokens
        marks = "" if allowed == output_tokens else f"[[eos={output_tokens}]]"
        if self._requests.merge > 1:
            marks += f"[[merge={self._requests.merge}]]"
        api: Api = "tgi" if self._engine == "tgi" else "openai"
        text = unseen_prompt(self._random, api, max(prompt_tokens - MARK_TOKENS * marks.count("[["), 1))
        # The first word of a prompt has no space before it; here it has, which is one token all the same.
        prompt = f"{marks} {text}" if marks else text
        if self._engine == "tgi":
            path = "/generate_stream" if streamed else "/generate"
            return path, {"inputs": prompt, "parameters": {"max_new_tokens": allowed}}
        body: dict[str, object] = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": allowed,
            "stream": streamed,
        }
        if self._engine == "llamacpp":
            body |= {"ignore_eos": True, "temperature": 0}
        return "/v1/chat/completions", body
