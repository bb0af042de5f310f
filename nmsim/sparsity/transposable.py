"""Transposable masks: n:m along two axes at once, so that a weight and its transpose are both sparse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import combinations, product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmsim.errors import PatternError, unknown
from nmsim.sparsity.groups import Array, Mask, resolve
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.tiles import Places, Tiles, cancel_cycles, sweep

Method = Literal["greedy", "swap", "exact"]
Search = Callable[[Array, int], Mask]

METHODS = ("greedy", "swap", "exact")

_LARGEST = 1e300
"""Magnitudes below this have finite sums along any cycle of exchanges."""

_FEW_FILLINGS = 4
"""Tiles up to this size have so few fillings (90 at 2:4) that the exact search tries them all."""

_SCRATCH = 1 << 18
"""Elements of the tiles of one step, whose scratch arrays should stay in cache."""


def transposable_mask(
    array: ArrayLike,
    pattern: Pattern | str,
    method: Method = "greedy",
    axes: tuple[int, int] = (-2, -1),
    *,
    consecutive: bool = False,
    early_stop: bool = False,
) -> Mask:
    """The mask that keeps at most n elements in each row and column of every m by m tile, True where kept.

    The tiles lie on `axes` ([..., in, out] of a weight), so the mask is n:m along both. By method:

    - `greedy`: the elements of a tile by falling |x| (of equal ones the lower place first), each kept while its row
      and its column hold fewer than n. Rows and columns may stay short of n. It prunes at most twice the magnitude
      that must be pruned (the 2-approximation of Hubara et al. 2021, arXiv 2102.08124);
    - `swap`: the greedy mask with its rows and columns filled up to n, then pairs of kept elements exchanged for the
      other two corners of their rectangle while that keeps more (as TSENOR rounds, arXiv 2505.23949);
    - `exact`: the largest sum of |x| with n in every row and column, up to the rounding of sums in double precision:
      of all fillings for m <= 4, else by cancelling negative cycles of the residual graph until there is none
      (Klein 1967). Filling up may cost magnitude, so a greedy mask that is short of n can keep more.

    Two options are of the published code (itayhubara/AcceleratedSparseNeuralTraining). `consecutive` takes m²
    consecutive elements in memory order as a tile, which is not transposable for the array unless its last axis has
    m elements; `axes` are then unused. `early_stop` ends the greedy search of all tiles at the first rank whose
    element lies in a full row and a full column in every tile, so that a mask depends on the other tiles.

    Integers are compared as doubles. Raises PatternError for a pattern that is not n:m or dense, axes that do not
    exist or coincide, sizes that m does not divide, and values that are not finite real numbers below 1e300.
    """
    array, pattern = np.asarray(array), Pattern.parse(pattern)
    _check(array, pattern, method, early_stop)
    places = (0, 0) if consecutive else _two_axes(pattern, axes, array.ndim)
    if pattern.is_dense or array.size == 0:
        return np.ones(array.shape, dtype=np.bool_)
    n, m = pattern.n, pattern.m
    search = partial(_greedy, early_stop=True) if early_stop else _SEARCHES[method]
    if consecutive:
        _check_divides(m * m, array.size, "of the array", pattern)
        return _by_tiles(array.reshape(-1, m, 1, m), n, search, early_stop).reshape(array.shape)
    for place in places:
        _check_divides(m, array.shape[place], f"along axis {place}", pattern)
    moved = np.moveaxis(array, places, (-2, -1))
    kept = _by_tiles(moved.reshape(-1, m, moved.shape[-1] // m, m), n, search, early_stop)
    return np.ascontiguousarray(np.moveaxis(kept.reshape(moved.shape), (-2, -1), places))


def _by_tiles(bands: Array, n: int, search: Search, at_once: bool) -> Mask:
    """The mask of [bands, m, tiles, m]: what `search` keeps of sizes [m, m, tiles], some tiles at a time."""
    m = bands.shape[1]
    kept = np.empty(bands.shape, dtype=np.bool_)
    for band, column in [(slice(None), slice(None))] if at_once else _parts(*bands.shape):
        part = bands[band, :, column].transpose(1, 3, 0, 2)
        found = search(_sizes(part).reshape(m, m, -1), n)
        kept[band, :, column] = found.reshape(part.shape).transpose(2, 0, 3, 1)
    return kept


def _parts(bands: int, m: int, columns: int, _: int) -> Iterator[tuple[slice, slice]]:
    """Slices of the bands and of the tiles in a band, about `_SCRATCH` elements together."""
    tiles = max(1, _SCRATCH // m**2)
    step = max(1, tiles // columns)
    for band in range(0, bands, step):
        for column in range(0, columns, tiles):
            yield slice(band, band + step), slice(column, column + tiles)


def _sizes(values: Array) -> Array:
    """|x|, C-ordered: in single precision where that holds it, else in double."""
    narrow = values.dtype.kind == "b" or values.dtype in (np.float16, np.float32)
    return np.abs(values.astype(np.float32 if narrow else np.float64, order="C"))


def _greedy(sizes: Array, n: int, early_stop: bool = False) -> Mask:
    """The greedy mask of [m, m, tiles], one rank of all tiles at a time."""
    m, _, tiles = sizes.shape
    tile = np.arange(tiles)
    in_row, in_column = np.zeros((2, m * tiles), dtype=np.uint8)
    kept = np.zeros(m * m * tiles, dtype=np.bool_)
    for rank, place in enumerate(_falling(sizes)):
        row, column = place // m * tiles + tile, place % m * tiles + tile
        row_count, column_count = in_row[row], in_column[column]
        if early_stop and rank >= n and row_count.min() >= n and column_count.min() >= n:
            break
        fits = (row_count < n) & (column_count < n)
        in_row[row] = row_count + fits
        in_column[column] = column_count + fits
        kept[place * tiles + tile] = fits
    return kept.reshape(sizes.shape)


def _falling(sizes: Array) -> Places:
    """The places 0 to m² - 1 of each tile by falling size, of equal ones the lower first: [m², tiles]."""
    rows = np.ascontiguousarray(sizes.reshape(-1, sizes.shape[2]).T)
    if rows.dtype != np.float32:
        return np.ascontiguousarray(np.argsort(-rows, axis=1, kind="stable").T)
    # Magnitudes sort as their bits do; sorting (inverted bits, place) is several times faster than a stable argsort.
    keys = (~rows.view(np.uint32)).astype(np.uint64) << np.uint64(32)
    keys |= np.arange(rows.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    return (keys.T & np.uint64(0xFFFFFFFF)).astype(np.intp, order="C")


def _swapped(sizes: Array, n: int) -> Mask:
    return _improved(sizes, _filled(sizes, n), sweep)


def _exact(sizes: Array, n: int) -> Mask:
    """All fillings where they are few; else one sweep of swaps, which finds most of the gain, and then cycles."""
    if len(sizes) <= _FEW_FILLINGS:
        return _best_filling(sizes, n)
    start = _improved(sizes, _filled(sizes, n), sweep, rounds=1)
    return _improved(sizes.astype(np.float64), start, cancel_cycles)


def _improved(sizes: Array, kept: Mask, step: Callable[[Tiles], Mask], rounds: int = 0) -> Mask:
    """`kept` after that many rounds of `step`, each on the tiles that the last one changed; 0: until none changes."""
    tiles, active = Tiles.of(sizes, kept), np.arange(sizes.shape[2])
    while True:
        changed = np.flatnonzero(step(tiles))
        if tiles.kept is not kept:
            kept[:, :, active] = tiles.kept
        rounds -= 1
        if not rounds or not changed.size:
            return kept
        active, tiles = active[changed], tiles.take(changed)


def _best_filling(sizes: Array, n: int) -> Mask:
    """The filling of most magnitude among all with n in every row and column, by one product with all tiles."""
    m, _, tiles = sizes.shape
    fillings = _fillings(n, m)
    best = (sizes.reshape(m * m, tiles).T.astype(np.float64) @ fillings.T).argmax(axis=1)
    return fillings.astype(np.bool_)[best].T.reshape(sizes.shape)


@lru_cache
def _fillings(n: int, m: int) -> NDArray[np.float64]:
    """All m by m matrices of 0 and 1 with n ones in every row and column, flat: [fillings, m²]."""
    rows = [[float(j in chosen) for j in range(m)] for chosen in combinations(range(m), n)]
    candidates = np.array(list(product(rows, repeat=m)))
    return candidates[(candidates.sum(axis=1) == n).all(axis=1)].reshape(-1, m * m)


def _filled(sizes: Array, n: int) -> Mask:
    """The greedy mask with every row and column filled up to n.

    A short row i and a short column j gain one element each when a kept (a, b) gives way to (i, b) and (a, j), the
    pair that costs least; there is always one, as row a is full and row i is not. (i, j) itself is kept already.
    """
    kept = _greedy(sizes, n)
    m = len(sizes)
    while True:
        in_row, in_column = kept.sum(axis=1), kept.sum(axis=0)
        short = np.flatnonzero((in_row < n).any(axis=0))
        if not short.size:
            return kept
        i, j = (in_row[:, short] < n).argmax(axis=0), (in_column[:, short] < n).argmax(axis=0)
        size, full, tile = sizes[:, :, short], kept[:, :, short], np.arange(short.size)
        gain = size[i, :, tile].T + size[:, j, tile][:, None] - size
        gain[~full | full[i, :, tile].T | full[:, j, tile][:, None]] = -np.inf
        a, b = divmod(gain.reshape(m * m, -1).argmax(axis=0), m)
        kept[a, b, short] = False
        kept[i, b, short] = kept[a, j, short] = True


def _check(array: Array, pattern: Pattern, method: str, early_stop: bool) -> None:
    if method not in METHODS:
        raise PatternError(unknown("method", method, METHODS))
    if early_stop and method != "greedy":
        raise PatternError(f"early_stop is of the method 'greedy', not of {method!r}")
    if pattern.kind not in ("nm", "dense"):
        raise PatternError(f"a transposable mask is n:m or dense, not {pattern}")
    if array.dtype.kind not in "biuf":
        raise PatternError(f"a mask needs real numbers, not {array.dtype}")
    if array.dtype.kind == "f" and array.size:
        with np.errstate(invalid="ignore"):
            least, most = float(array.min()), float(array.max())
        if not (least > -_LARGEST and most < _LARGEST):
            raise PatternError(f"values must be finite and of a magnitude below {_LARGEST:g}, not {least} to {most}")


def _two_axes(pattern: Pattern, axes: tuple[int, int], ndim: int) -> tuple[int, int]:
    try:
        first, second = (resolve(pattern, axis, ndim)[1] for axis in axes)
    except (TypeError, ValueError) as error:
        if isinstance(error, PatternError):
            raise
        raise PatternError(f"a transposable mask has two axes, not {axes!r:.60}") from None
    if first == second:
        raise PatternError(f"a transposable mask has two axes, not twice axis {first}")
    return first, second


def _check_divides(size: int, length: int, where: str, pattern: Pattern) -> None:
    if length % size:
        raise PatternError(
            f"a transposable {pattern} mask needs whole {pattern.m} by {pattern.m} tiles: "
            f"{size} does not divide the {length} elements {where}"
        )


_SEARCHES: dict[Method, Search] = {"greedy": _greedy, "swap": _swapped, "exact": _exact}
