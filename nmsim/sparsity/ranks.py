"""The largest elements of groups, by comparisons of columns of scores, a block at a time that stays in cache."""

from __future__ import annotations

from collections.abc import Callable
from math import lcm

import numpy as np

from nmsim.scratch import scratch
from nmsim.sparsity.groups import Array, Mask, blocks

Score = Callable[..., Array]
"""Scores of values, written to a second array where one is given."""

BYTE = 8
BITS = (1 << np.arange(BYTE, dtype=np.uint8))[:, None]
KEPT = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").astype(np.float32)
"""The factors of eight values for each byte of bits."""


def top_of_groups(groups: Array, n: int, score: Score) -> Mask:
    """The mask of the n of largest score along axis 1 of [groups, m, inner]; of equal ones, the first."""
    count, m, inner = groups.shape
    if n >= m:
        return np.ones(groups.shape, dtype=np.bool_)
    kept = np.empty(groups.shape, dtype=np.bool_)
    done = 0
    if inner == 1 and groups.flags.c_contiguous:
        values, marks = _lanes(groups, m), _lanes(kept, m)
        done = values.size // m
        for block in blocks(len(values), values.shape[1]):
            bits = np.unpackbits(_packed(values[block], n, m, score), bitorder="little")
            marks[block] = bits.view(np.bool_).reshape(-1, values.shape[1])
    for block in blocks(count - done, m * inner):
        columns = _columns(groups[done:][block].swapaxes(0, 1), score)
        kept[done:][block] = _top(columns, n).swapaxes(0, 1)
    return kept


def prune_lanes(array: Array, n: int, m: int, out: Array) -> bool:
    """out = array times the mask of the n largest magnitudes of every m elements in order; False where it cannot.

    Zeros need no place among those kept, so that groups with fewer than n other values are not ties to be resolved.
    """
    values, pruned = _lanes(array, m), _lanes(out, m)
    if values.size < array.size or n >= m or array.dtype != np.float32:
        return False
    least = np.finfo(array.dtype).smallest_subnormal
    for block in blocks(len(values), values.shape[1]):
        packed = _packed(values[block], n, m, magnitude, least)
        np.take(KEPT, packed, axis=0, out=pruned[block].reshape(-1, BYTE), mode="clip")
        pruned[block] *= values[block]
    return True


def magnitude(values: Array, out: Array | None = None) -> Array:
    """|x|; unsigned for integers."""
    size = np.abs(values, out=out)
    # The magnitude of the lowest integer does not fit its signed type: abs(-128) is 128 only as unsigned.
    return size.view(f"u{size.itemsize}") if size.dtype.kind == "i" else size


def itself(values: Array, out: Array | None = None) -> Array:
    """The values as their own scores."""
    if out is None:
        return values
    np.copyto(out, values)
    return out


def sortable(scores: Array) -> Array:
    """Half precision widened, as NumPy compares it in software."""
    return scores.astype(np.float32) if scores.dtype == np.float16 else scores


def _lanes(array: Array, m: int) -> Array:
    """Contiguous values in rows of whole groups and whole bytes of bits, as far as they go; none for an odd m."""
    lanes = lcm(m, BYTE)
    rows = array.size // lanes if lanes in (m, BYTE) else 0
    return array.reshape(-1)[: rows * lanes].reshape(rows, lanes)


def _packed(values: Array, n: int, m: int, score: Score, least: float | None = None) -> Array:
    """The mask of the n largest of every m values of [rows, lanes] as bits, in order.

    Bytes unpacked in order are written far faster than single elements by strides.
    """
    lanes = values.shape[1]
    columns = _columns(values.T, score).reshape(lanes // m, m, -1)
    bits = _top(columns.swapaxes(0, 1), n, least).swapaxes(0, 1).reshape(lanes // BYTE, BYTE, -1).view(np.uint8)
    bits *= BITS
    return np.add.reduce(bits, axis=1, dtype=np.uint8).T.reshape(-1)


def _columns(values: Array, score: Score) -> Array:
    """Scores of values in C order; here and below memory is used again, as new memory costs more than the search."""
    return sortable(score(values, scratch("scores", values.shape, values.dtype)))


def _top(columns: Array, n: int, least: float | None = None) -> Mask:
    """The n largest along axis 0; with `least`, the smallest positive score, scores of 0 may be left out."""
    return _by_threshold(columns, n, least) if n <= 2 and 4 * n <= len(columns) else _by_rank(columns, n)


def _by_threshold(columns: Array, n: int, least: float | None) -> Mask:
    """The largest or the two largest along axis 0: those not below the n-th, which minima and maxima find."""
    row, dtype = columns.shape[1:], columns.dtype
    greatest, second, lesser = (scratch(name, row, dtype) for name in ("greatest", "second", "lesser"))
    if n == 1:
        threshold = columns.max(axis=0, out=greatest)
    else:
        np.maximum(columns[0], columns[1], out=greatest)
        threshold = np.minimum(columns[0], columns[1], out=second)
        for column in columns[2:]:
            np.minimum(greatest, column, out=lesser)
            np.maximum(threshold, lesser, out=threshold)
            np.maximum(greatest, column, out=greatest)
    if least is not None:
        np.maximum(threshold, least, out=threshold)
    kept = np.greater_equal(columns, threshold, out=scratch("kept", columns.shape, np.bool_))
    if np.add.reduce(kept.view(np.uint8), axis=0, dtype=np.uint8).max(initial=0) > n:  # equal scores at the threshold
        greater = np.greater(columns, threshold, out=scratch("wins", columns.shape, np.bool_))
        _keep_the_first(kept.view(np.uint8), greater.view(np.uint8), n)
    return kept


def _keep_the_first(kept: Array, greater: Array, n: int) -> None:
    """Along axis 0, of those kept (1, else 0) that are not greater than the threshold only the first, n in all."""
    room = n - np.add.reduce(greater, axis=0, dtype=np.uint8)
    kept ^= greater
    for equal in kept:
        np.minimum(equal, room, out=equal)
        room -= equal
    kept |= greater


def _by_rank(columns: Array, n: int) -> Mask:
    """The n largest along axis 0 by counting for each place the places that beat it.

    Place i is beaten by an earlier j when s[j] >= s[i], else beats it; m(m-1)/2 comparisons are several times
    faster than a partial sort of short groups.
    """
    m = len(columns)
    beaten_by, wins = (scratch(name, columns.shape, np.uint8) for name in ("beaten_by", "wins"))
    beaten_by[:] = np.arange(m - 1, -1, -1, dtype=np.uint8).reshape(m, *[1] * (columns.ndim - 1))
    for i in range(1, m):
        earlier = wins[:i]
        np.greater_equal(columns[:i], columns[i], out=earlier.view(np.bool_))
        beaten_by[i] += np.add.reduce(earlier, axis=0, dtype=np.uint8)
        beaten_by[:i] -= earlier
    return np.less(beaten_by, n, out=scratch("kept", columns.shape, np.bool_))
