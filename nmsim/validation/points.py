"""Measured points beside the operations that were measured: what every table of measurements becomes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nmsim.validation.tables import Table
from nmsim.workloads.optable import DICTIONARIES, DTYPES, Phase, Workload

MICROSECOND = 1e-6
VENDORS = ("nvidia_", "tesla_", "amd_", "instinct_")
_REPOSITORY = re.compile(r"[\w.-]+/([\w.-]+)")


@dataclass(frozen=True)
class Points:
    """Measurements of one device in one data type: `measured_s`, `lines`, `labels`, `sources` [points], the
    operations `work`, and which point each belongs to, `owner` [ops].

    The dense times that a table states beside sparse ones are points `of` the data set of that name, and in none.
    `kernels` tells the kernels that ran them from others of the same data set; empty where they are the usual ones.
    `gathered` names the gathering kernel that ran, empty where the machine takes its fastest.
    """

    table: str
    name: str
    device: str
    dtype: str
    file: str
    lines: np.ndarray
    measured_s: np.ndarray
    labels: tuple[str, ...]
    sources: tuple[str, ...]
    work: Workload
    owner: np.ndarray
    of: str = ""
    kernels: str = ""
    gathered: str = ""

    @property
    def library(self) -> str:
        """The name by which libraries.yaml knows the kernels."""
        return f"{self.name}_{self.kernels}" if self.kernels else self.name

    def __len__(self) -> int:
        return len(self.measured_s)


@dataclass(frozen=True)
class LeftOut:
    """Rows of a table that are in no error figure, and why."""

    file: str
    reason: str
    rows: int


Found = Points | LeftOut


def scorable(table: Table, time: str = "time_us") -> tuple[Table, list[LeftOut]]:
    """The rows that may be in an error figure: not read off a figure (quality C), and with a time."""
    left = []
    for keep, reason in (
        (table.words("quality") != "C", "read off a figure (quality C)"),
        (table.words(time) != "", f"no {time}"),
    ):
        if not keep.all():
            left.append((reason, ~keep))
    counted, taken = [], np.zeros(len(table), dtype=bool)
    for reason, rows in left:
        if count := int((rows & ~taken).sum()):
            counted.append(LeftOut(table.file, reason, count))
        taken |= rows
    return table.select(~taken), counted


def known_types(table: Table) -> tuple[Table, np.ndarray, list[LeftOut]]:
    """The rows whose data type nmsim has, that type [rows], and the others counted."""
    written = table.words("dtype")
    types = {text: data_type(text) for text in dict.fromkeys(written)}
    good = np.array([types[text] != "" for text in written], dtype=bool)
    left = [
        LeftOut(table.file, f"no data type {text!r}", int((written == text).sum()))
        for text, known in types.items()
        if not known
    ]
    return table.select(good), np.array([types[text] for text in written[good]], dtype=object), left


def data_type(text: str) -> str:
    """The data type that a table means by `fp8_e4m3`, `fp16/bf16`; empty if there is none."""
    first = re.split(r"[/ _(]", text.strip().lower())[0] if text.strip() else ""
    return first if first in DTYPES else ""


def source_key(table: Table) -> np.ndarray:
    """A short name of each row's source [rows]: its `source_key`, or the repository in its `source`, or `table`."""
    keys, sources = table.words("source_key"), table.words("source")
    short = {text: _repository(text) for text in dict.fromkeys(sources)}
    return np.array([key or short[source] for key, source in zip(keys, sources, strict=True)], dtype=object)


def groups(*columns: np.ndarray) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Each distinct combination of the columns [rows] in order of appearance, and its rows."""
    rows_of: dict[tuple[str, ...], list[int]] = {}
    for row, key in enumerate(zip(*columns, strict=True)):
        rows_of.setdefault(key, []).append(row)
    for key, rows in rows_of.items():
        yield key, np.array(rows)


def slug(text: str) -> str:
    """The text in lower case, runs of other characters than letters and digits as one underscore."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def joined(works: Sequence[Workload]) -> Workload:
    """One workload of all operations, in order; layers, kinds, patterns and notes are put together."""
    tables: dict[str, dict[object, int]] = {name: {} for name in ("layers", "kinds", "patterns", "notes")}
    parts = [dict(work.columns) for work in works]
    for work, part in zip(works, parts, strict=True):
        for column, table in DICTIONARIES.items():
            entries = tables[table]
            code = [entries.setdefault(entry, len(entries)) for entry in getattr(work, table)]
            part[column] = np.array(code)[part[column]].astype(part[column].dtype)
        part["phase"] = np.zeros_like(part["phase"])
    columns = {name: np.concatenate([part[name] for part in parts]) for name in works[0].columns}
    names: Any = {name: tuple(entries) for name, entries in tables.items()}
    return replace(
        works[0], name="measured", columns=columns, phases=(Phase("measured", 0, 1),), info={}, model=None,
        **names,
    )  # fmt: skip


def from_works(works: Sequence[Workload]) -> tuple[Workload, np.ndarray]:
    """The operations of several points in one workload, and the point of each [ops]."""
    return joined(works), np.repeat(np.arange(len(works)), [len(work) for work in works])


def set_name(source: str, device: str, *rest: str) -> str:
    """The name of a data set: source, device, and what tells it from others of the same; no word twice in a row."""
    board = slug(re.sub(r"\(.*?\)", "", device)) or slug(device)
    for vendor in VENDORS:
        board = board.removeprefix(vendor)
    return "_".join([slug(source).removesuffix(f"_{board}"), board, *rest])


def label(template: Callable[..., str], *columns: np.ndarray) -> tuple[str, ...]:
    """A text for each row of the columns."""
    return tuple(template(*cells) for cells in zip(*columns, strict=True))


def _repository(source: str) -> str:
    match = _REPOSITORY.match(source)
    return slug(match[1]) if match else "table"
