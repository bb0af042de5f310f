"""Channel permutations: an order of the input channels in which n:m pruning keeps more of a weight's magnitude."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, combinations
from math import prod
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmsim.errors import PatternError, UnsupportedError, unknown
from nmsim.sparsity.groups import Array
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.splits import TOTALS, kept_by_exchange, kept_by_splits, splits_of, top_sums

Method = Literal["exhaustive", "swap", "random"]
Order = NDArray[np.int64]
Numbers = NDArray[np.float64]

METHODS = get_args(Method)
_ROUNDING = 1e-12
"""A gain below this share of what the group keeps may be rounding of sums in double precision."""


@dataclass(frozen=True)
class Permutation:
    """An order of the channels, and the magnitude that pruning keeps with it.

    `matrix[:, permutation]` is the matrix to prune; `magnitude` is the sum of |x| kept of it, `start` that of the
    matrix as it was given, `bound` that of the best share n/m of every row, which no order can exceed.
    """

    permutation: Order
    magnitude: float
    start: float
    bound: float

    @property
    def efficacy(self) -> float:
        """The share of the avoidable loss that is avoided, (lost - lost at start) / (lost at bound - lost at start).

        1 where nothing could be gained (apex contrib/sparsity/permutation_tests; Pool and Yu, NeurIPS 2021).
        """
        return (self.magnitude - self.start) / (self.bound - self.start) if self.bound > self.start else 1.0


def channel_matrix(weight: ArrayLike, axis: int = 1) -> Array:
    """A weight as [rows, channels] with `axis` as its channels: [out, in, kh, kw] gives [out * kh * kw, in]."""
    weight = np.asarray(weight)
    if not -weight.ndim <= axis < weight.ndim:
        raise PatternError(f"no axis {axis} to permute: the weight has {weight.ndim} axes")
    moved = np.moveaxis(weight, axis, -1)
    return moved.reshape(prod(moved.shape[:-1]), moved.shape[-1])


def kept_magnitude(matrix: ArrayLike, pattern: Pattern | str = "2:4", permutation: ArrayLike | None = None) -> float:
    """The sum of |x| that n:m along the permuted channels keeps of a matrix [rows, channels], in double precision.

    Raises PatternError for another kind of pattern, channels that are no multiple of m, an order that is no
    permutation of them, and values that are not finite real numbers.
    """
    sizes, pattern = _checked(matrix, pattern)
    if permutation is None:
        return _kept(sizes, pattern)
    order = np.asarray(permutation)
    if order.ndim != 1 or not np.array_equal(np.sort(order), np.arange(len(sizes))):
        raise PatternError(f"not a permutation of {len(sizes)} channels: {order.tolist()!r:.60}")
    return _kept(sizes[order], pattern)


def search_permutation(
    matrix: ArrayLike,
    pattern: Pattern | str = "2:4",
    method: Method = "exhaustive",
    stripes: int = 2,
    escapes: int = 0,
    rng: np.random.Generator | None = None,
    candidates: int = 1000,
    min_gain: float = 0.0,
) -> Permutation:
    """An order of the channels of a matrix [rows, channels] in which n:m keeps more magnitude, and never less.

    A stripe is m neighbouring channels. By method:

    - `exhaustive`: of each group of `stripes` stripes every split of its channels into stripes (35 for two of 2:4,
      5775 for three); the best splits are applied in order of their gain to groups that share no stripe, and the
      groups that touch a changed stripe are evaluated anew, until no split gains more than `min_gain`;
    - `swap`: the same with exchanges of one channel between two stripes;
    - `random`: the best of `candidates` random orders and of the order given.

    Each of `escapes` attempts leaves the optimum that was reached by moving channels around a cycle of random
    stripes, one more than a group has, and keeps what the search finds from there if that is better. Gains are
    compared in single precision; each that is applied was confirmed in double. Rules: NVIDIA/apex contrib/sparsity/
    permutation_search_kernels (whose `min_gain` is 1e-4 at any scale of the weights, and whose escapes differ);
    Pool and Yu, Channel Permutations for N:M Sparsity, NeurIPS 2021.

    Raises PatternError as `kept_magnitude` does and for numbers that make no search, UnsupportedError for an unknown
    method and for groups with more than MAX_SPLITS splits.
    """
    sizes, pattern = _checked(matrix, pattern)
    _check_search(method, stripes, escapes, candidates, min_gain)
    if method == "random":
        order = _best_of_random(sizes, pattern, _needed(rng, "random orders"), candidates)
    else:
        search = _Search(sizes, pattern, 2 if method == "swap" else stripes, method == "swap", min_gain)
        search.climb(np.arange(search.count))
        for _ in range(escapes):
            search.escape(_needed(rng, "escapes"))
        order = search.order
    bound = _kept(sizes, Pattern.fan_in(pattern.kept(len(sizes)))) if len(sizes) else 0.0
    return Permutation(order, _kept(sizes[order], pattern), _kept(sizes, pattern), bound)


class _Search:
    """A descent: the order of the channels so far, and for every group of stripes its best split and its gain."""

    def __init__(self, sizes: Array, pattern: Pattern, width: int, swaps: bool, min_gain: float):
        self.sizes, self.pattern, self.min_gain = sizes, pattern, min_gain
        self.count = len(sizes) // pattern.m
        self.width = min(width, max(2, self.count))
        self.scale = float(sizes.max(initial=0)) or 1.0
        self.scaled = (sizes / self.scale).astype(np.float32)
        self.order: Order = np.arange(len(sizes))
        self.groups = np.array(list(combinations(range(self.count), self.width)), np.int64).reshape(-1, self.width)
        self.moves = range(1, 2) if swaps else range(1, pattern.m // 2 + 1)
        self.splits = splits_of(self.width, pattern.m, self.moves)
        self.gains = np.zeros(len(self.groups))
        self.choice = np.zeros(len(self.groups), dtype=np.int64)

    def climb(self, changed: Array) -> None:
        """Apply gains until there is none; `changed` are the stripes whose groups are out of date."""
        while True:
            self._evaluate(np.flatnonzero(np.isin(self.groups, changed).any(axis=1)))
            chosen = _disjoint(self.groups, self.gains, self.min_gain / self.scale)
            if not chosen.size:
                return
            changed = self._apply(chosen)

    def escape(self, rng: np.random.Generator) -> None:
        """Climb again from a random cycle of channels, and come back if that ends no higher."""
        if self.count <= self.width:
            return
        before = self.order.copy(), self.gains.copy(), self.choice.copy()
        magnitude = _kept(self.sizes[self.order], self.pattern)
        stripes = rng.choice(self.count, self.width + 1, replace=False)
        places = stripes * self.pattern.m + rng.integers(0, self.pattern.m, len(stripes))
        self.order[places] = self.order[np.roll(places, 1)]
        self.climb(stripes)
        if _kept(self.sizes[self.order], self.pattern) <= magnitude:
            self.order, self.gains, self.choice = before

    def _evaluate(self, stale: Order) -> None:
        """The best splits of these groups as the channels now stand."""
        stripes = self.scaled[self.order].reshape(self.count, self.pattern.m, self.scaled.shape[1])
        whole = top_sums(stripes, [tuple(range(self.pattern.m))], self.pattern.n)[-1].sum(axis=(1, 2))
        step = max(1, TOTALS // len(self.splits))
        for some in (stale[start : start + step] for start in range(0, len(stale), step)):
            groups = self.groups[some]
            if self.width == 2:
                kept = np.hstack([kept_by_exchange(stripes, groups, self.pattern.n, k) for k in self.moves])
            else:
                kept = kept_by_splits(stripes, groups, self.pattern.n, self.splits)
            self.choice[some] = kept.argmax(axis=1)
            self.gains[some] = kept.max(axis=1) - whole[groups].sum(axis=1)

    def _apply(self, chosen: Order) -> Array:
        """Split those of the chosen groups, which share no stripe, that gain in double precision; what changed."""
        stripes = self.order.reshape(self.count, self.pattern.m)
        groups = self.groups[chosen]
        old = stripes[groups].reshape(len(chosen), -1)
        new = np.take_along_axis(old, self.splits[self.choice[chosen]], axis=1)
        kept = _kept_of_each(self.sizes[old], self.pattern)
        gain = _kept_of_each(self.sizes[new], self.pattern) - kept
        gained = gain > np.maximum(self.min_gain, _ROUNDING * kept)
        self.gains[chosen[~gained]] = 0.0
        stripes[groups[gained]] = new[gained].reshape(-1, *groups.shape[1:], self.pattern.m)
        return groups[gained]


def _disjoint(groups: Array, gains: Array, least: float) -> Array:
    """Groups in order of gain, those that share a stripe with an earlier one left out."""
    best = np.argsort(-gains, kind="stable")
    best = best[gains[best] > least]
    used: set[int] = set()
    chosen = []
    for index, stripes in zip(best.tolist(), groups[best].tolist(), strict=True):
        if used.isdisjoint(stripes):
            used.update(stripes)
            chosen.append(index)
    return np.array(chosen, dtype=np.int64)


def _best_of_random(sizes: Array, pattern: Pattern, rng: np.random.Generator, candidates: int) -> Order:
    drawn = (rng.permutation(len(sizes)) for _ in range(candidates))
    return max(chain([np.arange(len(sizes))], drawn), key=lambda order: _kept(sizes[order], pattern))


def _kept(sizes: Array, pattern: Pattern) -> float:
    """What the pattern keeps along the channels of |x| as [channels, rows]."""
    return float(_kept_of_each(sizes[None], pattern)[0])


def _kept_of_each(sizes: Array, pattern: Pattern) -> Numbers:
    """The same of each of [count, channels, rows]."""
    kept = magnitude_mask(sizes, pattern, axis=1)
    return np.where(kept, sizes, 0).sum(axis=(1, 2), dtype=np.float64)


def _checked(matrix: ArrayLike, pattern: Pattern | str) -> tuple[Array, Pattern]:
    """|x| as [channels, rows], and the pattern."""
    matrix, pattern = np.asarray(matrix), Pattern.parse(pattern)
    if pattern.kind != "nm":
        raise PatternError(f"channels are permuted for n:m with n < m, not for {pattern}")
    if matrix.ndim != 2 or matrix.shape[1] % pattern.m:
        raise PatternError(f"not [rows, channels] with channels in groups of {pattern.m}: {matrix.shape}")
    if matrix.dtype.kind not in "biuf" or not np.isfinite(matrix).all():
        raise PatternError(f"magnitudes need finite real numbers, not {matrix.dtype} with NaN or infinity")
    single = matrix.dtype.kind == "f" and matrix.dtype.itemsize <= 4
    return np.ascontiguousarray(np.abs(matrix.astype(np.float32 if single else np.float64)).T), pattern


def _check_search(method: str, stripes: int, escapes: int, candidates: int, min_gain: float) -> None:
    if method not in METHODS:
        raise UnsupportedError(unknown("method of permutation search", method, METHODS))
    if stripes < 2 or escapes < 0 or candidates < 0 or not 0 <= min_gain < np.inf:
        raise PatternError(
            f"no search: {stripes} stripes (at least 2), {escapes} escapes, {candidates} candidates, "
            f"min_gain {min_gain} (at least 0 each)"
        )


def _needed(rng: np.random.Generator | None, what: str) -> np.random.Generator:
    if rng is None:
        raise PatternError(f"{what} are drawn from a numpy.random.Generator: pass one as rng")
    return rng
