"""Prompt sizes before the engine has counted them: text bytes over a learned ratio of bytes per token.

Pure. The ratio is learned for each route's shape from the engine's own counts; a request's charge is always
corrected to the engine's count at the end, so an error here costs order, never exactness.
"""

FIRST_BYTES_PER_TOKEN = 4.0
FADE = 0.98


class BytesPerToken:
    """A fading ratio of sums, kept for each key (the shape of the route)."""

    def __init__(self) -> None:
        self._sums: dict[object, tuple[float, float]] = {}

    def estimate(self, key: object, text_bytes: int) -> int:
        """Tokens in this many bytes of prompt text, at least 1."""
        known_bytes, known_tokens = self._sums.get(key, (FIRST_BYTES_PER_TOKEN, 1.0))
        return max(1, round(text_bytes * known_tokens / known_bytes))

    def learn(self, key: object, text_bytes: int, tokens: int) -> None:
        """The engine counted `tokens` in a prompt of `text_bytes`."""
        if text_bytes <= 0 or tokens <= 0:
            return
        known_bytes, known_tokens = self._sums.get(key, (0.0, 0.0))
        self._sums[key] = known_bytes * FADE + text_bytes, known_tokens * FADE + tokens
