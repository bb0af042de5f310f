"""Error statistics, against counts by hand and an independent implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from nmsim.validation.score import Errors, rank_correlation


def test_statistics_by_hand():
    """e = 0.1, -0.1, 0, -0.5: mean |e| 0.7/4, median of 0, .1, .1, .5 is .1, p90 at place 2.7 is .1 + .7 x .4,
    bias -0.5/4. Ranks 1 2 4 3 and 1 2 3.5 3.5, from 2.5: products sum to 4.5, squares to 5 and 4.5."""
    errors = Errors.of(np.array([1.1, 1.8, 4.0, 2.0]), np.array([1.0, 2.0, 4.0, 4.0]))
    assert errors.points == 4
    assert errors.mape == pytest.approx(0.175)
    assert errors.median == pytest.approx(0.1)
    assert errors.p90 == pytest.approx(0.38)
    assert errors.bias == pytest.approx(-0.125)
    assert errors.rank == pytest.approx(4.5 / math.sqrt(5 * 4.5))
    assert errors.worst == 3


def test_a_correlation_needs_two_values():
    assert math.isnan(rank_correlation(np.array([1.0]), np.array([2.0])))
    assert math.isnan(rank_correlation(np.array([1.0, 1.0]), np.array([2.0, 3.0])))


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=3, max_size=20))
def test_ranks_are_those_of_scipy(pairs):
    a, b = np.array(pairs, dtype=float).T
    if np.ptp(a) and np.ptp(b):
        expected = np.corrcoef(rankdata(a), rankdata(b))[0, 1]
        assert rank_correlation(a, b) == pytest.approx(expected)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=20), st.floats(-0.9, 5))
def test_a_common_error_is_every_statistic(measured, error):
    values = np.array(measured)
    errors = Errors.of(values * (1 + error), values)
    for figure in (errors.mape, errors.median, errors.p90):
        assert figure == pytest.approx(abs(error), abs=1e-12)
    assert errors.bias == pytest.approx(error, abs=1e-12)
