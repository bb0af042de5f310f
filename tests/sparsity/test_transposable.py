"""Transposable masks: cases counted by hand, the methods against a loop and linear programmes, laws, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from nmsim.errors import PatternError
from nmsim.sparsity import transposable
from nmsim.sparsity.detect import satisfies
from nmsim.sparsity.transposable import METHODS, transposable_mask

ROUNDING = 1e-12
"""Sums of a tile in two orders."""

patterns = st.integers(2, 9).flatmap(lambda m: st.tuples(st.integers(1, m - 1), st.just(m)))
seeds = st.integers(0, 2**32)
quick = settings(deadline=None, max_examples=40)


def kept_by(tiles, mask):
    return np.where(mask, np.abs(tiles), 0).sum(axis=(-2, -1), dtype=np.float64)


def looped_greedy(tile, n):
    """The rule element by element: by falling magnitude, of equal ones the first."""
    mask = np.zeros(tile.shape, bool)
    for place in sorted(range(tile.size), key=lambda p: (-abs(tile.flat[p]), p)):
        i, j = divmod(place, len(tile))
        mask[i, j] = mask[i].sum() < n and mask[:, j].sum() < n
    return mask


def most_kept(tile, n, exactly=True):
    """The optimum by a linear programme, whose matrix is totally unimodular."""
    m = len(tile)
    lines = np.vstack([np.kron(np.eye(m), np.ones(m)), np.kron(np.ones(m), np.eye(m))])
    bounds = {"A_eq": lines, "b_eq": np.full(2 * m, n)} if exactly else {"A_ub": lines, "b_ub": np.full(2 * m, n)}
    return -linprog(-np.abs(tile).ravel().astype(np.float64), bounds=(0, 1), method="highs", **bounds).fun


def tiles_of(seed, count, m, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((count, m, m)).astype(dtype)


def test_by_hand():
    """1:2 of [[3, 2], [2, 0]]: the greedy takes 3, which leaves only 0 of the rest; the other diagonal has 2 + 2."""
    tile = np.array([[3, -2], [-2, 0]])
    assert transposable_mask(tile, "1:2").tolist() == [[True, False], [False, True]]
    for method in ("swap", "exact"):
        assert transposable_mask(tile, "1:2", method).tolist() == [[False, True], [True, False]]


def test_filling_up_may_cost():
    """2:3 of [[9, 0, 0], [0, 1, 1], [0, 1, 1]]: the greedy keeps 9 + 4 with one element in row and column 0.

    A full mask prunes one element of each row and column: with the 9 kept, two of the zeros and a 1, so 12 are kept.
    """
    tile = np.array([[9, 0, 0], [0, 1, 1], [0, 1, 1]])
    assert kept_by(tile, transposable_mask(tile, "2:3")) == 13
    for method in ("swap", "exact"):
        mask = transposable_mask(tile, "2:3", method)
        assert kept_by(tile, mask) == 12
        assert (mask.sum(axis=0) == 2).all()
        assert (mask.sum(axis=1) == 2).all()


def test_early_stop_depends_on_the_other_tiles():
    """1:3, the tile's 7 lies in the row of its 9 and the column of its 8: alone, the search ends there.

    The greedy then keeps the 6 in the corner too, as does the early stop beside a tile whose third is free.
    """
    tile = np.array([[9, 7, 1], [2, 8, 3], [4, 5, 6]])
    other = np.diag([9, 8, 7])
    assert transposable_mask(tile, "1:3").tolist() == np.eye(3, dtype=bool).tolist()
    assert transposable_mask(tile, "1:3", early_stop=True).tolist() == np.diag([True, True, False]).tolist()
    assert transposable_mask(np.stack([tile, other]), "1:3", early_stop=True)[0].tolist() == np.eye(3).tolist()


def test_early_stop_needs_a_full_row_and_a_full_column():
    """1:3: row 0 is full at the 8 and row 2 at the 6, but column 1 is open; at the 5 both are full."""
    tile = np.array([[9, 8, 1], [2, 3, 4], [5, 6, 7]])
    for array in (tile, tile.T):
        assert transposable_mask(array, "1:3", early_stop=True).tolist() == np.diag([True, False, True]).tolist()


def test_consecutive_elements_are_no_tiles_of_the_array():
    """1:2 of two rows 4 3 2 1: each is the tile [[4, 3], [2, 1]], which keeps 4 and 1, so columns 0 and 3 keep both."""
    array = np.array([[4, 3, 2, 1], [4, 3, 2, 1]])
    mask = transposable_mask(array, "1:2", consecutive=True)
    assert mask.tolist() == [[True, False, False, True]] * 2
    assert not satisfies(mask, "1:2", axis=0)


@quick
@given(seeds, patterns, st.sampled_from([np.int8, np.float16, np.float32, np.float64]))
def test_greedy_is_the_rule_element_by_element(seed, pattern, dtype):
    """Few distinct values, so that many are equal."""
    n, m = pattern
    tiles = np.random.default_rng(seed).integers(-4, 5, (3, m, m)).astype(dtype)
    found = transposable_mask(tiles, f"{n}:{m}")
    np.testing.assert_array_equal(found, [looped_greedy(tile, n) for tile in tiles])


@quick
@given(seeds, patterns, st.sampled_from([1.0, 1e-300, 1e290]), st.booleans())
def test_exact_is_the_optimum(seed, pattern, scale, few_values):
    n, m = pattern
    tiles = tiles_of(seed, 3, m)
    tiles = np.round(tiles) if few_values else tiles
    mask = transposable_mask(tiles * scale, f"{n}:{m}", "exact")
    best = [most_kept(tile, n) for tile in tiles]
    np.testing.assert_allclose(kept_by(tiles, mask), best, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(("n", "m"), [(1, 16), (8, 16), (13, 16), (16, 32)])
def test_exact_is_the_optimum_of_large_tiles(n, m):
    tiles = tiles_of(n, 2, m, np.float32)
    mask = transposable_mask(tiles, f"{n}:{m}", "exact")
    np.testing.assert_allclose(kept_by(tiles, mask), [most_kept(tile, n) for tile in tiles], rtol=ROUNDING)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)])
def test_cycles_find_the_best_of_all_fillings(monkeypatch, n, m):
    tiles = tiles_of(0, 2000, m)
    best = transposable_mask(tiles, f"{n}:{m}", "exact")
    monkeypatch.setattr(transposable, "_FEW_FILLINGS", 0)
    np.testing.assert_array_equal(transposable_mask(tiles, f"{n}:{m}", "exact"), best)


@quick
@given(seeds, patterns, st.sampled_from([np.float32, np.float64]))
def test_order_of_the_methods(seed, pattern, dtype):
    """exact >= swap everywhere, swap >= greedy where the greedy is full, and the greedy's bound on what is pruned."""
    n, m = pattern
    tiles = tiles_of(seed, 50, m, dtype)
    masks = {method: transposable_mask(tiles, f"{n}:{m}", method) for method in METHODS}
    greedy, swap, exact = (kept_by(tiles, masks[method]) for method in ("greedy", "swap", "exact"))
    full = masks["greedy"].sum(axis=(1, 2)) == n * m
    total = np.abs(tiles).sum(axis=(1, 2), dtype=np.float64)
    assert (exact >= swap * (1 - ROUNDING)).all()
    assert (swap >= greedy * (1 - ROUNDING))[full].all()
    least_pruned = total[0] - most_kept(tiles[0], n, exactly=False)
    assert total[0] - greedy[0] <= 2 * least_pruned + ROUNDING * total[0]
    for method in ("swap", "exact"):
        assert (masks[method].sum(axis=1) == n).all()
        assert (masks[method].sum(axis=2) == n).all()


def test_each_method_keeps_more():
    """Gaussian 4:8 tiles keep on average .988 of the optimum with the greedy, and more with swaps."""
    tiles = tiles_of(1, 2000, 8)
    greedy, swap, exact = (kept_by(tiles, transposable_mask(tiles, "4:8", method)) for method in METHODS)
    assert abs((greedy / exact).mean() - 0.988) < 0.0005
    assert greedy.mean() < swap.mean() < exact.mean()
    assert (swap < exact * (1 - 1e-6)).any()


def test_swaps_leave_no_rectangle_that_keeps_more():
    tiles = tiles_of(2, 100, 6)
    size, mask = np.abs(tiles), transposable_mask(tiles, "3:6", "swap")
    for i, a in np.ndindex(6, 6):
        for j, b in np.ndindex(6, 6):
            corners = mask[:, i, j] & mask[:, a, b] & ~mask[:, i, b] & ~mask[:, a, j]
            gain = size[:, i, b] + size[:, a, j] - size[:, i, j] - size[:, a, b]
            assert (gain[corners] <= ROUNDING).all()


@quick
@given(
    seeds,
    patterns,
    st.sampled_from(METHODS),
    st.sampled_from([((6, 4), (-2, -1)), ((3, 2, 4), (0, 2)), ((1, 3, 2, 2), (2, 1)), ((2, 2), (1, 0))]),
)
def test_both_axes_obey_the_pattern(seed, pattern, method, layout):
    """On any two axes; exchanging them changes nothing without ties, but for swaps, which pair columns first."""
    (n, m), (tiles, axes) = pattern, layout
    tiled = {axis % len(tiles) for axis in axes}
    shape = tuple(size * m if place in tiled else size for place, size in enumerate(tiles))
    array = np.random.default_rng(seed).standard_normal(shape)
    mask = transposable_mask(array, f"{n}:{m}", method, axes)
    assert mask.dtype == bool
    assert all(satisfies(mask, f"{n}:{m}", axis) for axis in axes)
    if method != "swap":
        np.testing.assert_array_equal(transposable_mask(array, f"{n}:{m}", method, axes[::-1]), mask)
    transposed = np.asfortranarray(array).swapaxes(*axes)
    np.testing.assert_array_equal(transposable_mask(transposed, f"{n}:{m}", method, axes[::-1]).swapaxes(*axes), mask)


@pytest.mark.parametrize("method", METHODS)
def test_tiles_do_not_depend_on_each_other(monkeypatch, method):
    array = np.random.default_rng(0).standard_normal((3, 30, 40))
    whole = transposable_mask(array, "2:5", method)
    for scratch in (1, 100, 500):
        monkeypatch.setattr(transposable, "_SCRATCH", scratch)
        np.testing.assert_array_equal(transposable_mask(array, "2:5", method), whole)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_to_choose(method):
    """Dense patterns, empty arrays, and tiles of zeros, which are filled all the same."""
    assert transposable_mask(np.ones((3, 5)), "dense", method).all()
    assert transposable_mask(np.ones((0, 8)), "2:8", method).shape == (0, 8)
    mask = transposable_mask(np.zeros((8, 16)), "2:8", method)
    assert (mask.sum(axis=0) == 2).all()
    assert np.count_nonzero(transposable_mask(np.zeros(32), "1:4", method, consecutive=True)) == 8


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((np.ones((8, 6)), "2:4"), {}, "4 does not divide the 6 elements along axis 1"),
        ((np.ones((6, 8)), "2:4"), {}, "4 does not divide the 6 elements along axis 0"),
        ((np.ones((8, 3)), "2:4"), {"consecutive": True}, "16 does not divide the 24 elements of the array"),
        ((np.ones((4, 4)), "2:4", "gready"), {}, "did you mean greedy"),
        ((np.ones((4, 4)), "2:4", "exact"), {"early_stop": True}, "'greedy', not of 'exact'"),
        ((np.ones((4, 4)), "16:2:8"), {}, "n:m or dense, not 16:2:8"),
        ((np.ones((4, 4)), "4:2"), {}, "4:2"),
        ((np.ones(16), "2:4"), {}, "no axis -2"),
        ((np.ones((4, 4)), "2:4"), {"axes": (0, -2)}, "twice axis 0"),
        ((np.ones((4, 4)), "2:4"), {"axes": (0,)}, "two axes"),
        ((np.ones((4, 4)), "2:4"), {"axes": 1}, "two axes"),
        ((np.full((4, 4), np.nan), "2:4"), {}, "finite"),
        ((np.full((4, 4), -np.inf, np.float16), "2:4"), {}, "finite"),
        ((np.full((4, 4), 1e301), "2:4"), {}, "below 1e\\+300"),
        ((np.ones((4, 4), complex), "2:4"), {}, "complex128"),
    ],
)
def test_bad_input(arguments, options, says):
    with pytest.raises(PatternError, match=says):
        transposable_mask(*arguments, **options)
