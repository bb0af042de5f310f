"""Learned masks: candidates and choices by hand, laws over random logits, and gradients against central differences."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import PatternError, ShapeError, UnsupportedError
from nmsim.sparsity.candidates import (
    best_mask,
    candidates,
    gumbel_noise,
    linear_schedule,
    logit_gradient,
    regularizer,
    soft_choice,
    soft_mask,
    with_prior,
)
from nmsim.sparsity.detect import satisfies
from nmsim.sparsity.mask import magnitude_mask


def hard_choice(choice):
    """One-hot of the largest entry of each choice."""
    return np.eye(choice.shape[-1])[np.asarray(choice).argmax(axis=-1)]


EPS = 1e-6


def differences(loss, at):
    gradient = np.empty(at.shape)
    for i in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[i] += EPS
        down[i] -= EPS
        gradient[i] = (loss(up) - loss(down)) / (2 * EPS)
    return gradient


def draw(seed, pattern, shape):
    """Logits [groups, C] of a weight of this shape, noise for them, and a gradient to its mask."""
    rng = np.random.default_rng(seed)
    table = candidates(pattern)
    size = (np.prod(shape) // table.shape[1], len(table))
    return rng.standard_normal(size), gumbel_noise(size, rng), rng.standard_normal(shape)


def test_candidates_are_in_the_published_order():
    assert ["".join(map(str, row)) for row in candidates("2:4").astype(int).tolist()] == [
        "1100", "1010", "1001", "0110", "0101", "0011",
    ]  # fmt: skip
    np.testing.assert_array_equal(candidates("1:4"), np.eye(4))


@pytest.mark.parametrize("pattern", ["1:2", "3:4", "2:8", "4:8", "1:16", "4:16", "2:64"])
def test_candidates_are_all_masks_of_the_pattern_once(pattern):
    n, m = map(int, pattern.split(":"))
    table = candidates(pattern)
    assert table.shape == (comb(m, n), m)
    assert (table.sum(axis=1) == n).all()
    assert len({tuple(row) for row in table.tolist()}) == len(table)
    assert not table.flags.writeable


def test_choice_by_hand():
    """kappa 2, tau 4, logits (0, 2 ln 3): exponents 0 and ln 3, shares 1/4 and 3/4; noise 2 ln 9 evens them."""
    logits = np.array([[0.0, 2 * np.log(3)]])
    np.testing.assert_allclose(soft_choice(logits, 0.0, 2, 4), [[0.25, 0.75]], rtol=1e-15)
    noise = np.array([[2 * np.log(9), 0.0]])
    np.testing.assert_allclose(soft_choice(logits, noise, 2, 4), [[0.5, 0.5]], rtol=1e-15)


def test_mask_by_hand():
    """1:2 of a weight [2, 2]: along axis -2 groups are columns, so each column of the mask is its group's choice."""
    choice = np.array([[0.25, 0.75], [0.9, 0.1]])
    np.testing.assert_array_equal(soft_mask(choice, "1:2", (2, 2), axis=-1), choice)
    np.testing.assert_array_equal(soft_mask(choice, "1:2", (2, 2), axis=-2), choice.T)
    np.testing.assert_array_equal(soft_mask(hard_choice(choice), "1:2", (2, 2)), [[0, 1], [1, 0]])


shapes = st.sampled_from([((2, 8), -1), ((8, 3), -2), ((8, 3), 0), ((2, 4, 3), 1), ((16,), 0)])
small_patterns = st.sampled_from(["2:4", "1:4", "3:4", "1:2"])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), small_patterns, shapes, st.floats(0.1, 500), st.floats(0.05, 4))
def test_a_soft_mask_keeps_n_of_m_in_the_mean(seed, pattern, case, kappa, tau):
    shape, axis = case
    n, m = map(int, pattern.split(":"))
    logits, noise, _ = draw(seed, pattern, shape)
    choice = soft_choice(logits, noise, kappa, tau)
    mask = soft_mask(choice, pattern, shape, axis)
    assert mask.shape == shape
    np.testing.assert_allclose(choice.sum(axis=-1), 1, rtol=1e-12)
    groups = np.moveaxis(mask, axis, -1).reshape(-1, m)
    np.testing.assert_allclose(groups.sum(axis=1), n, rtol=1e-12)
    hard = soft_mask(hard_choice(choice), pattern, shape, axis)
    assert satisfies(hard, pattern, axis)
    assert hard.sum() == n * len(groups)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), small_patterns, shapes)
def test_logit_gradient(seed, pattern, case):
    """Of sum(mask · G), through softmax and table."""
    shape, axis = case
    kappa, tau = 3.0, 2.0
    logits, noise, g = draw(seed, pattern, shape)
    numeric = differences(
        lambda x: np.sum(g * soft_mask(soft_choice(x, noise, kappa, tau), pattern, shape, axis)), logits
    )
    found = logit_gradient(soft_choice(logits, noise, kappa, tau), g, pattern, kappa, tau, axis)
    np.testing.assert_allclose(found, numeric, rtol=1e-6, atol=1e-8)


def test_gradient_of_the_regularizer():
    rng = np.random.default_rng(5)
    weight, mask = rng.standard_normal((2, 3, 4))
    value, gradient = regularizer(weight, mask)
    assert value == pytest.approx(np.sum((weight * mask) ** 2))
    np.testing.assert_allclose(gradient, differences(lambda m: regularizer(weight, m)[0], mask), rtol=1e-6, atol=1e-8)


def test_extreme_logits_do_not_overflow():
    with np.errstate(all="raise"):
        choice = soft_choice(np.array([[1e4, -1e4, 0, 0]], np.float32), 0.0, 500.0, 0.05)
    assert choice.dtype == np.float32
    np.testing.assert_array_equal(choice, [[1, 0, 0, 0]])


def test_noisy_choices_are_drawn_from_the_softmax():
    """Gumbel-max: of 20,000 draws a share p is the most likely candidate, to 4 standard deviations of 0.0035."""
    logits = np.log([[0.1, 0.2, 0.3, 0.4]])
    noise = gumbel_noise((20_000, 4), np.random.default_rng(3))
    drawn = hard_choice(soft_choice(np.repeat(logits, 20_000, axis=0), noise, 1, 1)).mean(axis=0)
    np.testing.assert_allclose(drawn, [0.1, 0.2, 0.3, 0.4], atol=0.014)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), small_patterns, shapes)
def test_without_noise_the_best_mask_is_the_hard_one(seed, pattern, case):
    shape, axis = case
    logits, _, _ = draw(seed, pattern, shape)
    best = best_mask(logits, pattern, shape, axis)
    hard = soft_mask(hard_choice(soft_choice(logits, 0.0, 1, 1)), pattern, shape, axis)
    assert best.dtype == np.bool_
    np.testing.assert_array_equal(best, hard != 0)


def test_prior_by_hand():
    """Logits (1, 3), unbiased deviation sqrt(2), and a prior that keeps the first of 2: + (0, -1) · 3 sqrt(2)."""
    found = with_prior(np.array([[1.0, 3.0]]), [[1, 0]], "1:2")
    np.testing.assert_allclose(found, [[1, 3 - 3 * np.sqrt(2)]], rtol=1e-15)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), small_patterns, shapes)
def test_a_strong_prior_is_the_mask_and_its_centre_changes_no_choice(seed, pattern, case):
    shape, axis = case
    logits, noise, weight = draw(seed, pattern, shape)
    prior = magnitude_mask(weight, pattern, axis)
    strong = with_prior(logits, prior, pattern, axis, strength=100)
    np.testing.assert_array_equal(best_mask(strong, pattern, shape, axis), prior)
    other = with_prior(logits, prior, pattern, axis, centre=int(pattern[0]) / 2)
    usual = with_prior(logits, prior, pattern, axis)
    np.testing.assert_allclose(soft_choice(other, noise, 2, 1), soft_choice(usual, noise, 2, 1), rtol=1e-9)


def test_schedule():
    """From 100 to 500 in 4 steps: a quarter of the way is 200; after the end it stays."""
    assert [linear_schedule(100, 500, step, 4) for step in (0, 1, 4, 9)] == [100, 200, 500, 500]
    assert linear_schedule(1e-5, 0.0, 500, 2000) == pytest.approx(7.5e-6)


def test_mistakes_are_refused():
    logits = np.zeros((2, 6))
    with pytest.raises(PatternError, match="12,870 candidates"):
        candidates("8:16")
    for pattern in ("dense", "64:2:8", "fan-in:3"):
        with pytest.raises(PatternError, match="n:m with n < m"):
            candidates(pattern)
    for kappa, tau in ((0, 1), (1, 0), (1, float("nan")), (float("inf"), 1)):
        with pytest.raises(UnsupportedError, match="must be above 0"):
            soft_choice(logits, 0.0, kappa, tau)
        with pytest.raises(UnsupportedError, match="must be above 0"):
            logit_gradient(logits, np.ones((2, 4)), "2:4", kappa, tau)
    for shape in ((2, 8), (2, 2)):
        with pytest.raises(ShapeError, match="candidates each"):
            soft_mask(logits, "2:4", shape)
        with pytest.raises(ShapeError, match="candidates each"):
            with_prior(logits, np.ones(shape), "2:4")
    with pytest.raises(ShapeError, match="multiple of 4 along axis 1"):
        best_mask(logits, "2:4", (4, 2))
    with pytest.raises(ShapeError, match="multiple of 4 along axis 1"):
        logit_gradient(logits, np.ones((4, 2)), "2:4", 1, 1)
    with pytest.raises(ShapeError, match="shapes differ"):
        regularizer(np.ones(3), np.ones(4))
    with pytest.raises(UnsupportedError, match="not 0 and 1"):
        linear_schedule(0, 1, 1, 0)
