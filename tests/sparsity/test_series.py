"""Series of structured terms: hand-counted cases, the laws of terms and products, the choice of series, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import PatternError, ShapeError
from nmsim.sparsity.detect import satisfies
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.series import choose_layers, choose_series, decompose, product

MENU = ["1:8", "2:8", "2:8 + 1:8", "4:8", "2:4 + 2:8"]


@st.composite
def arrays_and_axes(draw):
    """Small whole numbers, so that ties and zeros are common; lengths that leave a tail."""
    shape = tuple(draw(st.lists(st.integers(1, 11), min_size=1, max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    array = rng.integers(-4, 5, shape).astype(draw(st.sampled_from([np.float64, np.float32, np.int8])))
    return array, draw(st.integers(-len(shape), len(shape) - 1))


nm = st.integers(2, 8).flatmap(lambda m: st.tuples(st.integers(1, m), st.just(m)))


@settings(deadline=None, max_examples=150)
@given(arrays_and_axes(), st.lists(nm, min_size=1, max_size=4))
def test_terms_are_disjoint_have_their_patterns_and_leave_the_residual(case, sizes):
    array, axis = case
    series = decompose(array, [f"{n}:{m}" for n, m in sizes], axis)
    assert (sum((term != 0).astype(int) for term in series.terms) <= 1).all()
    left = array
    norms = [np.linalg.norm(array)]
    for term, (n, m) in zip(series.terms, sizes, strict=True):
        assert term.dtype == array.dtype
        assert satisfies(term, f"{n}:{m}", axis)
        np.testing.assert_array_equal(term, np.where(magnitude_mask(left, f"{n}:{m}", axis), left, 0))
        left = left - term
        norms.append(np.linalg.norm(left))
    np.testing.assert_array_equal(series.sum(), array - left)
    np.testing.assert_allclose(series.residual_norms, norms, rtol=1e-6)


@settings(deadline=None, max_examples=100)
@given(
    arrays_and_axes(),
    st.integers(2, 8).flatmap(lambda m: st.tuples(st.lists(st.integers(1, m), min_size=1), st.just(m))),
)
def test_terms_of_one_group_size_hold_what_one_mask_keeps(case, sizes):
    """Equal magnitudes too: the mask and the terms both take the lower index first."""
    (array, axis), (kept, m) = case, sizes
    series = decompose(array, [f"{n}:{m}" for n in kept], axis)
    mask = magnitude_mask(array, f"{min(sum(kept), m)}:{m}", axis)
    np.testing.assert_array_equal(series.sum(), np.where(mask, array, 0))


def test_two_terms_by_hand():
    """Of 4 3 2 1 | 0 5 0 0 the first 1:2 term takes 4 2 | 5 0, then 1:4 takes 3 | 0; 1 is left.

    Squares: 16+9+4+1+25 = 55, after the first 10, after the second 1. Densities 1/2 + 1/4.
    """
    series = decompose([4.0, -3, 2, 1, 0, 5, 0, 0], "1:2 + 1:4")
    assert [term.tolist() for term in series.terms] == [[4, 0, 2, 0, 0, 5, 0, 0], [0, -3, 0, 0, 0, 0, 0, 0]]
    np.testing.assert_allclose(series.residual_norms, [55**0.5, 10**0.5, 1], rtol=1e-15)
    assert series.kept_energy == pytest.approx(54 / 55, rel=1e-14)
    assert series.density == 0.75
    assert str(series) == "1:2 + 1:4"


def test_a_tail_counts_in_the_density():
    """2:4 of 6 elements keeps 2 + 2."""
    assert decompose(np.ones(6), "2:4").density == 4 / 6


def test_the_axis_is_that_of_the_call():
    a = np.random.default_rng(0).standard_normal((8, 6, 3))
    for axis in range(3):
        series = decompose(a, ["2:4", "1:4"], axis)
        last = decompose(np.moveaxis(a, axis, -1), ["2:4", "1:4"])
        for term, other in zip(series.terms, last.terms, strict=True):
            np.testing.assert_array_equal(np.moveaxis(term, axis, -1), other)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), nm, nm)
def test_the_product_of_series_is_the_product_of_their_sums(seed, first, second):
    """A weight, an activation, or both as series; terms are exact parts of the array: the tolerance is rounding."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((5, 16)), rng.standard_normal((16, 4))
    a = decompose(x, ["{}:{}".format(*first), "{}:{}".format(*second)], axis=1)
    b = decompose(w, ["{}:{}".format(*second), "{}:{}".format(*first)], axis=0)
    for left, right, expected in ((a, w, a.sum() @ w), (x, b, x @ b.sum()), (a, b, a.sum() @ b.sum()), (x, w, x @ w)):
        np.testing.assert_allclose(product(left, right), expected, rtol=1e-12, atol=1e-12)


def test_a_complete_series_is_the_array():
    a = np.random.default_rng(1).standard_normal((4, 10))
    series = decompose(a, ["2:4", "1:4", "1:4"])
    np.testing.assert_array_equal(series.sum(), a)
    assert series.kept_energy == 1
    assert decompose(a * 0, "1:4").kept_energy == 1


def test_the_least_dense_series_that_is_good_enough_is_chosen():
    """Squares 16 9 4 1 0 0 0 0 of 30: 1:8 holds 16, 2:8 25, 3 of 8 29, 4:8 all. Densities 1/8, 1/4, 3/8, 1/2."""
    a = np.array([4.0, 3, 2, 1, 0, 0, 0, 0])
    for threshold, chosen in (
        (0.5, "1:8"),
        (0.54, "2:8"),
        (0.83, "2:8"),
        (0.84, "2:8 + 1:8"),
        (0.97, "4:8"),
        (1, "4:8"),
    ):
        assert str(choose_series(a, MENU, threshold)) == chosen
        assert str(choose_series(a, MENU[::-1], threshold)) == chosen


def test_dense_where_nothing_sparser_is_good_enough():
    """All eight equal: 4:8 holds half, 2:4 + 2:8 three quarters; a series as dense as the array is never chosen."""
    series = choose_series(np.ones(8), [*MENU, "4:8 + 4:8"], 0.9)
    assert str(series) == "dense"
    assert (series.density, series.kept_energy) == (1, 1)
    assert str(choose_series(np.ones(8), MENU, 0.75)) == "2:4 + 2:8"


def test_a_quality_of_the_user_decides():
    """The largest error of one element: 3 2 1 0 after 1, 2, 3, 4 kept."""
    a = np.array([4.0, 3, 2, 1, 0, 0, 0, 0])
    assert str(choose_series(a, MENU, -1.0, lambda series: -np.abs(a - series.sum()).max())) == "2:8 + 1:8"


@settings(deadline=None, max_examples=60)
@given(arrays_and_axes(), st.floats(0, 1))
def test_a_choice_is_good_enough_and_nothing_less_dense_is(case, threshold):
    array, axis = case
    chosen = choose_series(array, MENU, threshold, axis=axis)
    assert chosen.kept_energy >= threshold
    for patterns in MENU:
        other = decompose(array, patterns, axis)
        assert other.density >= chosen.density or other.kept_energy < threshold


def test_layers_are_chosen_one_after_the_other():
    """Quality is the energy kept of all, 64 squares in each of two equal layers, 128 in all, threshold 3/4.

    The first may lose 32 of its 64: 4:8 (1:8, 2:8 and 3 of 8 lose 56, 48, 40). Nothing is then left to lose for the
    second, which stays dense.
    """
    arrays = {"first": np.ones((8, 8)), "second": np.ones((8, 8))}
    seen = []

    def quality(approximations):
        seen.append(list(approximations))
        return sum((a**2).sum() for a in approximations.values()) / 128

    chosen = choose_layers(arrays, MENU, 0.75, quality)
    assert {name: str(series) for name, series in chosen.items()} == {"first": "4:8", "second": "dense"}
    assert seen == [["first", "second"]] * (4 + 5)
    assert (arrays["first"] == 1).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: decompose([1.0, np.nan], "1:2"), PatternError, "finite"),
        (lambda: decompose([1.0, np.inf], "1:2"), PatternError, "finite"),
        (lambda: decompose([1.0, 1e200], "1:2"), PatternError, "too large"),
        (lambda: decompose([1.0, 1j], "1:2"), PatternError, "real numbers, not complex128"),
        (lambda: decompose(np.ones((0, 4)), "2:4"), ShapeError, "with elements"),
        (lambda: decompose(np.float64(1), "2:4"), PatternError, "no axis"),
        (lambda: decompose(np.ones((4, 4)), "2:4", axis=2), PatternError, "no axis 2"),
        (lambda: decompose(np.ones(4), []), PatternError, "at least one pattern"),
        (lambda: decompose(np.ones(4), "2:4 + 5:4"), PatternError, "5:4"),
        (lambda: decompose(np.ones(4), "2:4 + unstructured:0.5"), PatternError, "unstructured:0.5; terms are"),
        (lambda: choose_series(np.ones(4), ["fan-in:2"]), PatternError, "fan-in:2"),
        (lambda: choose_series(np.ones(4), MENU, float("nan")), ShapeError, "not nan"),
        (lambda: choose_series(np.ones(4), MENU, axis=1), PatternError, "no axis 1"),
        (lambda: product(decompose(np.ones((4, 4)), "2:4"), np.ones((3, 2))), ShapeError, r"\[4, 4\] and \[3, 2\]"),
    ],
)
def test_bad_input_says_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()
