"""The points of a space: grids and samples of its axes, in ranges of their numbers, less what constraints exclude."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from nmsim.errors import NmsimError, UnsupportedError
from nmsim.sweeps.columns import Column
from nmsim.sweeps.machines import leaf
from nmsim.sweeps.space import MACHINE, PATH, Constraint, Range, SpaceFile


@dataclass(frozen=True)
class Axis:
    """A field with its distinct `values`, or with none and numbers between `low` and `high`."""

    name: str
    values: list[Any] | None
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False

    def column(self, share: np.ndarray) -> Column:
        """The values at these shares of the axis, in [0, 1) [points]."""
        if self.values is not None:
            return Column(np.minimum((share * len(self.values)).astype(np.int64), len(self.values) - 1), self.values)
        return Column.of_numbers(self.between(share))

    def between(self, share: np.ndarray) -> np.ndarray:
        """Numbers between the ends, at these shares of the way [points]."""
        if self.log:
            ends = np.log([self.low, self.high])
            numbers = np.exp(ends[0] + share * (ends[1] - ends[0]))
            numbers = np.select([share <= 0.0, share >= 1.0], [self.low, self.high], numbers)
        else:
            numbers = self.low + share * (self.high - self.low)
        return np.rint(numbers).astype(np.int64) if self.whole else numbers


def axes_of(space: SpaceFile) -> list[Axis]:
    """The axes with their values in SI units; raises NmsimError naming the axis whose values are none."""
    return [_axis(space, name) for name in space.axes]


def _axis(space: SpaceFile, name: str) -> Axis:
    given, parse, whole = space.axes[name], parser(space, name), _is_whole(space, name)
    try:
        if not isinstance(given, Range):
            return Axis(name, [parse(value) for value in given])
        low, high = parse(given.first), parse(given.last)
        if isinstance(low, str) or isinstance(high, str) or not low < high or (given.scale == "log" and low <= 0):
            raise UnsupportedError(f"must rise from one number to another, got {given.first!r} to {given.last!r}")
    except (NmsimError, ValueError) as error:
        raise UnsupportedError(f"{space.name}: axes.{name}: {error}") from None
    axis = Axis(name, None, low, high, given.scale == "log", whole)
    if given.steps is None:
        return axis
    numbers = axis.between(np.linspace(0.0, 1.0, given.steps))
    return Axis(name, list(dict.fromkeys(numbers.tolist())))


def parser(space: SpaceFile, name: str) -> Callable[[Any], Any]:
    """What turns a value in the file into that of the field: numbers of a machine into SI units."""
    number = leaf(first_machine(space), name.removeprefix(PATH)) if name.startswith(PATH) else None
    return number.parse if number else lambda value: value


def _is_whole(space: SpaceFile, name: str) -> bool:
    if not name.startswith(PATH):
        return True
    number = leaf(first_machine(space), name.removeprefix(PATH))
    return number is not None and number.whole


def first_machine(space: SpaceFile) -> str:
    """The machine whose file tells what the paths of the space are."""
    given = space.axes.get(MACHINE, space.fixed.get(MACHINE))
    return str(given[0] if isinstance(given, list) else given)


class Points:
    """The points of a space, numbered from 0; a sample is drawn once and is the same for the same seed."""

    def __init__(self, space: SpaceFile):
        self.space = space
        self.axes = axes_of(space)
        self.fixed = {name: parser(space, name)(value) for name, value in space.fixed.items()}

    def __len__(self) -> int:
        if self.space.sample.points is not None:
            return self.space.sample.points
        return int(np.prod([len(axis.values or ()) for axis in self.axes], dtype=object))

    def table(self, start: int, stop: int) -> tuple[np.ndarray, dict[str, Column]]:
        """Numbers [points] and columns of the points from `start` to before `stop` that satisfy the constraints."""
        numbers = np.arange(start, min(stop, len(self)))
        varied = self._grid(numbers) if self.space.sample.points is None else self._sample(numbers)
        columns = {name: Column.constant(value, len(numbers)) for name, value in self.fixed.items()} | varied
        kept = np.ones(len(numbers), dtype=bool)
        for constraint in self.space.where:
            kept &= self._holds(constraint, columns)
        if kept.all():
            return numbers, columns
        return numbers[kept], {name: column.take(kept) for name, column in columns.items()}

    def baseline(self) -> dict[str, Column]:
        """The columns of the one point that others are compared with.

        An axis that `baseline` leaves out has the machine's own value, or else its first.
        """
        given = {**self.space.fixed, **self.space.baseline}
        values = {}
        for axis in self.axes:
            first = axis.values[0] if axis.values is not None else axis.low
            values[axis.name] = self._own(axis.name, given, first)
        values |= {name: parser(self.space, name)(value) for name, value in given.items()}
        return {name: Column.constant(value, 1) for name, value in values.items()}

    def _own(self, name: str, given: dict[str, Any], first: Any) -> Any:
        if not name.startswith(PATH):
            return first
        number = leaf(str(given.get(MACHINE, first_machine(self.space))), name.removeprefix(PATH))
        return first if number is None or number.value is None else number.value

    def _grid(self, numbers: np.ndarray) -> dict[str, Column]:
        codes = np.unravel_index(numbers, [len(axis.values or ()) for axis in self.axes])
        return {a.name: Column(np.asarray(c), a.values or ()) for a, c in zip(self.axes, codes, strict=True)}

    def _sample(self, numbers: np.ndarray) -> dict[str, Column]:
        sample = self.space.sample
        shares = _drawn(sample.method, len(self.axes), len(self), sample.seed)[numbers]
        return {axis.name: axis.column(share) for axis, share in zip(self.axes, shares.T, strict=True)}

    def _holds(self, constraint: Constraint, columns: dict[str, Column]) -> np.ndarray:
        name, given = constraint.comparison
        if isinstance(given, str) and given in columns:
            right: Any = columns[given]
        else:
            right = parser(self.space, constraint.fields[0])(given) if constraint.field else given
        if constraint.field and name in ("equal", "unequal"):
            left = np.array(columns[constraint.field].values, dtype=object)[columns[constraint.field].codes]
            other = np.array(right.values, dtype=object)[right.codes] if isinstance(right, Column) else right
            same = np.asarray(left == other, dtype=bool)
            return same if name == "equal" else ~same
        factors = [_numbers(columns[field], field) for field in constraint.fields]
        left = np.sum(factors, axis=0) if constraint.sum else np.prod(factors, axis=0)
        bound = _numbers(right, str(given)) if isinstance(right, Column) else right
        if isinstance(bound, str):
            raise UnsupportedError(f"{self.space.name}: where: {bound!r} is neither a number nor a field of the space")
        return {"at_most": left <= bound, "at_least": left >= bound, "equal": left == bound, "unequal": left != bound}[
            name
        ]


def _numbers(column: Column, field: str) -> np.ndarray:
    if not column.is_numeric:
        raise UnsupportedError(f"where: {field} has no numbers to compare; only equal and unequal apply")
    return column.numbers.astype(float)


@lru_cache(maxsize=1)
def _drawn(method: str, axes: int, points: int, seed: int) -> np.ndarray:
    """Shares of the axes in [0, 1) [points, axes]."""
    rng = np.random.default_rng(seed)
    if method == "random":
        return rng.random((points, axes))
    from scipy.stats import qmc

    if method == "latin_hypercube":
        return qmc.LatinHypercube(axes, seed=rng).random(points)
    return qmc.Sobol(axes, seed=rng).random_base2(max(points - 1, 0).bit_length())[:points]
