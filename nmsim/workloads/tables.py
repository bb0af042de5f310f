"""CSV files of matrix products: a header with the columns of `gemms`, a product per line."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from nmsim.errors import Problem, ShapeError, SpecError, unknown
from nmsim.workloads.optable import Workload
from nmsim.workloads.products import FRAME_COLUMNS, MOST_MISTAKES, SIZES, CellError, gemms

Line = tuple[int, list[str]]

_PLAIN = re.compile(r" *[0-9]{1,19} *").fullmatch
_QUOTED = re.compile(r'"(?:[^"]|"")*"?')


def read_products(path: str | os.PathLike[str], dtype: str = "fp16") -> Workload:
    """The workload in the CSV file at `path`; `dtype` where no column gives one. Raises SpecError with the place."""
    file = os.fspath(path)
    (header_line, header), *lines = _lines(file)
    header = [cell.strip() for cell in header]
    _check_header(file, header_line, header)
    uneven = [
        (n, f"{len(cells)} cells, but the header has {len(header)}") for n, cells in lines if len(cells) != len(header)
    ]
    if uneven:
        problems = [Problem(file, number, 1, "", message) for number, message in uneven[:MOST_MISTAKES]]
        raise SpecError(_with_rest(problems, len(uneven)))
    if not lines:
        raise SpecError([Problem(file, header_line, 1, "", "no products below the header")])
    cells_of = zip(*(cells for _, cells in lines), strict=True)
    frame = {name: _column(name, cells) for name, cells in zip(header, cells_of, strict=True)}
    try:
        return gemms(frame, Path(file).stem, dtype)
    except CellError as error:
        raise SpecError(_with_rest([_problem(file, header, lines, e) for e in error.first], error.count)) from None
    except ShapeError as error:
        raise SpecError([Problem(file, header_line, 1, "", str(error))]) from None


def _lines(file: str) -> list[Line]:
    """Line number and cells of every line that is not blank."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            written = list(stream)
    except UnicodeDecodeError:
        raise SpecError([Problem(file, 1, 1, "", "not UTF-8 text")]) from None
    except (OSError, ValueError) as error:
        raise SpecError([Problem(file, 1, 1, "", getattr(error, "strerror", None) or str(error))]) from None
    lines = [line for line in _cells(file, written) if any(cell.strip() for cell in line[1])]
    if not lines:
        raise SpecError([Problem(file, 1, 1, "", f"the file is empty; its columns are {', '.join(FRAME_COLUMNS)}")])
    return lines


def _cells(file: str, written: list[str]) -> Iterator[Line]:
    """Line number and cells of every line; a cell does not go on in the next line."""
    reader = csv.reader(written, strict=True)
    for number in range(1, len(written) + 1):
        try:
            cells = next(reader)
            if reader.line_num == number:
                yield number, cells
                continue
            message = "the quote is not closed"
        except csv.Error as error:
            closed = reader.line_num == number and "unexpected end" not in str(error)
            message = str(error) if closed else "the quote is not closed"
        quotes = [match.start() for match in _QUOTED.finditer(written[number - 1])]
        raise SpecError([Problem(file, number, 1 + (quotes[-1] if quotes else 0), "", message)])


def _with_rest(problems: list[Problem], count: int) -> list[Problem]:
    """The problems, and a last one that tells how many there are beyond them."""
    rest = count - len(problems)
    return [*problems, replace(problems[-1], path="", message=f"and {rest} more mistakes")] if rest else problems


def _check_header(file: str, line: int, header: list[str]) -> None:
    problems = [
        Problem(file, line, _place(header, i), "", message)
        for i, name in enumerate(header)
        if (message := _header_mistake(name, header[:i]))
    ]
    problems += [Problem(file, line, 1, "", f"the column {n!r} is missing") for n in ("m", "n", "k") if n not in header]
    if problems:
        raise SpecError(problems)


def _header_mistake(name: str, before: list[str]) -> str:
    if name not in FRAME_COLUMNS:
        return unknown("column", name, FRAME_COLUMNS)
    return f"the column {name!r} stands here again" if name in before else ""


def _column(name: str, cells: tuple[str, ...]) -> np.ndarray:
    """The cells as numbers for sizes, else as words with None for an empty one."""
    if name not in SIZES:
        return np.array([cell.strip() or None for cell in cells], dtype=object)
    try:
        if all(_PLAIN(cell) for cell in cells):
            return np.array([int(cell) for cell in cells], dtype=np.int64)
    except OverflowError:
        pass
    return np.array([_number(cell.strip()) for cell in cells], dtype=object)


def _number(cell: str) -> int | float | str:
    """The number that ASCII digits write, else the text."""
    if not cell.isascii() or "_" in cell:
        return cell
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            pass
    return cell


def _place(cells: list[str], column: int) -> int:
    """The 1-based place of a cell in its line, if no cell before it is quoted."""
    return 1 + sum(len(cell) + 1 for cell in cells[:column])


def _problem(file: str, header: list[str], lines: list[Line], error: CellError) -> Problem:
    line, cells = lines[error.row]
    column = header.index(error.column) if error.column in header else 0
    return Problem(file, line, _place(cells, column), error.column, error.message)
