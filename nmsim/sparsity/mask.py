"""Masks: which elements of an array a pattern keeps, by magnitude, by any score or at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nmsim.errors import PatternError
from nmsim.sparsity.groups import (
    TILE_COLUMNS,
    Array,
    Mask,
    as_planes,
    blocks,
    from_planes,
    resolve,
    split_at,
)
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.ranks import Score, itself, magnitude, prune_lanes, sortable, top_of_groups


def magnitude_mask(array: ArrayLike, pattern: Pattern | str, axis: int | None = None) -> Mask:
    """The mask that keeps the elements of largest |x| the pattern allows, True where kept; the array's shape.

    Between equal magnitudes the lower index along the axis is kept (the lower flat index for an unstructured
    pattern). A tail of r < m elements keeps min(n, r). By kind:

    - `nm`: the n largest of each m consecutive elements along the axis;
    - `vnm`: rows are the next-to-last axis once the group axis is moved last; each block of v rows keeps the 4
      columns of every m with the largest sum of |x|, each row then its n largest of these 4 (the layout of VENOM,
      arXiv 2310.02065);
    - `fan_in`: the k largest of each row along the axis;
    - `unstructured`: the round(density * size) largest of the whole array.

    `axis` None means the pattern's own axis. Raises PatternError for an axis that does not exist, NaN, and
    arrays that are not real numbers.
    """
    return _mask(array, pattern, axis, magnitude)


def top_n_mask(scores: ArrayLike, pattern: Pattern | str, axis: int | None = None) -> Mask:
    """The mask that keeps the elements of largest score; otherwise as `magnitude_mask`, which is this of |x|."""
    return _mask(scores, pattern, axis, itself)


def prune(array: Array, pattern: Pattern | str, axis: int, out: Array) -> Array:
    """The array times its magnitude mask, written to `out`, which is an array of this shape and type.

    Raises PatternError as `magnitude_mask` does.
    """
    pattern, axis = resolve(pattern, axis, array.ndim)
    last = axis == array.ndim - 1 and pattern.kind == "nm" and array.shape[-1] % pattern.m == 0
    if last and array.dtype.kind == "f" and array.flags.c_contiguous and out.flags.c_contiguous:
        _refuse_nan(array, "values")
        if prune_lanes(array, pattern.n, pattern.m, out):
            return out
    return np.multiply(array, magnitude_mask(array, pattern, axis), out=out)


def random_mask(
    shape: int | tuple[int, ...],
    pattern: Pattern | str,
    rng: np.random.Generator,
    axis: int | None = None,
) -> Mask:
    """A mask of this shape that fills the pattern at random places drawn from `rng`."""
    return top_n_mask(rng.random(shape), pattern, axis)


def tile_columns(scores: Array, v: int, m: int) -> Mask:
    """The 4 columns of every m with the largest sum of scores in each block of v rows.

    `scores` is [planes, rows, length], the result [planes, ceil(rows / v), length].
    """
    wide = np.result_type(scores.dtype, np.float64) if scores.dtype.kind == "f" else np.int64
    with np.errstate(invalid="ignore"):
        sums = np.add.reduceat(scores, np.arange(0, scores.shape[1], v), axis=1, dtype=wide)
    _refuse_nan(sums, "sums of infinite scores")
    return _top_of_groups(sums, 2, TILE_COLUMNS, m, itself)


def _mask(array: ArrayLike, pattern: Pattern | str, axis: int | None, score: Score) -> Mask:
    array = np.asarray(array)
    pattern, axis = resolve(pattern, axis, array.ndim)
    if array.dtype.kind not in "biuf":
        raise PatternError(f"a mask needs real numbers, not {array.dtype}")
    _refuse_nan(array, "values")
    if pattern.is_dense or array.size == 0:
        return np.ones(array.shape, dtype=np.bool_)
    if pattern.kind == "nm":
        return _top_of_groups(array, axis, pattern.n, pattern.m, score)
    if pattern.kind == "unstructured":
        return _top_of_rows(array.reshape(1, -1), pattern.kept(array.size), score).reshape(array.shape)
    planes = as_planes(array, axis)
    if pattern.kind == "vnm":
        return from_planes(_top_of_tiles(score(planes), pattern), array.shape, axis)
    rows = planes.reshape(-1, planes.shape[-1])
    return from_planes(_top_of_rows(rows, pattern.kept(rows.shape[1]), score), array.shape, axis)


def _top_of_groups(array: Array, axis: int, n: int, m: int, score: Score) -> Mask:
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        return _top_of_groups(array.T, array.ndim - 1 - axis, n, m, score).T
    split = split_at(array, axis)
    outer, length, inner = split.shape
    whole = length - length % m
    body = top_of_groups(split[:, :whole].reshape(outer * (whole // m), m, inner), n, score)
    if whole == length:
        return body.reshape(array.shape)
    kept = np.empty(split.shape, dtype=np.bool_)
    kept[:, :whole] = body.reshape(outer, whole, inner)
    kept[:, whole:] = top_of_groups(split[:, whole:], n, score)
    return kept.reshape(array.shape)


def _top_of_rows(rows: Array, k: int, score: Score) -> Mask:
    """The k largest of each row of [rows, length]."""
    count, length = rows.shape
    kept = np.zeros(rows.shape, dtype=np.bool_)
    for block in blocks(count if k else 0, length):
        kept[block] = _top_k(sortable(score(rows[block])), min(k, length))
    return kept


def _top_k(scores: Array, k: int) -> Mask:
    place = scores.shape[1] - k
    threshold = np.partition(scores, place, axis=1)[:, place, None]
    kept = scores > threshold
    row, column = np.nonzero(scores == threshold)
    first = np.searchsorted(row, np.arange(len(scores)))
    fits = np.arange(row.size) - first[row] < (k - kept.sum(axis=1))[row]
    kept[row[fits], column[fits]] = True
    return kept


def _top_of_tiles(scores: Array, pattern: Pattern) -> Mask:
    """V:n:m of [planes, rows, length]: gather the 4 columns of each tile, keep n of them, scatter back."""
    planes, rows, length = scores.shape
    columns = tile_columns(scores, pattern.v, pattern.m)
    places = (np.flatnonzero(columns) % length).reshape(planes, columns.shape[1], -1)
    places = np.repeat(places, pattern.v, axis=1)[:, :rows]
    gathered = np.take_along_axis(scores, places, axis=2)
    kept = np.zeros(scores.shape, dtype=np.bool_)
    np.put_along_axis(kept, places, _top_of_groups(gathered, 2, pattern.n, TILE_COLUMNS, itself), axis=2)
    return kept


def _refuse_nan(array: Array, what: str) -> None:
    if array.dtype.kind != "f" or array.size == 0:
        return
    with np.errstate(invalid="ignore"):
        clean = not np.isnan(array.min())
    if not clean:
        raise PatternError(f"{int(np.isnan(array).sum())} of {array.size} {what} are NaN, which has no rank")
