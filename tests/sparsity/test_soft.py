"""PDP and Powerpropagation: cases by hand, laws over random weights, and gradients against central differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import PatternError, ShapeError, UnsupportedError
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.soft import (
    channel_norms,
    pdp_gradient,
    pdp_group_threshold,
    pdp_mask,
    pdp_ratio,
    pdp_threshold,
    powerprop_gradient,
    powerprop_theta,
    powerprop_weight,
)

TAU = 0.3
EPS = 1e-6


def differences(loss, at):
    """Central differences of a loss at every element, in double precision."""
    gradient = np.empty(at.shape)
    for i in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[i] += EPS
        down[i] -= EPS
        gradient[i] = (loss(up) - loss(down)) / (2 * EPS)
    return gradient


def draw(seed, *shape):
    """A weight whose magnitudes lie at least 1e-2 / 2 apart, so that no difference changes their order, and a G."""
    rng = np.random.default_rng(seed)
    size = rng.permutation(np.prod(shape)) * 1e-2 + 0.5 + 5e-3 * rng.random(np.prod(shape))
    return (size * rng.choice([-1, 1], size.shape)).reshape(shape), rng.standard_normal(shape)


def test_threshold_of_a_layer():
    """Of 5, 4, 3, 2, 1 a share of 0.5 pruned keeps int(2.5) = 2: half-way between 4 and 3. After the last comes 0."""
    assert pdp_threshold(np.array([1, -5, 3, 2, -4]), 0.5) == 3.5
    assert pdp_threshold([3.0, 1.0], 0.0) == 0.5
    assert pdp_threshold([3.0, 1.0], 0.99) == 2.0


def test_thresholds_of_groups():
    """1:2 of (4, 1), (2, -3) and the tail 5: (4+1)/2, (3+2)/2 and (5+0)/2, along either axis."""
    row = np.array([[4.0, 1.0, 2.0, -3.0, 5.0]])
    expected = [[2.5, 2.5, 2.5, 2.5, 2.5]]
    np.testing.assert_array_equal(pdp_group_threshold(row, "1:2"), expected)
    np.testing.assert_array_equal(pdp_group_threshold(row.T, "1:2", axis=-2), np.transpose(expected))


def test_mask_and_gradient_by_hand():
    """w = 2, t = 1, tau = 3: z = 1, m = 1/(1+e^-1); with G = 1 the gradient is m + 8/3 m(1-m). At w = t, m = 1/2."""
    m = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(pdp_mask([2.0, -2.0, 1.0], 1.0, 3.0), [m, m, 0.5], rtol=1e-15)
    np.testing.assert_allclose(pdp_gradient([2.0], [m], 3.0, [1.0]), [m + 8 / 3 * m * (1 - m)], rtol=1e-15)


def test_mask_far_from_the_threshold():
    """Exponents beyond the range of the type end at 0 and 1, in the type of the weight, with every warning an error."""
    with np.errstate(all="raise"):
        mask = pdp_mask(np.array([0.0, 0.1, 100.0], np.float32), 1.0, 1e-6)
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask, [0, 0, 1])
    assert pdp_mask(np.array([300.0], np.float16), 299.0, 1.0)[0] == 1


def test_channel_norms():
    """Columns (3, 4) and (0, 6) of [in, out]: norms 5 and 6, roots of means sqrt(12.5) and sqrt(18)."""
    weight = np.array([[3.0, 0.0], [4.0, 6.0]])
    np.testing.assert_array_equal(channel_norms(weight, -1), [[5.0, 6.0]])
    np.testing.assert_allclose(channel_norms(weight, -1, mean=True), np.sqrt([[12.5, 18.0]]))
    assert channel_norms(np.ones((3, 3, 2, 5)), -1).shape == (1, 1, 1, 5)


def test_a_soft_channel_is_scaled_as_a_whole():
    """Norms 5 and 1, half pruned: t = 3, and one mask value for all of a column."""
    weight = np.array([[3.0, 0.0], [4.0, 1.0]])
    norms = channel_norms(weight, -1)
    mask = pdp_mask(norms, pdp_threshold(norms, 0.5), 16.0)
    np.testing.assert_allclose(mask, [[1 / (1 + np.exp(-1)), 1 / (1 + np.exp(0.5))]], rtol=1e-15)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9), st.sampled_from(["1:2", "2:4", "1:4", "3:8"]),
    st.sampled_from([0, 1, -1, -2]), st.floats(1e-6, 10),
)  # fmt: skip
def test_a_soft_mask_above_a_half_is_the_magnitude_mask(seed, rows, columns, pattern, axis, tau):
    weight, _ = draw(seed, rows, columns)
    threshold = pdp_group_threshold(weight, pattern, axis)
    mask = pdp_mask(weight, threshold, tau)
    assert mask.min() >= 0
    assert mask.max() <= 1
    np.testing.assert_array_equal(mask > 0.5, magnitude_mask(weight, pattern, axis))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 40), st.floats(0, 0.999))
def test_a_layer_keeps_the_share_that_was_asked(seed, size, ratio):
    weight, _ = draw(seed, size)
    kept = np.abs(weight) > pdp_threshold(weight, ratio)
    assert kept.sum() == max(1, int((1 - ratio) * size))
    np.testing.assert_array_equal(kept, np.isin(np.abs(weight), np.sort(np.abs(weight))[-kept.sum() :]))


@pytest.mark.parametrize(("pattern", "axis"), [("2:4", -1), ("1:4", -2), ("2:3", 0), (None, 0)])
@pytest.mark.parametrize("through", [False, True])
def test_gradient_of_weights(pattern, axis, through):
    """The function differentiated holds t at its value, or finds it anew; lengths 6 and 5 leave tails."""
    weight, upstream = draw(4, 6, 5)

    def threshold(w):
        return pdp_group_threshold(w, pattern, axis) if pattern else pdp_threshold(w, 0.6)

    fixed = threshold(weight)
    numeric = differences(lambda w: np.sum(upstream * w * pdp_mask(w, threshold(w) if through else fixed, TAU)), weight)
    group = int(pattern[2]) if pattern else None
    options = {"threshold": fixed, "group": group, "axis": axis} if through else {}
    found = pdp_gradient(weight, pdp_mask(weight, fixed, TAU), TAU, upstream, **options)
    np.testing.assert_allclose(found, numeric, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("through", [False, True])
def test_gradient_of_channels(mean, through):
    weight, upstream = draw(7, 2, 3, 4)
    tau = TAU if mean else 3 * TAU

    def soft(w, t):
        return pdp_mask(channel_norms(w, -1, mean), t, tau)

    def threshold(w):
        return pdp_threshold(channel_norms(w, -1, mean), 0.5)

    fixed = threshold(weight)
    numeric = differences(lambda w: np.sum(upstream * w * soft(w, threshold(w) if through else fixed)), weight)
    options = {"threshold": fixed} if through else {}
    found = pdp_gradient(weight, soft(weight, fixed), tau, upstream, mean=mean, **options)
    np.testing.assert_allclose(found, numeric, rtol=1e-7, atol=1e-8)


def test_the_threshold_pulls_on_its_two_neighbours_only():
    weight, upstream = draw(2, 4, 8)
    t = pdp_threshold(weight, 0.5)
    mask = pdp_mask(weight, t, TAU)
    extra = pdp_gradient(weight, mask, TAU, upstream, threshold=t) - pdp_gradient(weight, mask, TAU, upstream)
    place = np.argsort(np.abs(weight), axis=None)[[15, 16]]
    assert sorted(np.flatnonzero(extra)) == sorted(place)


def test_a_weight_of_0_beside_the_threshold_takes_no_pull():
    """|w| has no derivative at 0. Of (2, 0) one is kept and t = 1: only 2 is pulled, by -t G w m(1-m) / tau."""
    weight, upstream = np.array([2.0, 0.0]), np.ones(2)
    mask = pdp_mask(weight, 1.0, 3.0)
    with np.errstate(all="raise"):
        through = pdp_gradient(weight, mask, 3.0, upstream, threshold=1.0)
    pull = through - pdp_gradient(weight, mask, 3.0, upstream)
    np.testing.assert_allclose(pull, [-2 * mask[0] * (1 - mask[0]) / 3, 0], rtol=1e-14)


def test_ratio_rises_to_the_target():
    """eps 0.25: a quarter of 0.8 in the first epoch, all of it from the fourth on."""
    assert [pdp_ratio(e, 0.8, 0.25) for e in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    assert pdp_ratio(0, 0.9) == pytest.approx(0.0135)


def test_powerprop_by_hand():
    """alpha 2: theta -3 is the weight -9, and its gradient 2 · 3 · G."""
    assert powerprop_weight(-3.0, 2) == -9
    assert powerprop_gradient([-3.0, 0.0], 2, [0.5, 1.0]).tolist() == [3, 0]
    assert powerprop_theta(-9.0, 2) == -3


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.floats(1, 5))
def test_powerprop_starts_from_the_given_weight(seed, alpha):
    weight, upstream = draw(seed, 6)
    theta = powerprop_theta(weight, alpha)
    np.testing.assert_allclose(powerprop_weight(theta, alpha), weight, rtol=1e-13)
    numeric = differences(lambda x: np.sum(upstream * powerprop_weight(x, alpha)), theta)
    np.testing.assert_allclose(powerprop_gradient(theta, alpha, upstream), numeric, rtol=1e-6, atol=1e-8)


def test_alpha_1_is_the_weight_itself():
    theta = np.array([-2.0, 0.0, 3.0], np.float32)
    np.testing.assert_array_equal(powerprop_weight(theta, 1), theta)
    np.testing.assert_array_equal(powerprop_gradient(theta, 1, theta), theta)
    assert powerprop_weight(theta, 1.5).dtype == powerprop_theta(theta, 1.5).dtype == np.float32


def test_single_precision_stays():
    weight = np.ones((4, 8), np.float32)
    mask = pdp_mask(weight, pdp_group_threshold(weight, "2:4"), np.float64(TAU))
    options = {"threshold": pdp_group_threshold(weight, "2:4"), "group": 4}
    assert mask.dtype == pdp_gradient(weight, mask, TAU, weight).dtype == np.float32
    assert pdp_gradient(weight, mask, TAU, weight, **options).dtype == np.float32


def test_mistakes_are_refused():
    ones = np.ones((2, 4))
    for ratio in (1.0, -0.1, float("nan")):
        with pytest.raises(PatternError, match=r"lies in \[0, 1\)"):
            pdp_threshold(ones, ratio)
    with pytest.raises(PatternError, match="NaN"):
        pdp_threshold([1.0, np.nan], 0.5)
    with pytest.raises(PatternError, match="n:m with n < m, not 4:2:8"):
        pdp_group_threshold(ones, "4:2:8")
    with pytest.raises(PatternError, match="no axis 2"):
        channel_norms(ones, 2)
    with pytest.raises(PatternError, match="real numbers, not complex128"):
        pdp_mask(ones * 1j, 1.0, 1.0)
    with pytest.raises(ShapeError, match="without elements"):
        pdp_threshold([], 0.5)
    with pytest.raises(ShapeError, match=r"mask \[3, 4\] does not broadcast"):
        pdp_gradient(ones, np.ones((3, 4)), 1.0, ones)
    with pytest.raises(ShapeError, match=r"gradient \[4\]"):
        pdp_gradient(ones, ones, 1.0, np.ones(4))
    for tau in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UnsupportedError, match="tau must be above 0"):
            pdp_mask(ones, 1.0, tau)
    with pytest.raises(UnsupportedError, match=r"at least 1, not 0\.5"):
        powerprop_weight(ones, 0.5)
