"""What is best among points: Pareto front, hypervolume, knee, and who dominates whom; all objectives are minimised."""

from __future__ import annotations

import numpy as np

from nmsim.errors import ShapeError

BLOCK = 512


def front(objectives: np.ndarray) -> np.ndarray:
    """Whether no other point is at least as good in every objective and better in one; boolean [points].

    `objectives` [points, objectives]; equal points stand or fall together; points with NaN are never on the front.
    """
    table = _checked(objectives)
    good = np.flatnonzero(~np.isnan(table).any(axis=1))
    kept = np.zeros(len(table), dtype=bool)
    if not len(good):
        return kept
    distinct, spread = np.unique(table[good], axis=0, return_inverse=True)
    kept[good] = _front_of_distinct(distinct)[spread.reshape(-1)]
    return kept


def _front_of_distinct(table: np.ndarray) -> np.ndarray:
    """The front of distinct points in lexicographic order, in which none is dominated by a later one."""
    kept = np.zeros(len(table), dtype=bool)
    if table.shape[1] == 1:
        kept[0] = True
        return kept
    if table.shape[1] == 2:
        second = table[:, 1]
        best = np.minimum.accumulate(second)
        kept[0] = True
        kept[1:] = second[1:] < best[:-1]
        return kept
    best_rows = np.empty((0, table.shape[1]))
    for start in range(0, len(table), BLOCK):
        some = table[start : start + BLOCK]
        alive = ~_dominated(some, best_rows)
        rows = np.flatnonzero(alive)
        rows = rows[~_dominated(some[rows], some[rows])]
        kept[start + rows] = True
        best_rows = np.concatenate([best_rows, some[rows]])
    return kept


def _dominated(points: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Whether each point is dominated by one of `by` [points]."""
    found = np.zeros(len(points), dtype=bool)
    for start in range(0, len(by), BLOCK):
        rest = np.flatnonzero(~found)
        other = by[None, start : start + BLOCK]
        mine = points[rest, None]
        worse = (other <= mine).all(axis=2) & np.any(other < mine, axis=2)
        found[rest] = np.any(worse, axis=1)
    return found


def dominated_by(objectives: np.ndarray) -> np.ndarray:
    """For each point how many others dominate it [points]; NaN points are dominated by none and dominate none."""
    table = _checked(objectives)
    counts = np.zeros(len(table), np.int64)
    for start in range(0, len(table), BLOCK):
        mine = table[start : start + BLOCK, None]
        for first in range(0, len(table), BLOCK):
            other = table[None, first : first + BLOCK]
            less = (other <= mine).all(axis=2) & (other < mine).any(axis=2)
            counts[start : start + BLOCK] += less.sum(axis=1)
    return counts


def hypervolume(objectives: np.ndarray, reference: np.ndarray) -> float:
    """The volume that the points dominate below `reference` [objectives].

    By slices along the last objective (Fonseca, Paquete and López-Ibáñez 2006 without their shortcuts): exact, and
    exponential in the number of objectives only.
    """
    table, bound = _checked(objectives), np.asarray(reference, float)
    if bound.shape != (table.shape[1],):
        raise ShapeError(f"the reference has {bound.size} values for {table.shape[1]} objectives")
    table = table[~np.isnan(table).any(axis=1)]
    table = table[(table < bound).all(axis=1)]
    return _volume(table[front(table)], bound) if len(table) else 0.0


def _volume(table: np.ndarray, bound: np.ndarray) -> float:
    if table.shape[1] == 1:
        return float(bound[0] - table.min())
    table = table[np.argsort(table[:, -1], kind="stable")]
    if table.shape[1] == 2:
        best = np.minimum.accumulate(table[:, 0])
        heights = np.diff(np.append(table[:, 1], bound[1]))
        return float(((bound[0] - best) * heights).sum())
    levels = np.append(table[:, -1], bound[-1])
    total = 0.0
    for last in range(len(table)):
        if (height := levels[last + 1] - levels[last]) > 0:
            below = table[: last + 1, :-1]
            total += height * _volume(below[front(below)], bound[:-1])
    return total


def knee(objectives: np.ndarray) -> int:
    """The point of the front nearest to the ideal one, objectives scaled to 0..1 over the front; the first of equals.

    Raises ShapeError where there is no point.
    """
    table = _checked(objectives)
    rows = np.flatnonzero(front(table))
    if not len(rows):
        raise ShapeError("no points to take the knee of")
    best = table[rows]
    low, span = best.min(axis=0), np.ptp(best, axis=0)
    scaled = np.divide(best - low, span, out=np.zeros_like(best), where=span > 0)
    return int(rows[np.argmin((scaled**2).sum(axis=1))])


def _checked(objectives: np.ndarray) -> np.ndarray:
    table = np.asarray(objectives, float)
    if table.ndim != 2 or not table.shape[1]:
        raise ShapeError(f"objectives are an array [points, objectives], not one of shape {table.shape}")
    return table
