"""Series of structured terms: an array as a sum of n:m arrays, each the best of what the terms before it left.

TASD (arXiv 2403.07953) runs a matrix that has no pattern, a weight or an activation, on hardware for n:m: the
product is distributive, so each term is multiplied on its own and the results are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nmsim.errors import PatternError, ShapeError
from nmsim.sparsity.groups import Array, resolve
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.pattern import DENSE, Pattern

Patterns = Iterable[Pattern | str] | Pattern | str
"""The patterns of the terms of a series, in order; one alone or a text such as `2:4 + 1:8`."""


@dataclass(frozen=True)
class Series:
    """Terms of one array along `axis`, no two of them non-zero at the same place.

    `residual_norms` are the Frobenius norms of what was left before the first and after each term.
    """

    patterns: tuple[Pattern, ...]
    axis: int
    terms: tuple[Array, ...]
    residual_norms: tuple[float, ...]

    @property
    def density(self) -> float:
        """The elements that hardware multiplies, over those of the array: the sum of the densities of the terms."""
        return _density(self.patterns, self.terms[0].shape[self.axis])

    @property
    def kept_energy(self) -> float:
        """The share of the sum of squares of the array that the terms hold; 1 for an array of zeros."""
        whole, left = self.residual_norms[0], self.residual_norms[-1]
        return 1.0 - (left / whole) ** 2 if whole else 1.0

    def sum(self) -> Array:
        """The approximation of the array: the sum of the terms."""
        return sum(self.terms[1:], start=self.terms[0].copy())

    def __str__(self) -> str:
        return " + ".join(map(str, self.patterns))


Quality = Callable[[Series], float]
"""How good an approximation is, in the unit of its threshold; higher is better."""


def decompose(array: ArrayLike, patterns: Patterns, axis: int = -1) -> Series:
    """The series of an array: each term keeps the largest of the residual that its pattern allows along `axis`.

    Terms with the same m hold together what one mask with the sum of their n keeps. Patterns are n:m, V:n:m or
    dense; their own axes are not used. Raises PatternError for other kinds, no patterns, an axis that does not
    exist and values that are not finite real numbers; ShapeError for an array without elements.
    """
    residual = np.asarray(array)
    if residual.size == 0:
        raise ShapeError(f"a series needs an array with elements, not {list(residual.shape)}")
    wanted, axis = _along(_parse(patterns), axis, residual.ndim)
    terms, norms = [], [_norm(residual)]
    zero = residual.dtype.type(0)
    for pattern in wanted:
        mask = magnitude_mask(residual, pattern)
        terms.append(np.where(mask, residual, zero))
        residual = np.where(mask, zero, residual)
        norms.append(_norm(residual))
    return Series(wanted, axis, tuple(terms), tuple(norms))


def product(a: Series | ArrayLike, b: Series | ArrayLike) -> Array:
    """A·B with either a series: the sum of the products of their terms, as hardware for n:m executes it.

    It is the product of the sums, rounding apart. Raises ShapeError for operands that cannot be multiplied.
    """
    left, right = (x.terms if isinstance(x, Series) else (np.asarray(x),) for x in (a, b))
    try:
        first, *others = (s @ t for s in left for t in right)
    except ValueError:
        raise ShapeError(f"no product of {list(left[0].shape)} and {list(right[0].shape)}") from None
    return sum(others, start=first)


def choose_series(
    array: ArrayLike,
    menu: Iterable[Patterns],
    threshold: float = 0.99,
    quality: Quality | None = None,
    axis: int = -1,
) -> Series:
    """The series of lowest density whose quality is at least `threshold`; the dense array where none of the menu is.

    `menu` holds the patterns of each candidate; between equal densities the earlier wins, and one that is not less
    dense than the array is no candidate. `quality` is by default the share of energy kept, `Series.kept_energy`; a
    function of the user may run a network with `series.sum()`. Choose on a sample of an activation, then decompose
    what comes by `series.patterns`. Raises as `decompose`, and ShapeError for a threshold that is not finite.
    """
    if not math.isfinite(threshold):
        raise ShapeError(f"a threshold is a finite number, not {threshold}")
    array = np.asarray(array)
    measure = quality or (lambda series: series.kept_energy)
    for patterns in _by_density(array, menu, axis):
        series = decompose(array, patterns, axis)
        if measure(series) >= threshold:
            return series
    return decompose(array, DENSE, axis)


def choose_layers(
    arrays: Mapping[str, ArrayLike],
    menu: Iterable[Patterns],
    threshold: float,
    quality: Callable[[Mapping[str, Array]], float],
    axis: int = -1,
) -> dict[str, Series]:
    """A series for each of several arrays by name, layer after layer in their order, greedily.

    Each gets the first of the menu, by density, with which `quality` of all arrays is at least `threshold`: those
    before it as chosen, those after it as given. `quality` takes the arrays by name, and is for TASD the accuracy of
    the network, with 99 % of that of the dense network as its threshold. Raises as `choose_series`.
    """
    current = {name: np.asarray(array) for name, array in arrays.items()}
    candidates = [_parse(patterns) for patterns in menu]
    chosen = {}
    for name in current:

        def with_this(series: Series, name: str = name) -> float:
            return quality({**current, name: series.sum()})

        chosen[name] = choose_series(current[name], candidates, threshold, with_this, axis)
        current[name] = chosen[name].sum()
    return chosen


def _by_density(array: Array, menu: Iterable[Patterns], axis: int) -> list[tuple[Pattern, ...]]:
    """The candidates that are less dense than the array, by density."""
    parsed = [_along(_parse(patterns), axis, array.ndim) for patterns in menu]
    costs = [(_density(patterns, array.shape[along]), patterns) for patterns, along in parsed]
    return [patterns for cost, patterns in sorted(costs, key=lambda pair: pair[0]) if cost < 1]


def _parse(patterns: Patterns) -> tuple[Pattern, ...]:
    if isinstance(patterns, Pattern):
        patterns = (patterns,)
    parts = patterns.split("+") if isinstance(patterns, str) else patterns
    found = tuple(Pattern.parse(part) for part in parts)
    if not found:
        raise PatternError("a series has at least one pattern; write it as ['2:4', '1:8'] or '2:4 + 1:8'")
    if loose := [str(p) for p in found if not (p.has_groups or p.is_dense)]:
        raise PatternError(f"no term of a series: {', '.join(loose)}; terms are n:m, V:n:m or dense")
    return found


def _along(patterns: tuple[Pattern, ...], axis: int, ndim: int) -> tuple[tuple[Pattern, ...], int]:
    along = resolve(patterns[0], axis, ndim)[1]
    return tuple(pattern.along(along) for pattern in patterns), along


def _density(patterns: tuple[Pattern, ...], length: int) -> float:
    return sum(pattern.density_along(length) for pattern in patterns)


def _norm(array: Array) -> float:
    if array.dtype.kind not in "biuf":
        raise PatternError(f"a series needs real numbers, not {array.dtype}")
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(array.astype(np.float64, copy=False).ravel()))
    if not math.isfinite(norm):
        raise PatternError("a series needs finite values; some are NaN, infinite or too large to be squared")
    return norm
