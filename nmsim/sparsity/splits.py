"""Splits of the channels of a few stripes into stripes, and what n:m keeps of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb, factorial

import numpy as np

from nmsim.errors import UnsupportedError
from nmsim.sparsity.groups import Array, blocks

MAX_SPLITS = 10_000
"""Splits of one group of stripes beyond which an exhaustive search is refused: 2 stripes of 8 have 6435."""

TOTALS = 1 << 25
"""Gains held at once, of some groups by all splits."""


_ROWS = 1024
"""Rows of the matrix taken at once, which bounds the tables of subsets and keeps scratch arrays in cache."""


def kept_by_exchange(stripes: Array, pairs: Array, n: int, k: int) -> Array:
    """What each pair of stripes [count, m, rows] keeps after each exchange of k channels: [pairs, splits].

    m - k channels S of the first stripe and k channels T of the second make one new stripe, their complements the
    other. Splits are S × T in the order of `combinations`, in which the complements stand in reverse.
    """
    m, rows = stripes.shape[1:]
    ways = comb(m, k)
    total = np.zeros((len(pairs), ways, ways), dtype=stripes.dtype)
    for start in range(0, rows, _ROWS):
        some = stripes[:, :, start : start + _ROWS]
        most, fewest = _Subsets(some, m - k, n), _Subsets(some, k, n)
        for here in blocks(len(pairs), ways**2 * some.shape[2]):
            first, second = pairs[here].T
            kept = _kept_by_unions(most, fewest, first, second)
            other = kept if 2 * k == m else _kept_by_unions(fewest, most, first, second)
            total[here] += kept + other[:, ::-1, ::-1]
    return total.reshape(len(pairs), ways**2)


class _Subsets:
    """All subsets of `size` channels of each stripe: what the fewest of them that any union keeps add up to, and more.

    A union with the m - size others of another stripe keeps at least `low` = n - (m - size) and at most `high` of these
    channels: `base` [stripes, subsets] sums the `low` largest, `more[i]` [stripes, subsets, rows] is what the next
    i + 1 add.
    """

    def __init__(self, stripes: Array, size: int, n: int):
        m = stripes.shape[1]
        low, high = max(0, n - (m - size)), min(n, size)
        sums = top_sums(stripes, list(combinations(range(m), size)), high)
        self.base = sums[low].sum(axis=2)
        self.more = sums[low + 1 :] - sums[low]


def top_sums(stripes: Array, subsets: Sequence[tuple[int, ...]], high: int) -> Array:
    """Sums of the 0, 1, … `high` largest of each subset of channels: [high + 1, stripes, subsets, rows]."""
    count, _, rows = stripes.shape
    places = np.array(subsets)
    sums = np.zeros((high + 1, count, len(subsets), rows), dtype=stripes.dtype)
    for i in range(places.shape[1]):
        sizes = stripes[:, places[:, i]]
        for j in range(high, 0, -1):
            np.maximum(sums[j], sums[j - 1] + sizes, out=sums[j])
    return sums


def _kept_by_unions(left: _Subsets, right: _Subsets, first: Array, second: Array) -> Array:
    """What n:m keeps of every union of a subset of `first` and one of `second`: [pairs, left, right].

    The n largest of a union are the i largest of one part and the n - i largest of the other, for the i of the
    greatest sum.
    """
    a, b = left.more[:, first, :, None], right.more[:, second, None]
    last = len(a) - 1
    most = np.maximum(a[last], b[last])
    for i in range(last):
        np.maximum(most, a[i] + b[last - 1 - i], out=most)
    rest = most @ np.ones(most.shape[-1], dtype=most.dtype)
    return rest + left.base[first][:, :, None] + right.base[second][:, None]


def kept_by_splits(stripes: Array, groups: Array, n: int, splits: Array) -> Array:
    """What each group of stripes [count, m, rows] keeps after each split: [groups, splits]."""
    (m, rows), channels = stripes.shape[1:], splits.shape[1]
    subsets = list(combinations(range(channels), m))
    index = {subset: i for i, subset in enumerate(subsets)}
    parts = np.array([index[tuple(part)] for part in splits.reshape(-1, m).tolist()]).reshape(len(splits), -1)
    total = np.empty((len(groups), len(splits)), dtype=stripes.dtype)
    for here in blocks(len(groups), len(subsets) * rows):
        some = stripes[groups[here]].reshape(-1, channels, rows)
        total[here] = top_sums(some, subsets, n)[n].sum(axis=2)[:, parts].sum(axis=2)
    return total


def splits_of(width: int, m: int, moves: range) -> Array:
    """The order of a group's channels after each split: for a pair the exchanges of each number of channels."""
    count = (
        m * m if (width, len(moves)) == (2, 1) else factorial(width * m) // (factorial(m) ** width * factorial(width))
    )
    if count > MAX_SPLITS:
        raise UnsupportedError(
            f"{width} stripes of {m} channels have {count} splits, more than {MAX_SPLITS}; "
            "method 'swap' looks only at exchanges of one channel between two stripes"
        )
    if width > 2:
        return np.array(list(_partitions(tuple(range(width * m)), m)))
    first, second = range(m), range(m, 2 * m)
    parts = [kept + moved for k in moves for kept in combinations(first, m - k) for moved in combinations(second, k)]
    return np.array([(*part, *sorted({*first, *second}.difference(part))) for part in parts])


def _partitions(channels: tuple[int, ...], m: int) -> Iterator[tuple[int, ...]]:
    if not channels:
        yield ()
    for others in combinations(channels[1:], m - 1):
        part = (*channels[:1], *others)
        for rest in _partitions(tuple(c for c in channels if c not in part), m):
            yield part + rest
