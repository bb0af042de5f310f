"""Intervals of totals, and orders of totals drawn from one table, on cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nmsim
from nmsim.energy.table import PerAction
from nmsim.energy.uncertainty import Interval, Spread, order
from nmsim.errors import UnsupportedError
from nmsim.report.energy import spread_of, with_interval

HALF = PerAction(1.0, 0.5, "x").sigma
MANY = 20_000


def test_one_value_has_its_own_interval():
    """10 J that are known to +-50 %: 90 % of draws lie within 10/1.5 and 15."""
    found = Spread({("x", HALF): 10.0}).interval(MANY)
    assert found.value == 10
    assert (found.low, found.high) == pytest.approx((10 / 1.5, 15.0), rel=0.02)


def test_values_of_one_source_err_together_and_of_two_average_out():
    """Two of 5 J: together as one of 10; apart the logarithms' variance halves, about 10 exp(+-s/sqrt(2) 1.645)."""
    together = Spread({("x", HALF): 5.0, ("x", HALF * (1 + 1e-9)): 5.0}).interval(MANY)
    apart = Spread({("x", HALF): 5.0, ("y", HALF): 5.0}).interval(MANY)
    assert together.high == pytest.approx(15.0, rel=0.02)
    assert apart.high == pytest.approx(10 * 1.5**2**-0.5, rel=0.03)


def test_a_common_uncertainty_leaves_the_order_as_it_is():
    """8 and 10 J of one source: the ratio is 1.25 in every draw, though the intervals overlap."""
    found = order(Spread({("x", HALF): 8.0}), Spread({("x", HALF): 10.0}))
    assert (found.ratio.low, found.ratio.high) == pytest.approx((1.25, 1.25))
    assert found.survives


def test_an_order_that_hangs_on_one_value_does_not_survive():
    """10 J of x against 9.5 of y: x is above y in barely more than half of the draws."""
    found = order(Spread({("x", HALF): 10.0}), Spread({("y", HALF): 9.5}), MANY)
    sigma = HALF * 2**0.5
    from scipy.stats import norm

    assert found.agree == pytest.approx(norm.cdf(np.log(10 / 9.5) / sigma), abs=0.02)
    assert not found.survives


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(1e-9, 1e9), min_size=1), st.integers(0, 5))
def test_the_same_seed_draws_the_same_and_scale_scales(joules, seed):
    one = Spread({(name, HALF): value for name, value in joules.items()})
    twice = Spread({(name, HALF): 2 * value for name, value in joules.items()})
    assert twice.samples(20, seed) == pytest.approx(2 * one.samples(20, seed))


def test_no_samples_are_refused():
    with pytest.raises(UnsupportedError, match="at least one sample"):
        Spread({("x", 0.1): 1.0}).samples(0)


def test_the_spread_of_a_result_sums_to_its_energy():
    result = nmsim.simulate("sat_vcu1525", nmsim.load_workload("resnet9", batch=8).training("bdwp", "2:8", steps=7))
    spread = spread_of(result)
    assert spread is not None
    assert spread.total == pytest.approx(result.energy_j, rel=1e-12)
    text = with_interval(spread.interval(), "J")
    low, high = (float(x) for x in text.split("(")[1].rstrip(")").split("–"))
    assert low < float(text.split()[0]) < high


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (12.3e-3, 9.1e-3, 16.8e-3, "12.3 mJ (9.1–16.8)"), (0.7, 0.5, 1.05, "700 mJ (500–1050)"),
        (3320.0, 2400.0, 4630.0, "3.32 kJ (2.4–4.63)"), (0.0, 0.0, 0.0, "0 J (0–0)"),
    ],
)  # fmt: skip
def test_a_total_is_printed_with_its_interval_in_one_unit(value, low, high, text):
    assert with_interval(Interval(value, low, high), "J") == text
