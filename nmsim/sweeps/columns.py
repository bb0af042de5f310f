"""Columns of points as codes into their distinct values, so that equal things are found and done once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Column:
    """A field of points: `values[codes]`, codes [points]; a list of values of any kind, or an array of numbers."""

    codes: np.ndarray
    values: Sequence[Any] | np.ndarray

    @classmethod
    def constant(cls, value: Any, size: int) -> Column:
        """The same value at every point."""
        return cls(np.zeros(size, np.int64), [value])

    @classmethod
    def of_numbers(cls, numbers: np.ndarray) -> Column:
        """The column of these numbers [points]."""
        values, codes = np.unique(numbers, return_inverse=True)
        return cls(codes.reshape(-1), values)

    def take(self, rows: np.ndarray) -> Column:
        """The column of these points."""
        return Column(self.codes[rows], self.values)

    @property
    def numbers(self) -> np.ndarray:
        """The values as an array of numbers [points]."""
        return np.asarray(self.values)[self.codes]

    @property
    def is_numeric(self) -> bool:
        """Whether all its values are numbers."""
        return isinstance(self.values, np.ndarray) or all(
            isinstance(x, int | float) and not isinstance(x, bool) for x in self.values
        )


def combine(codes: Iterable[np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
    """A code per distinct combination of `codes` [points], and the first point that has each."""
    key, first = np.zeros(size, np.int64), np.zeros(1, np.int64)
    for column in codes:
        _, first, key = distinct(key * (int(column.max(initial=0)) + 1) + column)
    return key, first


def distinct(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values of codes from 0 on [points], ascending, where each is first, and at each point which of them it is.

    As np.unique has them, without sorting where the codes are dense enough for a table of all that there could be.
    """
    size = int(codes.max(initial=-1)) + 1
    if size > 4 * len(codes):
        values, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        return values, first, inverse.reshape(-1)
    first = np.full(size, -1)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of equal codes the last that is written stays
    there = first >= 0
    return np.flatnonzero(there), first[there], (np.cumsum(there) - 1)[codes]
