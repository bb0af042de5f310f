"""Densities of layers: cases counted by hand, what the layers keep together, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import PatternError, ShapeError
from nmsim.sparsity.distribution import erk, uniform, weight_budget

SHAPES = st.lists(st.lists(st.integers(4, 64), min_size=2, max_size=4).map(tuple), min_size=1, max_size=8)


def test_erk_of_two_layers():
    """2x2 has 4 / 4 = 1, 4x4 has 8 / 16 = 1/2; half of 20 weights are e * (1 * 4 + 1/2 * 16), so e = 10 / 12."""
    np.testing.assert_allclose(erk([(2, 2), (4, 4)], 0.5), [10 / 12, 5 / 12], rtol=1e-14)


def test_a_layer_beyond_1_becomes_dense_and_the_others_share_the_rest():
    """1x2 at 3/2 and 10x10 at 1/5: e = 51 / 23 makes the first 3.3; dense, it leaves 49 of 100 weights."""
    np.testing.assert_allclose(erk([(1, 2), (10, 10)], 0.5), [1, 0.49], rtol=1e-14)


def test_the_power_bends_towards_uniform():
    """The power 0 gives every layer the same raw density."""
    np.testing.assert_allclose(erk([(2, 2), (4, 4), (3, 3, 5, 5)], 0.3, power=0), uniform([(1, 9)] * 3, 0.3))


def test_zeros_rounded_down_to_whole_numbers():
    """3x3 at 1/2 has 4.5 zeros: 4, so 5 weights of 9."""
    np.testing.assert_allclose(erk([(3, 3)], 0.5, whole_zeros=True), [5 / 9], rtol=1e-14)


@given(SHAPES, st.floats(0.3, 1), st.floats(-1, 2))
def test_the_layers_keep_the_share_of_all_weights_and_rank_by_their_dimensions(shapes, density, power):
    """Sums of up to 8 terms in double precision: a relative error of some 1e-15."""
    sizes = np.array([math.prod(shape) for shape in shapes])
    try:
        found = erk(shapes, density, power)
    except PatternError:
        raw = np.array([(sum(shape) / math.prod(shape)) ** power for shape in shapes])
        assert (density * sizes.sum() * raw / (raw * sizes).sum() * sizes).min() < 1
        return
    assert ((found > 0) & (found <= 1)).all()
    assert found @ sizes == pytest.approx(density * sizes.sum(), rel=1e-12)
    raw = np.array([(sum(shape) / size) ** power for shape, size in zip(shapes, sizes, strict=True)])
    sparse = found < 1
    if sparse.any():
        scale = found[sparse] / raw[sparse]
        np.testing.assert_allclose(scale, scale[0], rtol=1e-12)
        assert (raw[~sparse] * scale[0] >= 1 - 1e-12).all()


@given(SHAPES)
def test_density_1_is_dense(shapes):
    assert (erk(shapes, 1.0) == 1).all()
    assert (uniform(shapes, 1.0) == 1).all()


@pytest.mark.parametrize(("size", "density", "budget"), [(100, 0.29, 29), (1000, 1 - 0.8, 200), (7, 0.5, 3), (9, 1, 9)])
def test_budgets(size, density, budget):
    """0.29 * 100 and (1 - 0.8) * 1000 are a rounding below 29 and 200 in double precision."""
    assert weight_budget(size, density) == budget


@pytest.mark.parametrize("density", [0, -0.1, 1.1, math.nan, math.inf])
def test_densities_outside_0_to_1_are_refused(density):
    for call in (lambda: uniform([(4, 4)], density), lambda: erk([(4, 4)], density), lambda: weight_budget(9, density)):
        with pytest.raises(PatternError, match="above 0 and at most at 1"):
            call()


@pytest.mark.parametrize("shapes", [[], [(4,)], [(4, 0)], [(4, -4)], [(4, 2.5)], [4], 4])
def test_what_is_no_list_of_layers_is_refused(shapes):
    with pytest.raises(ShapeError):
        erk(shapes, 0.5)


def test_a_layer_that_keeps_no_weight_and_a_power_that_is_no_number_are_refused():
    with pytest.raises(PatternError, match="layer 1 of 4 weights keeps none"):
        uniform([(40, 40), (2, 2)], 0.2)
    with pytest.raises(PatternError, match="finite"):
        erk([(4, 4)], 0.5, power=math.inf)
