"""Backward masks of Bi-Mask: a case counted by hand, the definition one group at a time, laws and bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import PatternError, ShapeError
from nmsim.sparsity.bimask import backward_mask, best_permutation, kept_counts
from nmsim.sparsity.detect import satisfies
from nmsim.sparsity.mask import magnitude_mask, random_mask
from nmsim.sparsity.pattern import Pattern

nm = st.integers(2, 9).flatmap(lambda m: st.builds(Pattern.nm, st.integers(1, m - 1), st.just(m)))


@st.composite
def cases(draw):
    """A weight with zeros and ties, its forward mask, a pattern and an order of the output channels."""
    rng, pattern = np.random.default_rng(draw(st.integers(0, 2**32))), draw(nm)
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=2, max_size=3)))
    weight = rng.integers(-5, 6, shape).astype(draw(st.sampled_from([np.float16, np.float32, np.float64, np.int8])))
    forward = random_mask(shape, pattern, rng, axis=-2)
    return weight, forward, pattern, rng.permutation(shape[-1])


def oracle(weight, forward, pattern, order):
    """The mask by the definition: of each m channels in order, the n largest |w| that the forward mask kept."""
    kept = np.zeros(weight.shape, bool)
    for row in np.ndindex(weight.shape[:-1]):
        for start in range(0, len(order), pattern.m):
            group = order[start : start + pattern.m].tolist()
            sizes = {c: abs(float(weight[row][c])) * forward[row][c] for c in group}
            for c in sorted(group, key=lambda c: -sizes[c])[: pattern.n]:
                kept[row][c] = forward[row][c]
    return kept


def test_two_of_four_in_another_order():
    """One input, 8 outputs of |w| = 8 7 6 5 4 3 2 1, the forward mask without the fourth.

    As they are: of 8 7 6 - keep 8 7, of 4 3 2 1 keep 4 3: 4 non-zeros. In the order 0 4 1 5 | 2 6 3 7: of 8 4 7 3 keep
    8 7, of 6 2 - 1 keep 6 2.
    """
    weight = np.array([[8.0, -7, 6, 5, -4, 3, 2, 1]])
    forward = np.array([[1, 1, 1, 0, 1, 1, 1, 1]])
    assert backward_mask(weight, forward, "2:4").astype(int).tolist() == [[1, 1, 0, 0, 1, 1, 0, 0]]
    mixed = backward_mask(weight, forward, "2:4", [0, 4, 1, 5, 2, 6, 3, 7])
    assert mixed.astype(int).tolist() == [[1, 1, 1, 0, 0, 0, 1, 0]]


def test_an_order_that_keeps_more():
    """Survivors in channels 0 to 3 of 8: together 2:4 keeps 2 of them, two in each group all 4."""
    forward = np.array([[1, 1, 1, 1, 0, 0, 0, 0]])
    orders = [np.arange(8), [0, 1, 4, 5, 2, 3, 6, 7]]
    assert kept_counts(np.ones((1, 8)), forward, "2:4", orders).tolist() == [2, 4]


@settings(deadline=None, max_examples=150)
@given(cases())
def test_a_backward_mask_is_what_the_definition_says(case):
    weight, forward, pattern, order = case
    np.testing.assert_array_equal(backward_mask(*case), oracle(*case))
    np.testing.assert_array_equal(
        backward_mask(weight, forward, pattern), oracle(weight, forward, pattern, np.arange(len(order)))
    )


@settings(deadline=None, max_examples=100)
@given(cases())
def test_a_backward_mask_is_n_of_m_in_its_order_and_within_the_forward_mask(case):
    _, forward, pattern, order = case
    backward = backward_mask(*case)
    assert satisfies(backward[..., order], pattern, axis=-1)
    assert not (backward & ~forward).any()


@settings(deadline=None, max_examples=100)
@given(cases(), st.integers(1, 5), st.integers(0, 99))
def test_counts_are_those_of_the_masks_and_the_first_best_is_taken(case, candidates, seed):
    weight, forward, pattern, _ = case
    legacy = np.random.RandomState(seed)
    orders = [legacy.permutation(weight.shape[-1]) for _ in range(candidates)]
    kept = [np.count_nonzero(weight * backward_mask(weight, forward, pattern, order)) for order in orders]
    assert kept_counts(weight, forward, pattern, orders).tolist() == kept
    found = best_permutation(weight, forward, pattern, np.random.RandomState(seed), candidates)
    np.testing.assert_array_equal(found, orders[kept.index(max(kept))])


def test_counts_in_blocks():
    """More than one block of rows and of candidates: 700 x 1000 survivors, counted whole."""
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((700, 1000)).astype(np.float32)
    forward = magnitude_mask(weight, "2:4", axis=0)
    orders = np.stack([rng.permutation(1000) for _ in range(3)])
    kept = [np.count_nonzero(backward_mask(weight, forward, "2:4", order)) for order in orders]
    assert kept_counts(weight, forward, "2:4", orders).tolist() == kept


def test_a_generator_draws_the_same_again():
    weight = np.random.default_rng(0).standard_normal((16, 12))
    forward = magnitude_mask(weight, "1:4", axis=0)
    first, again = (best_permutation(weight, forward, "1:4", np.random.default_rng(5), 20) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda w, f: backward_mask(w, f[:1], "2:4"), ShapeError, r"\(2, 4\) and \(1, 4\)"),
        (lambda w, f: backward_mask(w[0], f[0], "2:4"), ShapeError, "in, out"),
        (lambda w, f: backward_mask(w * np.nan, f, "2:4"), PatternError, "NaN"),
        (lambda w, f: backward_mask(w, f, "dense"), PatternError, "dense"),
        (lambda w, f: backward_mask(w, f, "2:4", [0, 1, 2, 2]), PatternError, "4 output channels"),
        (lambda w, f: backward_mask(w, f, "2:4", [0, 1, 2]), PatternError, "4 output channels"),
        (lambda w, f: kept_counts(w, f, "2:4", [0, 1, 2, 3]), PatternError, "4 output channels"),
        (lambda w, f: best_permutation(w, f, "2:4", np.random.default_rng(0), 0), PatternError, "0 candidates"),
    ],
)
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call(np.ones((2, 4)), np.ones((2, 4)))
