"""Plain-text tables; figures in words come from `nmsim.words`."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from nmsim.words import UNKNOWN, percent, prefixed, quantity

__all__ = [
    "UNKNOWN", "WIDTH", "bar", "csv_text", "last_part", "percent", "prefixed", "printable", "quantity", "shorten",
    "table", "wrap",
]  # fmt: skip

WIDTH = 100
NARROWEST = 16
BAR = 16


def bar(share: float, width: int = BAR) -> str:
    """A bar `width` characters long at share 1; something is always seen of a share that is not nothing."""
    eighths = round(8 * width * min(share, 1.0)) if share > 0 else 0
    full, rest = divmod(max(eighths, int(share > 0)), 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def shorten(text: str, width: int) -> str:
    """`text` cut to `width` characters, in the middle."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def last_part(text: str, width: int) -> str:
    """`text` cut to at most its last `width` characters, at a dot: the end of a layer's name tells most."""
    if len(text) <= width:
        return text
    tail = text[len(text) - width + 1 :]
    return "…" + (tail.partition(".")[2] or tail)


def table(
    rows: Iterable[Sequence[object]], headers: Sequence[str] = (), align: str = "", indent: int = 2, width: int = WIDTH
) -> str:
    """Rows of cells in aligned columns; `align` has an `l` or `r` per column, left where it has none.

    Where a line would be longer than `width`, the widest columns wrap.
    """
    lines = [[printable(str(cell)) for cell in row] for row in rows]
    if headers:
        lines.insert(0, list(headers))
    if not lines:
        return ""
    widths = _fitted([max(map(len, column)) for column in zip(*lines, strict=True)], width - indent)
    if headers:
        lines.insert(1, ["-" * w for w in widths])
    return "\n".join(" " * indent + part for line in lines for part in _line(line, widths, align))


def _fitted(widths: list[int], room: int) -> list[int]:
    """Column widths that fit into `room` with two spaces between them, the widest made narrower."""
    excess = sum(widths) + 2 * (len(widths) - 1) - room
    for _ in range(excess):
        widest = max(range(len(widths)), key=lambda i: (widths[i], i))
        if widths[widest] > NARROWEST:
            widths[widest] -= 1
    return widths


def _line(cells: list[str], widths: list[int], align: str) -> list[str]:
    """The lines of one row: as many as its cells wrap to."""
    columns = []
    for i, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        pad = str.rjust if align[i : i + 1] == "r" else str.ljust
        columns.append([pad(part, width) for part in wrap(cell, width)])
    height = max(map(len, columns))
    full = [column + [" " * len(column[0])] * (height - len(column)) for column in columns]
    return ["  ".join(parts).rstrip() for parts in zip(*full, strict=True)]


def wrap(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` characters; a text that fits is left as it is."""
    return [text] if len(text) <= width else textwrap.wrap(text, width) or [""]


def printable(text: str) -> str:
    """`text` without line breaks and terminal controls."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV, the keys of the first as header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
