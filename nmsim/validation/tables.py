"""Tables of measurements: CSV files whose mistakes are told with file and line."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from nmsim.errors import Problem, SpecError, nearest

MOST_PROBLEMS = 20
MOST = 2**62


@dataclass(frozen=True)
class Table:
    """Rows of a CSV file: its path, the line of each row [rows], and the text of each cell by column [rows]."""

    file: str
    lines: np.ndarray
    cells: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.lines)

    def select(self, rows: np.ndarray) -> Table:
        """The table of these rows (boolean or indices)."""
        return Table(self.file, self.lines[rows], {name: column[rows] for name, column in self.cells.items()})

    def words(self, column: str) -> np.ndarray:
        """The texts of a column [rows], empty throughout where the file does not have it."""
        return self.cells.get(column, np.full(len(self), "", dtype=object))

    def numbers(self, column: str, blank: bool = False) -> np.ndarray:
        """The positive numbers of a column [rows], NaN for an empty cell where `blank`; raises SpecError."""
        words = self.words(column)
        values = np.array([_number(cell) for cell in words], dtype=float)
        good = np.isfinite(values) & (values > 0) | (blank & (words == ""))
        self._refuse(column, ~good, lambda cell: f"must be a positive number, not {cell!r:.40}")
        return values

    def wholes(self, column: str, least: int = 1) -> np.ndarray:
        """The whole numbers, of at least `least`, of a column [rows] as int64; raises SpecError."""
        words = self.words(column)
        values = np.array([_number(cell) for cell in words], dtype=float)
        with np.errstate(invalid="ignore"):
            good = (values >= least) & (values <= MOST) & (values == np.floor(values))
        self._refuse(column, ~good, lambda cell: f"must be a whole number of at least {least}, not {cell!r:.40}")
        return values.astype(np.int64)

    def problem(self, row: int, column: str, message: str) -> Problem:
        """A mistake in a cell."""
        return Problem(self.file, int(self.lines[row]), 1, column, message)

    def _refuse(self, column: str, bad: np.ndarray, message: Callable[[str], str]) -> None:
        """Raise SpecError for the rows marked bad, if there are any."""
        words, rows = self.words(column), np.flatnonzero(bad)
        if len(rows):
            raise SpecError(self.problem(row, column, message(words[row])) for row in rows[:MOST_PROBLEMS].tolist())


def read_table(path: str | os.PathLike[str], required: Iterable[str]) -> Table:
    """The table in a CSV file that has at least the columns `required`; raises SpecError with the place."""
    file = os.fspath(path)
    header, rows = _rows(file)
    if missing := [name for name in required if name not in header]:
        raise SpecError(Problem(file, 1, 1, "", _missing(name, header)) for name in missing)
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise SpecError([Problem(file, 1, 1, "", f"the column {twice!r} stands twice")])
    uneven = [(line, len(cells)) for line, cells in rows if len(cells) != len(header)]
    if uneven:
        why = f"cells, but the header has {len(header)}"
        raise SpecError(Problem(file, line, 1, "", f"{count} {why}") for line, count in uneven[:MOST_PROBLEMS])
    columns = zip(*(cells for _, cells in rows), strict=True) if rows else [()] * len(header)
    cells = {name: np.array([cell.strip() for cell in column], object) for name, column in zip(header, columns)}  # noqa: B905
    return Table(file, np.array([line for line, _ in rows], np.int64), cells)


def _rows(file: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the line and cells of each row that is not blank."""
    rows: list[tuple[int, list[str]]] = []
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            rows += [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except UnicodeDecodeError:
        raise SpecError([Problem(file, 1, 1, "", "not UTF-8 text")]) from None
    except csv.Error as error:
        raise SpecError([Problem(file, reader.line_num, 1, "", str(error))]) from None
    except OSError as error:
        raise SpecError([Problem(file, 1, 1, "", error.strerror or str(error))]) from None
    if not rows:
        raise SpecError([Problem(file, 1, 1, "", "the file is empty")])
    return [cell.strip() for cell in rows[0][1]], rows[1:]


def _missing(name: str, header: list[str]) -> str:
    close = nearest(name, header, limit=1)
    return f"the column {name!r} is missing" + (f"; is it {close[0]!r}?" if close else "")


def _number(cell: str) -> float:
    """The number that a cell holds, NaN where it holds none."""
    try:
        return float(cell) if "_" not in cell else math.nan
    except ValueError:
        return math.nan
