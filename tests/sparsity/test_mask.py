"""Masks against a slow oracle, cases counted by hand, and masks of published implementations; detection of patterns."""

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import PatternError
from nmsim.sparsity.detect import detect, finest_pattern, satisfies, violations
from nmsim.sparsity.mask import magnitude_mask, prune, random_mask, top_n_mask
from nmsim.sparsity.pattern import Pattern

DTYPES = [np.float16, np.float32, np.float64, np.int8, np.int32, np.uint8, np.bool_]
GOLDEN = Path(os.environ.get("NMSIM_GOLDEN", Path(__file__).parents[2] / "../shared/golden")) / "recipes"


def best(scores, indices, n):
    """The n of `indices` of largest score, the lower index first between equals."""
    return sorted(indices, key=lambda i: (-scores[i], i))[:n]


def oracle_row(scores, n, m):
    keep = [False] * len(scores)
    for start in range(0, len(scores), m):
        for i in best(scores, range(start, min(start + m, len(scores))), n):
            keep[i] = True
    return keep


def oracle(scores, pattern, axis):
    """The mask by the definition, one Python number at a time."""
    scores = np.asarray(scores).astype(object)
    if pattern.is_dense:
        return np.ones(scores.shape, bool)
    if pattern.kind == "unstructured":
        kept = np.zeros(scores.size, bool)
        kept[best(scores.ravel(), range(scores.size), pattern.kept(scores.size))] = True
        return kept.reshape(scores.shape)
    moved = np.moveaxis(scores, axis, -1)
    kept = np.zeros(moved.shape, bool)
    if pattern.kind == "vnm":
        return np.moveaxis(oracle_tiles(moved, pattern, kept), -1, axis)
    n, m = (pattern.n, moved.shape[-1]) if pattern.kind == "fan_in" else (pattern.n, pattern.m)
    for row in np.ndindex(moved.shape[:-1]):
        kept[row] = oracle_row(list(moved[row]), n, m)
    return np.moveaxis(kept, -1, axis)


def oracle_tiles(scores, pattern, kept):
    length = scores.shape[-1]
    rows = scores.shape[-2] if scores.ndim > 1 else 1
    planes, kept_planes = scores.reshape(-1, rows, length), kept.reshape(-1, rows, length)
    for plane, start in product(range(len(planes)), range(0, rows, pattern.v)):
        block = planes[plane, start : start + pattern.v]
        sums = [sum(column) for column in block.T]
        for group in range(0, length, pattern.m):
            columns = best(sums, range(group, min(group + pattern.m, length)), 4)
            for r, row in enumerate(block):
                kept_planes[plane, start + r, best(row, sorted(columns), pattern.n)] = True
    return kept


patterns = st.one_of(
    st.integers(1, 64).flatmap(lambda m: st.builds(Pattern.nm, st.integers(1, m), st.just(m))),
    st.sampled_from([Pattern.nm(n, m) for n, m in ((1, 2), (2, 4), (1, 4), (2, 8), (4, 8), (1, 16))]),
    st.builds(Pattern.vnm, st.integers(1, 5), st.integers(1, 4), st.integers(4, 12)),
    st.builds(Pattern.fan_in, st.integers(1, 20)),
    st.builds(Pattern.unstructured, st.floats(0.01, 1)),
)


@st.composite
def arrays_and_axes(draw, dtypes=DTYPES):
    """Small numbers, so that ties and zeros are common; 1 to 3 axes; C, Fortran or strided order."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (*shape[:-1], shape[-1] * draw(st.sampled_from([1, 1, 4])))
    array = rng.integers(-4, 5, shape).astype(draw(st.sampled_from(dtypes)))
    array = draw(st.sampled_from([lambda a: a, np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2]]))(array)
    return array, draw(st.integers(-len(shape), len(shape) - 1))


@settings(deadline=None, max_examples=300)
@given(arrays_and_axes(), patterns)
def test_a_magnitude_mask_is_what_the_definition_says(case, pattern):
    array, axis = case
    mask = magnitude_mask(array, pattern, axis)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, oracle(np.abs(array.astype(np.float64)), pattern, axis))


@settings(deadline=None, max_examples=150)
@given(arrays_and_axes(), patterns)
def test_a_score_mask_ranks_signed_scores(case, pattern):
    scores, axis = case
    np.testing.assert_array_equal(top_n_mask(scores, pattern, axis), oracle(scores.astype(np.float64), pattern, axis))


@settings(deadline=None, max_examples=150)
@given(arrays_and_axes(), patterns)
def test_a_mask_satisfies_its_pattern_and_fills_it(case, pattern):
    array, axis = case
    mask = random_mask(array.shape, pattern, np.random.default_rng(7), axis)
    assert satisfies(mask, pattern, axis)
    if pattern.kind == "unstructured":
        assert np.count_nonzero(mask) == pattern.kept(mask.size)
    else:
        assert (np.count_nonzero(mask, axis=axis) == pattern.kept(mask.shape[axis])).all()


def test_two_of_four():
    """|x| = 3 1 2 2 | 0 0 0 0 | 5 4 6: ranks keep 3 and the first 2; the first two zeros; 6 and 5 of the tail."""
    x = np.array([-3.0, 1, 2, -2, 0, 0, 0, 0, 5, -4, 6])
    assert magnitude_mask(x, "2:4").astype(int).tolist() == [1, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1]


def test_groups_along_axis_0():
    """Column 0 holds 1 2 3 4 and keeps its last two; column 1 holds 4 3 2 1 and keeps its first two."""
    x = np.array([[1, 4], [2, 3], [3, 2], [4, 1]])
    assert magnitude_mask(x, "2:4", axis=0).astype(int).tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_the_axis_of_the_pattern_holds_unless_another_is_given():
    x = np.arange(16.0).reshape(4, 4)
    np.testing.assert_array_equal(magnitude_mask(x, Pattern.nm(2, 4, axis=0)), magnitude_mask(x, "2:4", axis=0))
    np.testing.assert_array_equal(magnitude_mask(x, Pattern.nm(2, 4, axis=0), 1), magnitude_mask(x, "2:4", 1))


def test_vnm_rows_share_four_columns():
    """2:1:8 of rows (9 1 1 1 0 0 0 0) and (0 0 0 0 1 5 5 5): column sums 9 1 1 1 1 5 5 5 keep columns 0 5 6 7.

    Row 0 keeps column 0; row 1 has 0 5 5 5 there and keeps the first 5.
    """
    x = np.array([[9, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 5, 5, 5]])
    assert [np.flatnonzero(row).tolist() for row in magnitude_mask(x, "2:1:8")] == [[0], [5]]


def test_the_lowest_integer_has_the_largest_magnitude():
    """|-128| = 128 does not fit int8 and must still beat 127."""
    assert magnitude_mask(np.array([127, -128], np.int8), "1:2").tolist() == [False, True]
    assert magnitude_mask(np.array([[127, -128]], np.int8), "fan-in:1").tolist() == [[False, True]]


def test_infinities_rank_above_all():
    x = np.array([1e308, -np.inf, np.inf, 0.0])
    assert magnitude_mask(x, "2:4").tolist() == [False, True, True, False]
    assert top_n_mask(x, "1:4").tolist() == [False, False, True, False]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_nan_is_refused_with_its_count(dtype):
    x = np.ones((4, 8), dtype)
    x[1, 2:5] = np.nan
    with pytest.raises(PatternError, match="3 of 32 values are NaN"):
        magnitude_mask(x, "2:4")


@pytest.mark.parametrize("array", [np.ones(4, complex), np.array(["a", "b"]), np.array([None, 1])])
def test_what_is_not_real_is_refused(array):
    with pytest.raises(PatternError, match="real numbers"):
        magnitude_mask(array, "2:4")


@pytest.mark.parametrize(("array", "axis"), [(np.ones(4), 1), (np.ones(4), -2), (np.float64(1), None)])
def test_an_axis_that_does_not_exist_is_refused(array, axis):
    for call in (magnitude_mask, violations):
        with pytest.raises(PatternError, match="no axis"):
            call(array, "2:4", axis)


@pytest.mark.parametrize("text", ["2:4", "4:2:8", "fan-in:2", "unstructured:0.5", "dense"])
@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_an_empty_array_has_an_empty_mask(text, shape):
    assert magnitude_mask(np.ones(shape), text).shape == shape
    assert satisfies(np.ones(shape), text)


def test_a_share_that_rounds_to_nothing_keeps_nothing():
    """round(0.1 * 4) = 0."""
    assert not magnitude_mask(np.ones(4), "unstructured:0.1").any()


def test_blocks_of_the_engine_do_not_show():
    """An array of several cache blocks gives the mask of its parts."""
    x = np.random.default_rng(3).standard_normal((300, 1024)).astype(np.float32)
    whole, parts = magnitude_mask(x, "2:8"), [magnitude_mask(part, "2:8") for part in np.array_split(x, 7)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_array_equal(magnitude_mask(x.T, "2:8", axis=0), whole.T)
    np.testing.assert_array_equal(magnitude_mask(np.ascontiguousarray(x.T), "2:8", axis=0), whole.T)


def test_random_masks_follow_the_generator_and_are_fair():
    """Each place of a 1:4 group is kept with chance 1/4: of 40000 groups 10000 +- 87 (1 sigma), 5 sigma allowed."""
    first, again = (random_mask((40_000, 4), "1:4", np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.sum(axis=0) - 10_000).max() < 5 * 87


@pytest.mark.parametrize(
    ("rows", "text", "broken"),
    [
        ([[1, 1, 1, 0, 1, 1, 0, 0]], "2:4", 1),
        ([[1, 1, 1, 0, 1, 1, 1]], "2:4", 2),
        ([[1, 1, 1, 0, 1, 1]], "dense", 0),
        ([[1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0]], "fan-in:2", 1),
        ([[1, 1, 0, 0], [0, 0, 0, 1]], "unstructured:0.25", 1),
        ([[1, 1, 0, 0], [0, 0, 0, 0]], "unstructured:0.25", 0),
        ([[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0]], "2:2:8", 0),
        ([[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0]], "2:2:8", 1),
        ([[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0, 1, 1]], "2:2:8", 1),
        ([[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]], "3:2:8", 1),
        ([[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]], "2:2:8", 0),
    ],
)
def test_violations(rows, text, broken):
    """Groups, rows, tiles or arrays over their limit; the last V:n:m pair differs in V only.

    With V = 3 the three rows use 5 columns of one tile; with V = 2 the third row is a tile of its own.
    """
    assert violations(np.array(rows), text) == broken
    assert satisfies(np.array(rows, bool), text) == (broken == 0)


def test_violations_of_text_are_refused():
    with pytest.raises(PatternError, match="array of numbers"):
        violations(np.array(["a"]), "2:4")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([1, 1, 0, 0, 0, 1, 1, 0], "2:4"),
        ([1, 0, 0, 1, 1, 0, 0, 1], "1:2"),
        ([1, 1, 0, 0, 0, 0, 0, 0], "2:8"),
        ([1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0], "4:8"),
        ([1, 1, 1, 1, 1, 1, 1, 1], "dense"),
        ([0, 0, 0, 0, 0, 0], "1:4"),
        ([1, 1, 1], "dense"),
        ([1], "dense"),
    ],
)
def test_the_finest_pattern(row, expected):
    """Lowest n / m, then smallest m: 1100 0110 has 2 of 2, 2 of 4 and 4 of 8; 1001 1001 already has 1 of 2.

    1110 0001 1111 0000 has 2 of 2, 4 of 4, 4 of 8 and 8 of 16. A row of zeros counts as n = 1 and takes the
    largest group that fits in it.
    """
    assert str(finest_pattern(np.array(row), -1)) == expected


@settings(deadline=None, max_examples=100)
@given(arrays_and_axes())
def test_the_finest_pattern_is_obeyed_and_none_of_the_grid_is_finer(case):
    array, axis = case
    found = finest_pattern(array, axis)
    assert found.axis == axis
    assert satisfies(array, found)
    length = array.shape[axis]
    grid = [Pattern.nm(n, m) for m in (2, 4, 8, 16, 32, 64) if m <= length for n in range(1, m)]
    obeyed = [(p.density, p.m) for p in grid if satisfies(array, p, axis)]
    assert (found.density, found.m) == min(obeyed, default=(1.0, 1))


def test_detect_looks_along_every_axis():
    """Rows of 2:4 magnitude masks of a descending array keep columns 0 and 1 of 4: every column is full or empty."""
    mask = magnitude_mask(np.arange(64, 0, -1).reshape(8, 8), "2:4")
    assert detect(mask) == {0: Pattern(axis=0), 1: Pattern.nm(2, 4, axis=1)}


def test_a_group_out_of_range_is_refused():
    with pytest.raises(PatternError, match="not a group: 129"):
        finest_pattern(np.ones(100), 0, groups=(129,))


def golden(name):
    path = GOLDEN / name
    if not path.exists():
        pytest.skip(f"no golden file {name}")
    with np.load(path) as arrays:
        return dict(arrays)


def test_masks_equal_those_of_apex_asp():
    """create_mask(w, 'm4n2_1d') of NVIDIA apex: groups along the input channels, axis 1 (0 of a vector)."""
    data = golden("asp_m4n2_1d_A.npz")
    for name in ("linear", "conv2d", "conv1d", "vec"):
        weight, mask = data[f"W_{name}"], data[f"mask_{name}"]
        np.testing.assert_array_equal(magnitude_mask(weight, "2:4", 0 if weight.ndim == 1 else 1), mask)


@pytest.mark.parametrize("text", ["2:4", "1:4", "2:8", "4:8", "1:16"])
def test_masks_equal_those_of_sr_ste(text):
    """Sparse.apply of NM-sparsity: groups along the last axis of [out, in]."""
    data, tag = golden("srste_linear_A.npz"), text.replace(":", "_")
    np.testing.assert_array_equal(magnitude_mask(data[f"W_{tag}"], text), data[f"mask_{tag}"])


def test_masks_equal_those_of_bdwp():
    """Forward groups run along C_in, backward groups along C_out, of one weight [C_out, C_in]."""
    data = golden("bdwp_linear_A.npz")
    np.testing.assert_array_equal(magnitude_mask(data["W"], "2:4", 1), data["mask_ff"])
    np.testing.assert_array_equal(magnitude_mask(data["W"], "2:4", 0), data["mask_bp"])
    np.testing.assert_array_equal(magnitude_mask(data["G"], "2:4", 1), data["mask_grad"])


def test_an_axis_is_a_number():
    with pytest.raises(PatternError, match="an axis is the number of an axis of the array, not 'k'"):
        magnitude_mask(np.ones((2, 4)), "2:4", axis="k")


PRUNED = [(1, 2), (2, 4), (1, 4), (2, 8), (4, 8), (2, 16), (3, 5), (1, 64), (4, 4)]


@pytest.mark.parametrize(("n", "m"), PRUNED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_pruning_is_multiplying_by_the_mask(n, m, dtype):
    """Bit for bit, signs of zeros too; with equal magnitudes, groups of zeros, subnormal numbers and odd layouts."""
    rng = np.random.default_rng(n * m)
    normal = rng.standard_normal((7, 3, 2 * m))
    for values in (normal, np.round(normal), np.maximum(normal, 0), np.where(normal > 1, normal * 1e-44, -0.0)):
        array = values.astype(dtype)
        for part in (array, array[..., :-1], np.asfortranarray(array), array[::-1]):
            for axis in (-1, 0):
                expected = part * oracle(np.abs(part), Pattern.parse(f"{n}:{m}"), axis)
                out = np.full_like(part, 7)
                assert prune(part, f"{n}:{m}", axis, out) is out
                assert out.tobytes() == expected.tobytes()


def test_pruning_refuses_nan():
    array = np.array([[1, np.nan, 2, 3]], np.float32)
    with pytest.raises(PatternError, match="1 of 4 values are NaN"):
        prune(array, "2:4", -1, np.empty_like(array))
