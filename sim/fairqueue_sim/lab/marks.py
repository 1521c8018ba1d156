"""What stands between two marks of a page is written by a command; everything else by hand."""

from collections.abc import Sequence

__all__ = ["between", "line", "replaced", "table"]


def between(text: str, name: str) -> tuple[int, int]:
    """Where the content of a mark begins and ends; raises ValueError if there is none."""
    begin = text.index(f"<!-- {name}: made by ")
    return text.index("-->", begin) + len("-->"), text.index(f"<!-- end of {name} -->")


def replaced(text: str, name: str, content: str) -> str:
    """The text with other content between the marks of that name."""
    before, after = between(text, name)
    return f"{text[:before]}\n{content}\n{text[after:]}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown; all columns but the first are figures."""
    align = ["---", *("---:" for _ in head[1:])]
    return "\n".join(line(cells) for cells in (head, align, *rows))


def line(cells: Sequence[str]) -> str:
    """A row of such a table."""
    return f"| {' | '.join(cells)} |"
