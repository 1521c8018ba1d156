"""Texts that must fit into a field of so many bytes."""

_ELLIPSIS = "…"


def fitted(text: str, most_bytes: int) -> str:
    """The text, or as much of it as fits in UTF-8, with an ellipsis at its end."""
    content = text.encode()
    if len(content) <= most_bytes:
        return text
    return content[: most_bytes - len(_ELLIPSIS.encode())].decode(errors="ignore") + _ELLIPSIS
