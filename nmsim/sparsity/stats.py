"""Statistics of masks: energy kept, overlap of two masks, its exact expectation, and churn."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from nmsim.errors import PatternError, ShapeError
from nmsim.sparsity.groups import Array, Mask


def kept_energy(array: ArrayLike, mask: ArrayLike) -> float:
    """The share of the sum of squares of an array that a mask of its shape keeps; 1 for an array of zeros."""
    values, kept = np.asarray(array), _as_mask(mask)
    _same_shape(values, kept)
    energy = np.square(np.abs(values), dtype=np.float64)
    total = float(energy.sum())
    return float(energy[kept].sum()) / total if total else 1.0


def overlap(mask_a: ArrayLike, mask_b: ArrayLike) -> dict[str, float]:
    """The shares of elements kept by `both`, `only_a`, `only_b` and `neither` of two masks; they add to 1.

    Raises ShapeError for masks of different shapes or without elements.
    """
    a, b = _as_mask(mask_a), _as_mask(mask_b)
    _same_shape(a, b)
    if a.size == 0:
        raise ShapeError("the overlap of masks without elements is not defined")
    both, in_a, in_b = (int(np.count_nonzero(x)) for x in (a & b, a, b))
    counts = {"both": both, "only_a": in_a - both, "only_b": in_b - both, "neither": a.size - in_a - in_b + both}
    return {name: count / a.size for name, count in counts.items()}


def both_kept_probability(n: int, m: int) -> Fraction:
    """The exact chance that a weight is kept by both an n:m mask along its row and one along its column.

    For independent, identically distributed weights a row group and a column group share this weight only, so
    given its magnitude quantile u the two events are independent, each of chance
    p(u) = sum_{k<n} C(m-1, k) (1-u)^k u^(m-1-k). The result is the integral of p(u)^2 over [0, 1], taken term by
    term: the integral of (1-u)^s u^(2m-2-s) is 1 / ((2m-1) C(2m-2, s)). Raises PatternError unless 1 <= n <= m.
    """
    if not 1 <= n <= m:
        raise PatternError(f"not a pattern: {n}:{m}; n:m needs 1 <= n <= m")
    terms = (Fraction(comb(m - 1, j) * comb(m - 1, k), comb(2 * m - 2, j + k)) for j in range(n) for k in range(n))
    return sum(terms, Fraction(0)) / (2 * m - 1)


def mask_churn(before: ArrayLike, after: ArrayLike) -> float:
    """The share of the entries kept before that are no longer kept after; 0 when none were kept.

    Raises ShapeError for masks of different shapes.
    """
    old, new = _as_mask(before), _as_mask(after)
    _same_shape(old, new)
    kept = int(np.count_nonzero(old))
    return int(np.count_nonzero(old & ~new)) / kept if kept else 0.0


def _as_mask(mask: ArrayLike) -> Mask:
    return np.asarray(mask).astype(np.bool_, copy=False)


def _same_shape(a: Array, b: Array) -> None:
    if a.shape != b.shape:
        raise ShapeError(f"shapes differ: {list(a.shape)} and {list(b.shape)}")
