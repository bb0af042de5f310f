"""Tables of rows drawn into axes: speed-up against pattern, a scatter with its Pareto front, a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from nmsim.errors import UnsupportedError
from nmsim.report.columns import categories, column, more_is_better, numbers, pattern_order, set_axis, words
from nmsim.report.style import BLACK, GREY, LIGHT, MARKS, SERIES, grid, legend_below
from nmsim.report.tables import shorten
from nmsim.sweeps import pareto

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_SERIES = len(SERIES)
MOST_COLUMNS = 8
"""Columns of a heat map up to which the values are written into its cells."""
NAME_ROOM = 45.0, 10.0
"""Points of width and height that the name of a point takes."""


def draw_speedup(axes: Axes, rows: pd.DataFrame, series: str | None = None) -> Axes:
    """Speed-up against pattern, from dense to sparse; a line per value of the column `series`.

    Rows have `pattern` and `speedup`, and if known `bound`: what it would be if the time fell with the
    multiply-accumulates that the recipe leaves out (a bar across). Raises UnsupportedError for other columns.
    """
    patterns = sorted(dict.fromkeys(map(str, column(rows, "pattern"))), key=pattern_order)
    place = {pattern: i for i, pattern in enumerate(patterns)}
    axes.axhline(1.0, color=GREY, linewidth=0.9, zorder=1)
    for i, (name, part) in enumerate(_series(rows, series).items()):
        at = np.array([place[str(p)] for p in part["pattern"]])
        order, gain = np.argsort(at, kind="stable"), numbers(part, "speedup")
        # Wider below: a line that another covers is still seen.
        axes.plot(
            at[order], gain[order], marker=MARKS[i], color=SERIES[i], label=name, linewidth=max(2.6 - 0.6 * i, 1.0),
            markersize=max(8.0 - i, 4.0),
        )  # fmt: skip
    if "bound" in rows.columns:
        at = np.array([place[str(p)] for p in rows["pattern"]])
        axes.scatter(at, numbers(rows, "bound"), marker="_", s=260, color=BLACK, linewidth=1.6, label="bound", zorder=3)
    axes.set_xticks(range(len(patterns)), patterns)
    axes.set_xlim(-0.5, len(patterns) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("pattern")
    axes.set_ylabel("speed-up over dense")
    grid(axes, "y")
    legend_below(axes, columns=4)
    return axes


def draw_pareto(
    axes: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    series: str | None = None,
    label: str | None = None,
    x_more: bool | None = None,
    y_more: bool | None = None,
) -> Axes:
    """The rows as points over the columns `x` and `y`, those of the Pareto front filled and joined.

    A colour and mark per value of the column `series`; points of the front carry the column `label`. `x_more`,
    `y_more`: whether more is better, by default as the name of the column tells. Raises UnsupportedError for columns
    that are not there or are no numbers.
    """
    values = {name: numbers(rows, name) for name in (x, y)}
    more = {x: more_is_better(x) if x_more is None else x_more, y: more_is_better(y) if y_more is None else y_more}
    front = front_in_order(*(-values[name] if more[name] else values[name] for name in (x, y)))
    for which, name in (("x", x), ("y", y)):
        set_axis(axes, which, name, values[name], f" ({'more' if more[name] else 'less'} is better)")
    axes.step(values[x][front], values[y][front], where="post", color=BLACK, linewidth=1.0, label="front", zorder=2)
    on_front = np.isin(np.arange(len(rows)), front)
    for i, (name, part) in enumerate(_series(rows.assign(_row=range(len(rows))), series).items()):
        at = part["_row"].to_numpy()
        for chosen, filled in ((at[~on_front[at]], False), (at[on_front[at]], True)):
            axes.scatter(
                values[x][chosen], values[y][chosen], marker=MARKS[i], s=34, zorder=3 + filled, linewidth=0.9,
                edgecolor=SERIES[i], facecolor=SERIES[i] if filled else "none",
            )  # fmt: skip
        if name:
            axes.scatter([], [], marker=MARKS[i], s=34, color=SERIES[i], label=name)
    axes.margins(0.12)
    if label is not None:
        _name_points(axes, values[x][front], values[y][front], [str(column(rows, label).iloc[i]) for i in front])
    grid(axes)
    legend_below(axes, "filled: on the front", columns=5)
    return axes


def draw_heatmap(axes: Axes, rows: pd.DataFrame, x: str, y: str, value: str) -> Axes:
    """The column `value` over the columns `x` and `y`, a cell per row of the table; grey where there is no row.

    Raises UnsupportedError where two rows fall into one cell: a heat map has two axes, the rest must be fixed.
    """
    xs, ys, found = categories(column(rows, x)), categories(column(rows, y)), numbers(rows, value)
    cells = np.full((len(ys), len(xs)), np.nan)
    taken: dict[tuple[int, int], int] = {}
    for i, place in enumerate(zip(map(ys.index, rows[y]), map(xs.index, rows[x]), strict=True)):
        if place in taken:
            raise UnsupportedError(
                f"rows {taken[place]} and {i} both have {x} {rows[x].iloc[i]} and {y} {rows[y].iloc[i]}: keep the rows "
                f"of one case{_varying(rows, (x, y, value))}"
            )
        taken[place] = i
        cells[place] = found[i]
    axes.set_facecolor(LIGHT)
    image = axes.pcolormesh(np.arange(len(xs) + 1), np.arange(len(ys) + 1), cells, cmap="cividis")
    if cells.shape[1] <= MOST_COLUMNS:
        _write_cells(axes, cells, value)
    for axis, name, entries in ((axes.xaxis, x, xs), (axes.yaxis, y, ys)):
        step = -(-len(entries) // 16)
        axis.set_ticks([i + 0.5 for i in range(0, len(entries), step)], [_tick(e, name) for e in entries[::step]])
        axis.set_label_text(name)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(
        image, ax=axes, label=value, pad=0.02, ticks=MaxNLocator(6), format=lambda v, _: words(v, value)
    )
    bar.outline.set_visible(False)
    return axes


def _series(rows: pd.DataFrame, name: str | None) -> dict[str, pd.DataFrame]:
    """The rows by the value of a column; all of them, without a name, where there is no column."""
    if name is None:
        return {"": rows}
    values = categories(column(rows, name))
    if len(values) > MOST_SERIES:
        raise UnsupportedError(f"{name!r} has {len(values)} values; a plot can tell {MOST_SERIES} series apart")
    return {str(value): rows[rows[name] == value] for value in values}


def _name_points(axes: Axes, x: np.ndarray, y: np.ndarray, names: list[str]) -> None:
    """Names at the points, in their order, as far as one does not come to lie on another."""
    places = axes.transData.transform(np.column_stack([x, y])) * 72 / axes.figure.dpi
    free: list[np.ndarray] = []
    for place, name, at in zip(places, names, zip(x, y, strict=True), strict=True):
        if all(abs(place[0] - p[0]) > NAME_ROOM[0] or abs(place[1] - p[1]) > NAME_ROOM[1] for p in free):
            free.append(place)
            axes.annotate(shorten(name, 18), at, (5, 4), textcoords="offset points", fontsize=7.5, zorder=5)


def _write_cells(axes: Axes, cells: np.ndarray, name: str) -> None:
    """The value in each cell, light on dark and dark on light."""
    low, high = np.nanmin(cells), np.nanmax(cells)
    for (i, j), value in np.ndenumerate(cells):
        if np.isfinite(value):
            dark = high > low and (value - low) / (high - low) < 0.55
            colour = "white" if dark else BLACK
            axes.text(j + 0.5, i + 0.5, words(value, name), ha="center", va="center", fontsize=7.5, color=colour)


def _tick(entry: object, name: str) -> str:
    return words(float(entry), name) if isinstance(entry, int | float | np.number) else shorten(str(entry), 14)


def _varying(rows: pd.DataFrame, used: tuple[str, ...]) -> str:
    """Which other columns differ between rows, to be fixed first: inputs have few values, figures many."""
    values = {str(name): rows[name].nunique() for name in rows.columns if name not in used}
    other = sorted((name for name, found in values.items() if found > 1), key=values.__getitem__)
    return f"; these columns differ too: {', '.join(other[:4])}" if other else ""


def front_in_order(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the points on the front, where less is better in both, in order of x; of equal points the first."""
    table, first = np.unique(np.column_stack([x, y]), axis=0, return_index=True)
    return first[pareto.front(table)]
