"""Tiles with n kept in every row and column, and how exchanges make them better until they are the best."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from nmsim.sparsity.groups import Array, Mask

Places = NDArray[np.int64]


@dataclass
class Tiles:
    """Masks [m, m, tiles] that change one exchange at a time, and what leaving and entering a place costs."""

    sizes: Array
    kept: Mask
    leave: Array
    """The magnitude lost with a kept element; infinite where none is kept."""
    enter: Array
    """The magnitude won by keeping an element; minus infinite where one is kept."""
    slack: Array
    """What a gain must exceed in each tile so that it is none of rounding: 4 units of its largest element."""

    @classmethod
    def of(cls, sizes: Array, kept: Mask) -> Tiles:
        """The costs of these masks."""
        infinity = sizes.dtype.type(np.inf)
        slack = 4 * np.finfo(sizes.dtype).eps * sizes.max(axis=(0, 1))
        return cls(sizes, kept, np.where(kept, sizes, infinity), np.where(kept, -infinity, sizes), slack)

    def take(self, chosen: Places) -> Tiles:
        """A copy of some of the tiles."""
        return Tiles(*(getattr(self, field.name)[..., chosen] for field in fields(self)))

    def move(self, row: Places, source: Places | int, target: Places | int, tile: Places) -> None:
        """In each of the tiles, a row keeps its element of column `target` instead of that of `source`."""
        self.kept[row, source, tile], self.kept[row, target, tile] = False, True
        self.leave[row, target, tile] = self.sizes[row, target, tile]
        self.enter[row, source, tile] = self.sizes[row, source, tile]
        self.leave[row, source, tile], self.enter[row, target, tile] = np.inf, -np.inf


def sweep(tiles: Tiles) -> Mask:
    """For each pair of columns the best exchange of one kept element each, where it gains; the tiles that changed."""
    changed = np.zeros(tiles.sizes.shape[2], dtype=np.bool_)
    for j, k in combinations(range(len(tiles.sizes)), 2):
        cost = (tiles.leave[:, j] - tiles.enter[:, k]).min(axis=0) + (tiles.leave[:, k] - tiles.enter[:, j]).min(axis=0)
        gains = np.flatnonzero(cost < -tiles.slack)
        if gains.size:
            first = (tiles.leave[:, j, gains] - tiles.enter[:, k, gains]).argmin(axis=0)
            second = (tiles.leave[:, k, gains] - tiles.enter[:, j, gains]).argmin(axis=0)
            tiles.move(first, j, k, gains)
            tiles.move(second, k, j, gains)
            changed[gains] = True
    return changed


@dataclass
class _Paths:
    """Shortest paths between the columns of some tiles: entry t of the lists has those of at most t exchanges.

    An exchange in a row leads from the column that loses the element to the column that gains one.
    """

    tile: Places
    leave: Array
    enter: Array
    slack: Array
    to_column: list[Array]
    to_row: list[Array]

    def extend(self) -> Array:
        """One more exchange (Bellman and Ford, all tiles at once); returns by how much each column fell."""
        to_row = (self.leave + self.to_column[-1]).min(axis=1)
        to_column = (to_row[:, None] - self.enter).min(axis=0)
        fall = self.to_column[-1] - to_column
        self.to_row.append(to_row)
        self.to_column.append(np.where(fall > self.slack, to_column, self.to_column[-1]))
        return fall

    def only(self, chosen: Places) -> None:
        """Forget the other tiles."""
        self.tile, self.leave, self.enter = self.tile[chosen], self.leave[:, :, chosen], self.enter[:, :, chosen]
        self.slack = self.slack[chosen]
        self.to_column = [distance[:, chosen] for distance in self.to_column]
        self.to_row = [distance[:, chosen] for distance in self.to_row]

    def walk_back(self, column: Places) -> tuple[Places, Places]:
        """The last columns' shortest paths, backwards: columns [steps + 1, tiles] and rows [steps, tiles]."""
        columns, rows, tile = [column], [], np.arange(column.size)
        for step in range(len(self.to_row) - 1, -1, -1):
            row = (self.to_row[step] - self.enter[:, columns[-1], tile]).argmin(axis=0)
            rows.append(row)
            columns.append((self.to_column[step] + self.leave[row, :, tile].T).argmin(axis=0))
        return np.array(columns), np.array(rows)


def cancel_cycles(tiles: Tiles) -> Mask:
    """Cancel one negative cycle in each tile that has one; the tiles that had.

    A column that the t-th exchange still brings nearer ends a path of t exchanges that no shorter path equals. If
    the path meets a column twice, the cycle between is negative, as the path without it is a shorter one; with m
    exchanges it must. Looking for it now and then before that saves most of the work.
    """
    m, _, count = tiles.sizes.shape
    improved = np.zeros(count, dtype=np.bool_)
    start = np.zeros((m, count))
    paths = _Paths(np.arange(count), tiles.leave, tiles.enter, m * m * tiles.slack, [start], [])
    for steps in range(1, m + 1):
        fall = paths.extend()
        falling = np.flatnonzero((fall > paths.slack).any(axis=0))
        paths.only(falling)
        if not paths.tile.size:
            break
        if steps == m or (steps >= 4 and steps % 2 == 0):
            found = _cancel_met(tiles, paths, fall[:, falling].argmax(axis=0))
            improved[paths.tile[found]] = True
            paths.only(np.flatnonzero(~found))
    return improved


def _cancel_met(tiles: Tiles, paths: _Paths, column: Places) -> Mask:
    """Cancel the first cycle on the way back from a column of each tile; the tiles that had one."""
    columns, rows = paths.walk_back(column)
    tile = np.arange(column.size)
    seen = np.full(paths.leave.shape[1:], -1)
    begin, end = np.full((2, column.size), -1)
    for step, at in enumerate(columns):
        meets = (end < 0) & (seen[at, tile] >= 0)
        begin[meets], end[meets] = seen[at, tile][meets], step
        seen[at, tile] = step
    for step, row in enumerate(rows):
        some = np.flatnonzero((begin <= step) & (step < end))
        tiles.move(row[some], columns[step + 1, some], columns[step, some], paths.tile[some])
    return end >= 0
