"""How the groups of a pattern lie in an array: its axis, its views by group, row or tile, and non-zeros per group."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import PatternError
from nmsim.sparsity.pattern import Pattern

Array = NDArray[Any]
Mask = NDArray[np.bool_]

TILE_COLUMNS = 4
_BLOCK = 1 << 17


def resolve(pattern: Pattern | str, axis: int | None, ndim: int) -> tuple[Pattern, int]:
    """The pattern and its axis counted from 0 in an array of `ndim` axes; `axis` None means the pattern's own.

    Raises PatternError for a text that is no pattern and an axis that the array does not have.
    """
    pattern = Pattern.parse(pattern)
    try:
        given = pattern.axis if axis is None else operator.index(axis)
    except TypeError:
        raise PatternError(f"an axis is the number of an axis of the array, not {axis!r:.60}") from None
    if not -ndim <= given < ndim:
        raise PatternError(f"no axis {given} for pattern {pattern}: the array has {ndim} axes")
    return pattern, given % ndim


def blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of `count` items of `width` elements each, so that the scratch arrays of one slice stay in cache."""
    step = max(1, _BLOCK // max(1, width))
    return (slice(start, start + step) for start in range(0, count, step))


def split_at(array: Array, axis: int) -> Array:
    """The array as [outer, length, inner] around `axis`; a view where the memory allows."""
    shape = array.shape
    return array.reshape(prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]))


def as_planes(array: Array, axis: int) -> Array:
    """The array as [planes, rows, length]: `axis` moved last, its rows being the axis that is then next to last."""
    moved = np.moveaxis(array, axis, -1)
    rows = moved.shape[-2] if moved.ndim > 1 else 1
    return moved.reshape(prod(moved.shape[:-2]), rows, moved.shape[-1])


def from_planes(planes: Array, shape: tuple[int, ...], axis: int) -> Array:
    """The inverse of `as_planes` for an array of this shape: a C-ordered array."""
    moved_shape = shape[:axis] + shape[axis + 1 :] + shape[axis : axis + 1]
    return np.ascontiguousarray(np.moveaxis(planes.reshape(moved_shape), -1, axis))


def group_counts(nonzero: Mask, axis: int, m: int) -> Array:
    """Non-zeros in each aligned group of m <= 255 along `axis`, a shorter tail counting as a group; uint8."""
    starts = np.arange(0, nonzero.shape[axis], m)
    return np.add.reduceat(nonzero.view(np.uint8), starts, axis=axis, dtype=np.uint8)
