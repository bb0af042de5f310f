"""Checks: whether an array obeys a pattern, and the finest pattern it obeys."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from nmsim.errors import PatternError
from nmsim.sparsity.groups import TILE_COLUMNS, Mask, as_planes, group_counts, resolve
from nmsim.sparsity.pattern import MAX_GROUP, Pattern

GROUPS = (2, 4, 8, 16, 32, 64, 128)


def satisfies(array: ArrayLike, pattern: Pattern | str, axis: int | None = None) -> bool:
    """Whether the non-zeros of an array (or a mask) are no more than the pattern allows; see `violations`."""
    return violations(array, pattern, axis) == 0


def violations(array: ArrayLike, pattern: Pattern | str, axis: int | None = None) -> int:
    """How many groups of an array (or a mask) hold more non-zeros than the pattern allows.

    A group is m consecutive elements along the axis or the tail of them (`nm`); a tile of v rows by m columns, at
    fault when more than 4 of its columns or more than n elements of one of its rows are non-zero (`vnm`); a row
    (`fan_in`); the whole array (`unstructured`). `axis` None means the pattern's own. NaN counts as non-zero.
    Raises PatternError for an axis that does not exist.
    """
    nonzero = nonzeros(array)
    pattern, axis = resolve(pattern, axis, nonzero.ndim)
    if pattern.is_dense or nonzero.size == 0:
        return 0
    if pattern.kind == "nm":
        return int(np.count_nonzero(group_counts(nonzero, axis, pattern.m) > pattern.n))
    if pattern.kind == "vnm":
        return int(np.count_nonzero(_bad_tiles(as_planes(nonzero, axis), pattern)))
    if pattern.kind == "fan_in":
        return int(np.count_nonzero(np.count_nonzero(nonzero, axis=axis) > pattern.n))
    return int(np.count_nonzero(nonzero) > pattern.kept(nonzero.size))


def finest_pattern(array: ArrayLike, axis: int, groups: Iterable[int] = GROUPS) -> Pattern:
    """The n:m of lowest density n / m that an array obeys along an axis; of equal densities, the smallest m.

    For each m of `groups`, n is the largest number of non-zeros in any aligned group of m (at least 1). A group
    longer than the axis is not considered. Dense when no density is below 1. Raises PatternError for an axis
    that does not exist and a group outside 1 to 128.
    """
    nonzero = nonzeros(array)
    _, place = resolve("dense", axis, nonzero.ndim)
    found = Pattern(axis=axis)
    for m in sorted(set(groups)):
        if not 1 <= m <= MAX_GROUP:
            raise PatternError(f"not a group: {m}; a group has 1 to {MAX_GROUP} elements")
        if m > nonzero.shape[place] or nonzero.size == 0:
            continue
        n = max(1, int(group_counts(nonzero, place, m).max()))
        if n * found.m < found.n * m:
            found = Pattern.nm(n, m, axis)
    return found


def detect(array: ArrayLike) -> dict[int, Pattern]:
    """The finest pattern along each axis of an array, by axis counted from 0."""
    nonzero = nonzeros(array)
    return {axis: finest_pattern(nonzero, axis) for axis in range(nonzero.ndim)}


def nonzeros(array: ArrayLike) -> Mask:
    """Where an array is not zero (NaN is not, -0.0 is); raises PatternError for what is not made of numbers."""
    array = np.asarray(array)
    if array.dtype.kind not in "biufc":
        raise PatternError(f"a pattern needs an array of numbers, not {array.dtype}")
    return array if array.dtype == np.bool_ else array != 0


def _bad_tiles(nonzero: Mask, pattern: Pattern) -> Mask:
    """[planes, blocks of v rows, groups of m]: whether the tile breaks V:n:m."""
    starts = np.arange(0, nonzero.shape[1], pattern.v)
    used = np.logical_or.reduceat(nonzero, starts, axis=1)
    row_full = group_counts(nonzero, 2, pattern.m) > pattern.n
    return np.logical_or.reduceat(row_full, starts, axis=1) | (group_counts(used, 2, pattern.m) > TILE_COLUMNS)
