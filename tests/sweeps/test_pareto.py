"""Pareto fronts and what is told of them, beside the definitions spelled out."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nmsim.errors import ShapeError
from nmsim.sweeps import pareto
from nmsim.sweeps.sensitivity import sensitivity


def tables(most=25):
    """Small whole numbers, so that ties and equal points are common."""
    shapes = st.tuples(st.integers(1, most), st.integers(1, 4))
    return shapes.flatmap(lambda shape: arrays(float, shape, elements=st.integers(0, 5).map(float)))


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@given(tables())
def test_the_front_is_what_nothing_dominates(table):
    expected = [not any(dominates(other, row) for other in table) for row in table]
    assert pareto.front(table).tolist() == expected


@given(tables())
def test_dominated_by_counts_the_points_that_dominate(table):
    assert pareto.dominated_by(table).tolist() == [sum(dominates(other, row) for other in table) for row in table]


def test_blocks_of_the_front_do_not_show(monkeypatch):
    table = np.random.default_rng(0).random((300, 3))
    whole = pareto.front(table)
    monkeypatch.setattr(pareto, "BLOCK", 7)
    assert pareto.front(table).tolist() == whole.tolist()


@settings(max_examples=60)
@given(tables(8))
def test_the_hypervolume_is_the_number_of_unit_cells_below_the_reference(table):
    """Whole-numbered corners: count the unit cells of [0, 6)^d that some point dominates."""
    cells = itertools.product(range(6), repeat=table.shape[1])
    expected = sum(any(all(p <= c for p, c in zip(row, cell, strict=True)) for row in table) for cell in cells)
    assert pareto.hypervolume(table, np.full(table.shape[1], 6.0)) == pytest.approx(expected, rel=1e-12)


def test_the_hypervolume_of_two_points_by_hand():
    """(1, 2) and (2, 1) below (3, 3): 2 x 1 + 1 x 2 - 1 = 3."""
    assert pareto.hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0])) == 3.0


@given(tables())
def test_the_knee_is_the_point_of_the_front_nearest_to_its_ideal(table):
    front = [i for i in range(len(table)) if not any(dominates(other, table[i]) for other in table)]
    low, high = table[front].min(axis=0), table[front].max(axis=0)

    def distance(i):
        return sum(((x - a) / (b - a)) ** 2 for x, a, b in zip(table[i], low, high, strict=True) if b > a)

    assert distance(pareto.knee(table)) == pytest.approx(min(map(distance, front)), abs=1e-12)


def test_points_without_figures_are_on_no_front_and_dominate_nothing():
    table = np.array([[np.nan, 0.0], [1.0, 1.0], [2.0, 2.0]])
    assert pareto.front(table).tolist() == [False, True, False]
    assert pareto.dominated_by(table).tolist() == [0, 0, 1]
    assert pareto.hypervolume(table, np.array([3.0, 3.0])) == 4.0
    with pytest.raises(ShapeError, match="no points"):
        pareto.knee(np.full((2, 2), np.nan))


def test_sensitivity_shares_the_variance_of_a_sum_as_its_terms_vary():
    """y = x1 + 2 x2 on a full grid of 0, 1: variances 1/4 and 1; x3 does nothing."""
    grid = pd.DataFrame(list(itertools.product((0, 1), repeat=3)), columns=["x1", "x2", "x3"])
    grid["y"] = 1 + grid["x1"] + 2 * grid["x2"]
    found = sensitivity(grid, ["x1", "x2", "x3"], "y").set_index("axis")
    assert found["share"].to_dict() == pytest.approx({"x1": 0.2, "x2": 0.8, "x3": 0.0})
    assert found["swing"].to_dict() == pytest.approx({"x1": 3.0 / 2.0, "x2": 3.5 / 1.5, "x3": 1.0})
