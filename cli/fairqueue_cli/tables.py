"""Tables of text for people."""

from collections.abc import Collection, Sequence

from fairqueue_sim.lab.plain_words import printable


def format_table(rows: Sequence[Sequence[str]], words: Collection[int] = (0,)) -> str:
    """Columns as wide as their widest cell; those of `words` flush left, the others flush right. Cells may be names
    from anywhere: each stays on its line."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in shown
    )
