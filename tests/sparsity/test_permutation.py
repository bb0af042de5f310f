"""Channel permutations: cases counted by hand, optima by brute force, laws of every search and bad input."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import PatternError, UnsupportedError
from nmsim.sparsity.permutation import METHODS, channel_matrix, kept_magnitude, search_permutation

SEEDS = st.integers(0, 2**32)
PATTERNS = st.sampled_from(["1:2", "2:4", "1:4", "3:4", "1:3", "2:5", "2:6"])


def by_hand(matrix, n, m, order):
    """What n:m keeps, one group at a time."""
    rows = np.abs(np.asarray(matrix, float))[:, order].tolist()
    groups = [row[i : i + m] for row in rows for i in range(0, len(row), m)]
    return sum(sum(sorted(group)[-n:]) for group in groups)


def numbers(pattern):
    return [int(word) for word in pattern.split(":")]


def test_large_channels_are_spread():
    """Channels of 9 8 7 6 | 1 2 3 4: 2:4 keeps 17 + 7 = 24; with two of the large in each stripe all of 9 8 7 6 = 30.

    30 is also what half of the row can hold, so nothing avoidable is lost: efficacy (30 - 24) / (30 - 24).
    """
    found = search_permutation([[9.0, -8, 7, 6, 1, -2, 3, 4]])
    assert (found.start, found.magnitude, found.bound, found.efficacy) == (24.0, 30.0, 30.0, 1.0)
    assert sorted(np.flatnonzero(found.permutation < 4) // 4) == [0, 0, 1, 1]


def test_efficacy():
    """Rows 4 3 1 0 | 1 1 0 0 and 0 0 1 1 | 0 0 3 4 of 1:2 cannot both be served: the share follows from the three sums.

    Start: 4 + 1 + 1 + 0 and 0 + 1 + 0 + 4, 11. Bound: 4 + 3 + 1 + 1 and 4 + 3 + 1 + 1, 18.
    """
    matrix = np.array([[4, 3, 1, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0, 3, 4]])
    found = search_permutation(matrix, "1:2", "swap")
    assert (found.start, found.bound) == (11.0, 18.0)
    assert found.efficacy == (found.magnitude - 11) / 7


def test_nothing_to_gain():
    """Where no order keeps more, the order stays and the efficacy is 1."""
    for method in METHODS:
        found = search_permutation(np.ones((3, 8)), method=method, rng=np.random.default_rng(0), candidates=9)
        assert found.permutation.tolist() == list(range(8))
        assert (found.magnitude, found.efficacy) == (12.0, 1.0)


@settings(deadline=None, max_examples=60)
@given(SEEDS, PATTERNS)
def test_kept_magnitude_is_that_of_the_groups(seed, pattern):
    rng, (n, m) = np.random.default_rng(seed), numbers(pattern)
    matrix, order = rng.standard_normal((3, 3 * m)), rng.permutation(3 * m)
    assert kept_magnitude(matrix, pattern, order) == pytest.approx(by_hand(matrix, n, m, order), rel=1e-14)
    assert kept_magnitude(matrix[:, order], pattern) == kept_magnitude(matrix, pattern, order)


@settings(deadline=None, max_examples=60)
@given(SEEDS, PATTERNS, st.sampled_from(METHODS), st.integers(1, 3), st.sampled_from([1e-300, 1.0, 1e300]))
def test_a_search_returns_a_permutation_that_keeps_no_less(seed, pattern, method, count, scale):
    """At any scale of the weights; the magnitude is that of the permuted matrix, and the bound is above it."""
    rng, (n, m) = np.random.default_rng(seed), numbers(pattern)
    matrix = rng.standard_normal((4, count * m)) * scale
    found = search_permutation(matrix, pattern, method, escapes=2, rng=rng, candidates=5)
    assert sorted(found.permutation) == list(range(count * m))
    assert found.magnitude == pytest.approx(by_hand(matrix, n, m, found.permutation), rel=1e-14)
    assert found.start <= found.magnitude <= found.bound * (1 + 1e-14)


@settings(deadline=None, max_examples=40)
@given(SEEDS, PATTERNS)
def test_two_stripes_are_split_as_well_as_can_be(seed, pattern):
    """Every split of 2m channels in two by brute force."""
    n, m = numbers(pattern)
    matrix = np.random.default_rng(seed).standard_normal((5, 2 * m))
    firsts = [list(first) for first in combinations(range(2 * m), m)]
    best = max(by_hand(matrix, n, m, first + sorted({*range(2 * m)}.difference(first))) for first in firsts)
    assert search_permutation(matrix, pattern).magnitude == pytest.approx(best, rel=1e-12)


def test_three_stripes_are_split_as_well_as_can_be():
    """1:2 of 6 channels: all 720 orders. 2:4 of 12: no less than by pairs, and no pair can be improved after it."""
    matrix = np.random.default_rng(4).standard_normal((5, 6))
    best = max(by_hand(matrix, 1, 2, list(order)) for order in permutations(range(6)))
    assert search_permutation(matrix, "1:2", stripes=3).magnitude == pytest.approx(best, rel=1e-12)
    wide = np.random.default_rng(5).standard_normal((6, 12))
    found = search_permutation(wide, stripes=3)
    assert found.magnitude >= search_permutation(wide).magnitude * (1 - 1e-12)
    assert search_permutation(wide[:, found.permutation]).permutation.tolist() == list(range(12))


@settings(deadline=None, max_examples=25)
@given(SEEDS, PATTERNS, st.booleans())
def test_a_search_ends_where_no_move_gains(seed, pattern, swaps):
    """By brute force over all exchanges of one channel, or of all splits of all pairs, to single precision."""
    n, m = numbers(pattern)
    matrix = np.random.default_rng(seed).standard_normal((4, 4 * m))
    found = search_permutation(matrix, pattern, "swap" if swaps else "exhaustive")
    stripes = found.permutation.reshape(4, m).tolist()
    for a, b in combinations(stripes, 2):
        here = by_hand(matrix, n, m, a + b)
        for first in combinations(a + b, m):
            if not swaps or len({*first}.difference(a)) == 1:
                rest = [c for c in a + b if c not in first]
                assert by_hand(matrix, n, m, [*first, *rest]) <= here * (1 + 1e-6)


def test_a_search_over_several_blocks_of_rows():
    """2500 rows are summed in parts; two stripes, so that the best split is known."""
    matrix = np.random.default_rng(6).random((2500, 8)).astype(np.float32)
    splits = ([*first, *sorted({*range(8)}.difference(first))] for first in combinations(range(8), 4))
    assert search_permutation(matrix).magnitude == max(kept_magnitude(matrix, "2:4", split) for split in splits)


def test_published_magnitudes():
    """64 channels x 128 rows of uniform weights, apex contrib/sparsity/permutation_tests/README.md.

    Published of one such matrix, with the best half of every row at 3042.332: as it was 2852.376, exhaustive 2919.757,
    swaps 2913.352, 1000 random orders 2873.380. Shares of the bound scatter by 0.0009 between 20 matrices, by 0.0019
    before the search; those of two matrices differ by sqrt(2) as much, of which 3 are allowed. (The efficacies, which
    rest on the start, scatter by 2 to 3 points.)
    """
    matrix = np.random.default_rng(0).random((128, 64), dtype=np.float32)
    found = {method: search_permutation(matrix, method=method, rng=np.random.default_rng(1)) for method in METHODS}
    shares = {method: result.magnitude / result.bound for method, result in found.items()}
    published = {"exhaustive": 2919.757 / 3042.332, "swap": 2913.352 / 3042.332, "random": 2873.380 / 3042.332}
    assert shares == pytest.approx(published, abs=3 * 2**0.5 * 0.0009)
    start = found["swap"].start / found["swap"].bound
    assert start == pytest.approx(2852.376 / 3042.332, abs=3 * 2**0.5 * 0.0019)


def test_escapes_reach_more_and_draw_the_same_again():
    matrix = np.random.default_rng(7).standard_normal((16, 24))
    plain = search_permutation(matrix)
    first, again = (search_permutation(matrix, escapes=30, rng=np.random.default_rng(8)) for _ in range(2))
    assert first.magnitude > plain.magnitude
    assert first.permutation.tolist() == again.permutation.tolist()


def test_small_gains_can_be_left():
    """9 8 7 6 | 1 2 3 4 can gain 6: asked for more than that, the order stays."""
    matrix = [[9.0, 8, 7, 6, 1, 2, 3, 4]]
    assert search_permutation(matrix, min_gain=5.9).magnitude == 30.0
    assert search_permutation(matrix, min_gain=6.0).permutation.tolist() == list(range(8))


def test_channel_matrix():
    """Rows of a convolution's matrix are its filters and kernel places; of [2, 3, 1, 2] there are 4."""
    weight = np.arange(12).reshape(2, 3, 1, 2)
    assert channel_matrix(weight).tolist() == [[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11]]
    assert channel_matrix(weight[:, :, 0, 0], axis=0).tolist() == [[0, 6], [2, 8], [4, 10]]


@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (3, 4)])
def test_matrices_without_a_choice(shape):
    found = search_permutation(np.ones(shape))
    assert found.permutation.tolist() == list(range(shape[1]))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"matrix": np.ones((2, 6))}, PatternError, r"groups of 4: \(2, 6\)"),
        ({"matrix": np.ones(8)}, PatternError, r"\(8,\)"),
        ({"matrix": np.full((2, 8), np.inf)}, PatternError, "infinity"),
        ({"matrix": np.ones((2, 8), complex)}, PatternError, "complex"),
        ({"pattern": "dense"}, PatternError, "dense"),
        ({"pattern": "fan-in:2"}, PatternError, "fan-in:2"),
        ({"method": "swaps"}, UnsupportedError, "did you mean swap"),
        ({"method": "random"}, PatternError, "numpy.random.Generator"),
        ({"escapes": 1}, PatternError, "numpy.random.Generator"),
        ({"stripes": 1}, PatternError, "1 stripes"),
        ({"min_gain": -1.0}, PatternError, "min_gain -1.0"),
        ({"matrix": np.ones((2, 32)), "pattern": "8:16"}, UnsupportedError, "300540195 splits"),
        ({"matrix": np.ones((2, 16)), "stripes": 4}, UnsupportedError, "2627625 splits"),
        ({"matrix": np.ones((2, 16)), "pattern": "1:2", "stripes": 8}, UnsupportedError, "2027025 splits"),
    ],
)
def test_bad_input(arguments, error, says):
    with pytest.raises(error, match=says):
        search_permutation(**{"matrix": np.ones((2, 8)), **arguments})


@pytest.mark.parametrize("order", [[0, 1, 2, 2], [0, 1, 2], [[0, 1, 2, 3]], [0.5, 1, 2, 3]])
def test_an_order_that_is_no_permutation(order):
    with pytest.raises(PatternError, match="permutation of 4 channels"):
        kept_magnitude(np.ones((1, 4)), "2:4", order)


def test_an_axis_that_does_not_exist():
    with pytest.raises(PatternError, match="no axis 2"):
        channel_matrix(np.ones((2, 3)), axis=2)
