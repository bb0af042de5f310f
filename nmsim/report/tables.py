"""Plain-text tables, and figures written with the unit that keeps them short."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from nmsim.units import format_quantity

WIDTH = 100
NARROWEST = 16
BAR = 16
UNKNOWN = "unknown"

_DIMENSIONS = {"s": "time", "J": "energy", "W": "power", "B": "size", "Hz": "frequency"}
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
_HOUR = 3600.0
_LONG = 1e4  # seconds from which on a time is given in hours


def quantity(value: float, unit: str, digits: int = 4) -> str:
    """`value` in words, as "2.589 s", "262 GMAC/s" or, for the unit "1", "67.1 %"; "unknown" for NaN.

    Times from 10,000 s are given in hours; counts ("cycles") without the word, which the row's name has.
    """
    if not math.isfinite(value):
        return UNKNOWN
    if unit == "1":
        return percent(value)
    if unit == "s" and value >= _LONG:
        return f"{value / _HOUR:,.{_decimals(value / _HOUR, digits)}f} h"
    if unit in _DIMENSIONS and not (unit == "J" and value >= 1000):
        return format_quantity(value, _DIMENSIONS[unit], digits)
    return prefixed(value, "" if unit == "cycles" else unit, digits)


def prefixed(value: float, unit: str = "", digits: int = 4) -> str:
    """`value` with an SI prefix on its unit, as "356 GMAC"."""
    rounded = abs(float(f"{value:.{digits}g}"))
    step = min(int(math.log10(rounded) / 3 + 1e-9), len(_PREFIXES) - 1) if rounded >= 1 else 0
    return f"{value / 1000**step:.{digits}g} {_PREFIXES[step]}{unit}".rstrip()


def percent(share: float) -> str:
    """A share as "13.2 %"; "<0.1 %" for what would round to nothing."""
    if not math.isfinite(share):
        return UNKNOWN
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


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


def _decimals(value: float, digits: int) -> int:
    return max(digits - 1 - int(math.log10(value)), 0)
