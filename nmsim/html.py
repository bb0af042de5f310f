"""What an object shows of itself in a notebook: a heading and small tables, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

ROWS = 10
"""Rows of a table that are shown at most."""
_CELL = "padding:1px 8px;text-align:{}"


def block(title: str, subtitle: str, *parts: str) -> str:
    """A heading, a line below it, and the parts (HTML) side by side as far as there is room."""
    below = f'<div style="opacity:0.75">{escape(subtitle)}</div>' if subtitle else ""
    shown = "".join(f"<div>{part}</div>" for part in parts if part)
    flow = f'<div style="display:flex;flex-wrap:wrap;gap:4px 28px;align-items:flex-start">{shown}</div>'
    return f'<div style="max-width:60em"><b>{escape(title)}</b>{below}{flow}</div>'


def table(rows: Iterable[Sequence[object]], headers: Sequence[str] = (), align: str = "", caption: str = "") -> str:
    """Rows of cells as an HTML table; `align` has an `l` or `r` per column, left where it has none."""
    head = _row(headers, align, "th") if headers else ""
    body = "".join(_row(row, align, "td") for row in rows)
    title = f'<caption style="text-align:left">{escape(caption)}</caption>' if caption else ""
    return f'<table style="margin:4px 0">{title}{head}{body}</table>' if body else ""


def some(count: int, limit: int = ROWS) -> list[int]:
    """Which of `count` rows to show: all, or the first and the last few."""
    return list(range(count)) if count <= limit else [*range(limit - limit // 3), *range(count - limit // 3, count)]


def gapped(rows: Sequence[Sequence[object]], shown: Sequence[int]) -> list[Sequence[object]]:
    """The rows of these indices with a row of dots where some are left out between two."""
    found: list[Sequence[object]] = []
    for row, index, before in zip(rows, shown, [-1, *shown], strict=False):
        if index > before + 1:
            found.append(["⋮"] * len(row))
        found.append(row)
    return found


def _row(cells: Sequence[object], align: str, tag: str) -> str:
    sides = ["right" if align[i : i + 1] == "r" else "left" for i in range(len(cells))]
    text = "".join(
        f'<{tag} style="{_CELL.format(side)}">{escape(str(cell))}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{text}</tr>"
