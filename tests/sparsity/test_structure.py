"""Structure decay: sequences and frames by hand, laws, and masks and packing of the widest groups that they need."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import PatternError, ShapeError, UnsupportedError
from nmsim.sparsity.detect import satisfies
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.packing import pack, unpack
from nmsim.sparsity.pattern import MAX_GROUP, Pattern
from nmsim.sparsity.structure import KINDS, densify, flat_mask, frames, geometric, halved, halving, stepwise

targets = st.integers(2, 128).flatmap(lambda m: st.tuples(st.integers(1, m - 1), st.just(m)))


def kept(sequence):
    return [n for n, _ in sequence]


def test_sequences_by_hand():
    """Stepwise to 1:16 as the paper lists it; halving skips 8:16; 3:8 is no half of 8, so it ends the halves."""
    assert kept(stepwise(1, 16)) == [15, 8, 4, 2, 1]
    assert kept(stepwise(3, 8)) == [7, 4, 3]
    assert kept(stepwise(1, 2)) == [1]
    assert kept(halving(1, 16)) == [16, 15, 4, 2, 1]
    assert kept(halving(2, 8)) == [8, 7, 2]
    assert geometric(1, 8) == [(8, 64), (4, 32), (2, 16), (1, 8)]
    assert densify(2, 4) == [(2, 32), (2, 16), (2, 8), (2, 4)]


def test_halved_as_published():
    """u = 0 ... 6 of 16, then a floor."""
    assert [halved(u, 16) for u in range(7)] == [16, 15, 4, 2, 1, 1, 1]
    assert [halved(u, 16, floor=3) for u in range(5)] == [16, 15, 4, 3, 3]


def test_the_published_count_of_steps():
    """log2(8/3) = 1.4: two patterns, the last 4:8, not 3:8; 1:2 comes twice."""
    assert kept(stepwise(3, 8, "pgf")) == [7, 4]
    assert kept(stepwise(1, 2, "pgf")) == [1, 1]


@given(targets, st.sampled_from(list(KINDS)))
def test_every_sequence_ends_at_its_target(target, kind):
    sequence = KINDS[kind](*target)
    assert sequence[-1] == target
    assert len(set(sequence)) == len(sequence)
    densities = [n / m for n, m in sequence]
    assert sorted(densities, reverse=kind != "densify") == densities


def test_frames_by_hand():
    """Epochs 2 to 18 of 20 in four frames of 4; the fine-tuning phase keeps the last pattern."""
    assert frames("stepwise", 1, 8, 20, dense=2, fine_tune=2) == [(2, 7, 8), (6, 4, 8), (10, 2, 8), (14, 1, 8)]
    assert frames("geometric", 1, 4, 10) == [(0, 8, 32), (2, 4, 16), (5, 2, 8), (7, 1, 4)]
    assert frames("halving", 1, 4, 9)[:2] == [(0, 4, 4), (3, 3, 4)]


def test_frames_shorter_than_a_step_vanish():
    """Four patterns in two steps: each step has the later two of its four halves."""
    assert frames("geometric", 1, 4, 2) == [(0, 4, 16), (1, 1, 4)]


@given(targets, st.sampled_from(list(KINDS)), st.integers(0, 50), st.integers(1, 500), st.integers(0, 50))
def test_frames_are_equal_to_a_step_and_end_at_the_target(target, kind, dense, length, fine_tune):
    found = frames(kind, *target, dense + length + fine_tune, dense, fine_tune)
    firsts = [first for first, _, _ in found]
    assert firsts[0] == dense
    assert found[-1][1:] == target
    assert firsts[-1] < dense + length
    if length >= len(KINDS[kind](*target)):
        assert len(found) == len(KINDS[kind](*target))
        lengths = np.diff([*firsts, dense + length])
        assert lengths.max() - lengths.min() <= 1


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([(1, 2), (2, 4), (3, 8)]), st.sampled_from([0, 1, -1]))
def test_flat_groups_are_groups_along_an_axis_that_they_fill(seed, target, axis):
    weight = np.random.default_rng(seed).standard_normal((8, 16))
    n, m = target
    np.testing.assert_array_equal(flat_mask(weight, n, m, axis), magnitude_mask(weight, f"{n}:{m}", axis))


def test_flat_groups_straddle_rows():
    """1:4 of rows of 2: both rows are one group, in which 4 is kept; along the columns (1, 3, 2, 4) the same."""
    weight = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert flat_mask(weight, 1, 4).tolist() == flat_mask(weight, 1, 4, 0).tolist() == [[False, False], [False, True]]
    assert flat_mask(np.arange(1024.0), 8, 1024).sum() == 8


@pytest.mark.parametrize("m", [MAX_GROUP - 1, MAX_GROUP])
@pytest.mark.parametrize("n", [1, 2, 3, 8, MAX_GROUP // 2, MAX_GROUP - 2])
@pytest.mark.parametrize("tied", [False, True])
def test_masks_of_the_widest_groups(n, m, tied):
    """Ranks and counts of a group fit their 8 bits: against a stable sort, with all elements equal and few of them."""
    rng = np.random.default_rng(n)
    weight = rng.integers(0, 2 if tied else 10**6, (3, 2 * m + 5)) * rng.choice([-1.0, 1.0], (3, 2 * m + 5))
    weight[0] = 7.0
    mask = magnitude_mask(weight, Pattern.nm(n, m), axis=1)
    for row, found in zip(weight, mask, strict=True):
        for start in range(0, len(row), m):
            best = np.argsort(-np.abs(row[start : start + m]), kind="stable")[:n]
            np.testing.assert_array_equal(np.flatnonzero(found[start : start + m]), np.sort(best))


@pytest.mark.parametrize(
    "text", [f"8:{MAX_GROUP}", f"1:{MAX_GROUP}", f"{MAX_GROUP - 1}:{MAX_GROUP}", f"3:2:{MAX_GROUP}"]
)
@pytest.mark.parametrize("format", ["packed", "bitmask", "csr"])
def test_packing_of_the_widest_groups(text, format):
    weight = np.random.default_rng(1).standard_normal((6, 2 * MAX_GROUP)).astype(np.float32)
    weight *= magnitude_mask(weight, text, axis=1)
    assert satisfies(weight, text, axis=1)
    assert not satisfies(np.ones_like(weight), text, axis=1)
    np.testing.assert_array_equal(unpack(pack(weight, text, format, axis=1)), weight)


def test_mistakes_are_refused():
    for make in (stepwise, geometric, densify, halving):
        for n, m in ((0, 4), (4, 4), (5, 4)):
            with pytest.raises(PatternError, match="needs 1 <= n < m"):
                make(n, m)
    with pytest.raises(UnsupportedError, match="did you mean stepwise"):
        frames("stepwize", 1, 4, 10)
    with pytest.raises(UnsupportedError, match="allowed: exact, pgf"):
        stepwise(1, 4, "published")
    for dense, fine_tune in ((10, 0), (5, 5), (-1, 0)):
        with pytest.raises(UnsupportedError, match="leave none"):
            frames("stepwise", 1, 4, 10, dense, fine_tune)
    with pytest.raises(ShapeError, match="no multiple of groups of 4"):
        flat_mask(np.ones(6), 2, 4)
    with pytest.raises(PatternError, match="not a pattern: 5:4"):
        flat_mask(np.ones(8), 5, 4)
