"""Mask statistics: closed forms against counting by hand, quadrature and simulation."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import PatternError, ShapeError
from nmsim.sparsity.mask import magnitude_mask, random_mask
from nmsim.sparsity.stats import both_kept_probability, kept_energy, mask_churn, overlap


def test_kept_energy():
    """3^2 + 4^2 of 3^2 + 4^2 + 5^2: 25 / 50."""
    assert kept_energy([3, -4, 5], [1, 1, 0]) == 0.5
    assert kept_energy(np.array([-128, 0], np.int8), [True, False]) == 1.0
    assert kept_energy(np.zeros(3), [1, 0, 0]) == 1.0


@pytest.mark.parametrize(
    ("text", "share"),
    [("2:4", 0.8674), ("1:4", 0.6172), ("4:8", 0.8966), ("2:8", 0.6643), ("1:8", 0.4317), ("2:16", 0.4632)],
)
def test_energy_of_gaussian_weights(text, share):
    """Order statistics of |N(0,1)| by quadrature, to 4 digits; 2^20 draws scatter by less than 0.002 (5 sigma)."""
    weights = np.random.default_rng(11).standard_normal((1024, 1024))
    assert kept_energy(weights, magnitude_mask(weights, text)) == pytest.approx(share, abs=0.002)


def test_overlap():
    """Of 5 places: 2 in both, 1 in a only, 1 in b only, 1 in neither."""
    shares = overlap([1, 1, 1, 0, 0], [1, 1, 0, 1, 0])
    assert shares == {"both": 0.4, "only_a": 0.2, "only_b": 0.2, "neither": 0.2}


@given(st.integers(0, 2**32), st.integers(1, 50))
def test_overlap_adds_to_one_and_mirrors(seed, size):
    a, b = np.random.default_rng(seed).random((2, size)) < 0.5
    shares, mirrored = overlap(a, b), overlap(b, a)
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-12)
    assert (shares["both"], shares["only_a"]) == (mirrored["both"], mirrored["only_b"])


@pytest.mark.parametrize(("n", "m", "exact"), [(2, 4, Fraction(13, 35)), (1, 4, Fraction(1, 7)), (4, 4, Fraction(1))])
def test_exact_chance_to_be_kept_twice(n, m, exact):
    """1:m integrates u^(2m-2): 1 / (2m-1). 2:4: (u^3 + 3(1-u)u^2)^2 = 9u^4 - 12u^5 + 4u^6: 9/5 - 2 + 4/7 = 13/35."""
    assert both_kept_probability(n, m) == exact


@pytest.mark.parametrize(("n", "m"), [(4, 8), (2, 8), (1, 8), (2, 16), (8, 64), (3, 5)])
def test_exact_chance_equals_quadrature(n, m):
    """Gauss-Legendre with m points is exact for the degree 2m - 2 of p^2, up to rounding."""
    u, weight = np.polynomial.legendre.leggauss(m)
    u = (u + 1) / 2
    p = sum(comb(m - 1, k) * (1 - u) ** k * u ** (m - 1 - k) for k in range(n))
    assert float(both_kept_probability(n, m)) == pytest.approx(float((weight / 2 * p**2).sum()), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (2, 8)])
def test_simulated_overlap_of_row_and_column_masks(n, m):
    """A weight [2048, 2048] masked along both axes: 4 million places scatter by less than 0.001 (4 sigma)."""
    weights = np.random.default_rng(n * m).standard_normal((2048, 2048), dtype=np.float32)
    shares = overlap(*(magnitude_mask(weights, f"{n}:{m}", axis) for axis in (0, 1)))
    exact = float(both_kept_probability(n, m))
    assert shares["both"] == pytest.approx(exact, abs=1e-3)
    assert shares["only_a"] == pytest.approx(n / m - exact, abs=1e-3)


def test_churn():
    """Kept 4 before, of which 1 is gone after."""
    assert mask_churn([1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 0]) == 0.25
    assert mask_churn([1, 0], [1, 1]) == 0.0
    assert mask_churn([0, 0], [1, 1]) == 0.0


def test_churn_of_independent_masks():
    """A place of an independent 1:4 mask is kept with chance 1/4: 3/4 is replaced, +- 0.005 (6 sigma of 2^18)."""
    rng = np.random.default_rng(2)
    before, after = (random_mask((1024, 1024), "1:4", rng) for _ in range(2))
    assert mask_churn(before, after) == pytest.approx(0.75, abs=0.005)


def test_mistakes_are_refused():
    for call in (kept_energy, overlap, mask_churn):
        with pytest.raises(ShapeError, match="shapes differ"):
            call(np.ones(3), np.ones(4))
    with pytest.raises(ShapeError, match="without elements"):
        overlap([], [])
    with pytest.raises(PatternError, match="not a pattern: 5:4"):
        both_kept_probability(5, 4)
