"""Columns of a table of rows as axes of a plot: checked, with their units, and with the better direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nmsim.errors import UnsupportedError, unknown
from nmsim.report.tables import prefixed, quantity
from nmsim.results.metrics import METRICS
from nmsim.sparsity.pattern import Pattern

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MORE_IS_BETTER = ("accuracy", "speedup", "throughput", "utilization", "intensity")
WIDE = 30.0
"""Ratio of the largest to the smallest value from which on an axis is logarithmic."""

LONG = 1e5
"""A whole number below this is written out."""


def column(rows: pd.DataFrame, name: str) -> pd.Series:
    """The column of that name; raises UnsupportedError listing the nearest, or where the table is empty."""
    if name not in rows.columns:
        raise UnsupportedError(unknown("column", name, map(str, rows.columns)))
    if rows.empty:
        raise UnsupportedError(f"no rows to plot {name!r} of")
    return rows[name]


def numbers(rows: pd.DataFrame, name: str) -> np.ndarray:
    """The values of a column of numbers [rows]; raises UnsupportedError naming the first row (from 0) without one."""
    values = column(rows, name)
    found: list[float] = []
    for i, value in enumerate(values):
        try:
            found.append(float(value))
        except (TypeError, ValueError):
            raise UnsupportedError(f"column {name!r} has no number in row {i}: {str(value)[:40]!r}") from None
        if not np.isfinite(found[-1]):
            raise UnsupportedError(f"column {name!r} has no number in row {i}: {value}")
    return np.array(found)


def words(value: float, name: str) -> str:
    """A value of a column, with the unit of the metric of that name if there is one."""
    if name in METRICS:
        return quantity(value, METRICS[name].unit, 3)
    if float(value).is_integer() and abs(value) < LONG:
        return f"{value:.0f}"
    return prefixed(value, digits=3) if abs(value) >= 1e3 else f"{value:.3g}"


def more_is_better(name: str) -> bool:
    """Whether a larger value of a column of that name is the better one, as far as its name tells."""
    return any(word in name for word in MORE_IS_BETTER)


def set_axis(axes: Axes, which: str, name: str, values: np.ndarray, note: str = "") -> None:
    """Name and scale the `x` or `y` axis: ticks in words, logarithmic where positive values reach far."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    axis = getattr(axes, f"{which}axis")
    axis.set_label_text(f"{name}{note}")
    wide = values.min() > 0 and values.max() > WIDE * values.min()
    axes.set(**{f"{which}scale": "log" if wide else "linear"})
    axis.set_major_locator(LogLocator(numticks=6) if wide else MaxNLocator(5))
    axis.set_major_formatter(lambda value, _: words(value, name))
    axis.set_minor_formatter(NullFormatter())


def categories(values: pd.Series) -> list[object]:
    """The distinct values of a column in the order of an axis: numbers and patterns by size, others as they come.

    Patterns go from dense to sparse, those of one density by the size of their groups.
    """
    distinct = list(dict.fromkeys(values))
    for order in (_as_number, _as_pattern):
        try:
            return sorted(distinct, key=order)
        except (TypeError, ValueError):  # a PatternError is a ValueError
            continue
    return distinct


def pattern_order(text: str) -> tuple[float, int]:
    """Where a pattern stands among others: by density, dense first, then by m."""
    pattern = Pattern.parse(text)
    return -pattern.density, pattern.m


def _as_number(value: object) -> float:
    return float(str(value))


def _as_pattern(value: object) -> tuple[float, int]:
    return pattern_order(str(value))
