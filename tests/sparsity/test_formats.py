"""Packed layouts: bytes counted by hand, round trips, and formulas equal to real buffers."""

from math import comb, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import PatternError, ShapeError
from nmsim.sparsity.formats import FORMATS, Size, index_bits, operand_bits, size_bytes
from nmsim.sparsity.mask import random_mask
from nmsim.sparsity.packing import pack, unpack
from nmsim.sparsity.pattern import DENSE, Pattern

DTYPES = [np.float16, np.float32, np.float64, np.int8, np.int32, np.uint16, np.bool_, np.complex64, np.dtype(">f4")]
LAYOUTS = [f for f in FORMATS if f != "combinatorial"]

nm_patterns = st.integers(1, 64).flatmap(lambda m: st.builds(Pattern.nm, st.integers(1, m), st.just(m)))
vnm_patterns = st.builds(Pattern.vnm, st.integers(1, 5), st.integers(1, 4), st.integers(4, 20))
fan_in_patterns = st.builds(Pattern.fan_in, st.integers(1, 20))
unstructured_patterns = st.builds(Pattern.unstructured, st.floats(0.01, 1))
patterns = st.one_of(nm_patterns, vnm_patterns, fan_in_patterns, unstructured_patterns)
shapes = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(lambda s: (*s[:-1], s[-1] * 3))


@st.composite
def sparse_arrays(draw):
    """An array that obeys a pattern along an axis, with fewer non-zeros than allowed as often as not."""
    pattern, shape = draw(patterns), draw(shapes)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.integers(draw(st.sampled_from([0, 1])), 100, shape).astype(draw(st.sampled_from(DTYPES)))
    return values * random_mask(shape, pattern, rng, axis), pattern, axis


@settings(deadline=None, max_examples=400)
@given(sparse_arrays(), st.sampled_from(LAYOUTS))
def test_packing_round_trips_and_takes_the_bytes_of_the_formula(case, layout):
    array, pattern, axis = case
    if pattern.kind == "unstructured" and layout == "packed":
        return
    packed = pack(array, pattern, layout, axis)
    back = unpack(packed)
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype
    assert packed.metadata.dtype == np.uint8
    count = np.count_nonzero(array)
    size = size_bytes(array.shape, pattern, 8 * array.itemsize, layout, axis, None if pattern.is_dense else count)
    assert Size(packed.value_bytes, packed.metadata_bytes) == size
    assert packed.size_bytes == size.total


@settings(deadline=None)
@given(st.one_of(nm_patterns, vnm_patterns, fan_in_patterns), shapes, st.data())
def test_combinatorial_is_never_larger_than_packed_and_never_beats_the_count_of_masks(pattern, shape, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    bound, packed = (size_bytes(shape, pattern, 16, f, axis) for f in ("combinatorial", "packed"))
    assert bound.values == packed.values
    assert bound.metadata <= packed.metadata
    if pattern.kind == "nm":
        rows, (groups, tail) = np.prod(shape) // shape[axis], divmod(shape[axis], pattern.m)
        masks_log2 = groups * log2(comb(pattern.m, pattern.n)) + log2(comb(tail, min(pattern.n, tail)))
        assert 8 * bound.metadata >= rows * masks_log2 - 1e-6


@settings(deadline=None)
@given(patterns, st.sampled_from(FORMATS), st.integers(1, 20), st.integers(1, 300))
def test_bits_of_a_row_add_up_to_the_bytes_of_an_operand(pattern, layout, blocks, length):
    """For whole blocks of V rows; csr has one row pointer more than it has rows."""
    if pattern.kind == "unstructured":
        return
    rows = blocks * pattern.v
    slots, metadata = operand_bits(pattern, layout, length)
    size = size_bytes((rows, length), pattern, 8, layout)
    extra = 32 if layout == "csr" and not pattern.is_dense else 0
    assert size == Size(rows * slots, -(-round(rows * metadata + extra) // 8))


def test_the_bytes_of_two_of_four():
    """Row 0 5 0 7 | 0 0 9 0 | 0 8: slots 5 7, (0) 9, (0) 8 at places 1 3, 0 2, 0 1 of 2 bits each.

    Lowest first: 01 | 11<<2 | 00<<4 | 10<<6 = 0b10001101; then 00 | 01<<2 = 0b0100.
    """
    packed = pack(np.array([0, 5, 0, 7, 0, 0, 9, 0, 0, 8], np.int8), "2:4", "packed")
    assert packed.values.tolist() == [5, 7, 0, 9, 0, 8]
    assert packed.metadata.tolist() == [0b10001101, 0b0100]


def test_the_bytes_of_a_bitmask():
    """Row 0 5 0 7 | 0 0 9 0 | 0 8: bits 1, 3, 6 of the first byte and 1 of the second."""
    packed = pack(np.array([0, 5, 0, 7, 0, 0, 9, 0, 0, 8], np.int8), "2:4", "bitmask")
    assert packed.values.tolist() == [5, 7, 9, 8]
    assert packed.metadata.tolist() == [0b01001010, 0b10]


def test_the_bytes_of_csr():
    """Columns 1, 0 and 3 of one byte each, then pointers 0, 1, 3 of four bytes."""
    packed = pack(np.array([[0, 5, 0, 0], [6, 0, 0, 7]], np.int8), "2:4", "csr")
    assert packed.values.tolist() == [5, 6, 7]
    assert packed.metadata.tolist() == [1, 0, 3, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]


def test_the_bytes_of_vnm():
    """2:1:8 with 5 at column 6 of row 0 and 7 at column 1 of row 1: the tile takes columns 0, 1, 2 and 6.

    Places among these: 3 and 1, so 11 | 01<<2; then the columns in 3 bits: 000<<4, 001<<7, 010<<10, 110<<13.
    """
    array = np.zeros((2, 8), np.int8)
    array[0, 6], array[1, 1] = 5, 7
    packed = pack(array, "2:1:8", "packed")
    assert packed.values.tolist() == [5, 7]
    stream = 0b11 | 0b01 << 2 | 0b001 << 7 | 0b010 << 10 | 0b110 << 13
    assert packed.metadata.tolist() == [stream & 255, stream >> 8]


@pytest.mark.parametrize(("m", "bits"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (16, 4), (64, 6)])
def test_index_bits(m, bits):
    assert index_bits(m) == bits


@pytest.mark.parametrize(
    ("text", "ratio"),
    [("2:4", 0.5625), ("1:4", 0.28125), ("4:8", 0.59375), ("2:8", 0.296875), ("1:8", 0.1484375), ("2:16", 0.15625)],
)
def test_storage_of_fp16_and_indices_over_dense(text, ratio):
    """d (1 + ceil(log2 m) / 16), as 2:4: 0.5 * 18 / 16."""
    assert size_bytes((256, 256), text, 16, "packed").total / (256 * 256 * 2) == ratio


@pytest.mark.parametrize(
    ("text", "layout", "nonzeros", "expected"),
    [
        ("2:4", "dense", None, Size(20, 0)),
        ("2:4", "packed", None, Size(12, 6)),
        ("2:4", "bitmask", None, Size(12, 5)),
        ("2:4", "bitmask", 7, Size(4, 5)),
        ("2:4", "combinatorial", None, Size(12, 3)),
        ("2:4", "csr", 7, Size(4, 27)),
        ("fan-in:3", "packed", None, Size(6, 6)),
        ("fan-in:3", "combinatorial", None, Size(6, 4)),
        ("3:2:8", "packed", None, Size(8, 9)),
        ("unstructured:0.1", "bitmask", None, Size(2, 5)),
        ("dense", "csr", None, Size(20, 0)),
    ],
)
def test_sizes_counted_by_hand(text, layout, nonzeros, expected):
    """[4, 10] of 4-bit values.

    2:4 keeps 2 + 2 + 2 = 6 a row, 24 values = 12 bytes; indices 48 bits = 6 bytes; a choice of C(4,2) = 6 takes
    3 bits, twice, and C(2,2) none: 24 bits = 3 bytes; csr 7 columns of 1 byte and 5 pointers of 4 = 27; 7 values
    of 4 bits round up to 4 bytes. A fan-in of 3 keeps 12 values = 6 bytes, indices 12 x 4 bits = 6 bytes, a choice
    of C(10,3) = 120 takes 7 bits, 28 in all = 4 bytes. 3:2:8 keeps 2 + 2 a row, 16 values = 8 bytes, places
    32 bits; blocks of 3 and 1 rows select 4 + 2 columns of 3 bits each, 36 bits; 68 bits = 9 bytes. A tenth of 40
    is 4 values = 2 bytes.
    """
    assert size_bytes((4, 10), text, 4, layout, nonzeros=nonzeros) == expected


@pytest.mark.parametrize(("columns", "width"), [(1, 1), (256, 1), (257, 2), (65536, 2), (65537, 4)])
def test_csr_columns_take_the_smallest_whole_index(columns, width):
    """2 non-zeros: 2 column indices and 2 pointers."""
    assert size_bytes((1, columns), "fan-in:2", 8, "csr").metadata == min(2, columns) * width + 8


@pytest.mark.parametrize(
    ("text", "layout", "length", "expected"),
    [
        ("dense", "bitmask", 100, (100, 0)),
        ("2:4", "dense", 100, (100, 0)),
        ("2:4", "packed", 100, (50, 100)),
        ("2:4", "bitmask", 100, (50, 100)),
        ("2:4", "combinatorial", 100, (50, 75)),
        ("64:2:8", "packed", 64, (16, 16 * 2 + 8 * 4 * 3 / 64)),
        ("fan-in:6", "packed", 100, (6, 42)),
        ("unstructured:0.1", "bitmask", 100, (10, 100)),
        ("unstructured:0.1", "csr", 100, (10, 10 * 8 + 32)),
    ],
)
def test_bits_of_a_row(text, layout, length, expected):
    """2:4 of 100: 25 groups of 2 slots, 2 bits each, or C(4,2) = 6 in 3 bits a group; 7 bits tell 100 places apart."""
    assert operand_bits(text, layout, length) == expected


def test_wide_rows_pack_wide_indices():
    """A fan-in of 3 in 70000 columns: 17 bits an index, 2 rows: 102 bits = 13 bytes."""
    array = np.zeros((2, 70_000), np.float32)
    array[0, [0, 65_536, 69_999]] = array[1, [1, 2, 3]] = (1, 2, 3)
    packed = pack(array, "fan-in:3", "packed")
    assert packed.metadata_bytes == 13
    np.testing.assert_array_equal(unpack(packed), array)
    np.testing.assert_array_equal(unpack(pack(array, "fan-in:3", "csr")), array)


def test_nan_and_infinity_are_values_like_others():
    array = np.array([0, np.nan, -np.inf, 0], np.float16)
    for layout in LAYOUTS:
        np.testing.assert_array_equal(unpack(pack(array, "2:4", layout)), array)


def test_an_array_that_breaks_the_pattern_is_refused_with_the_count():
    with pytest.raises(PatternError, match="3 groups hold too many"):
        pack(np.ones((3, 4)), "2:4", "packed")


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(PatternError, match="did you mean packed"):
        pack(np.zeros(4), "2:4", "pakced")
    with pytest.raises(PatternError, match="bound on the size"):
        pack(np.zeros(4), "2:4", "combinatorial")
    with pytest.raises(PatternError, match="no fixed slots"):
        pack(np.zeros(4), "unstructured:0.5", "packed")
    with pytest.raises(ShapeError, match="nothing to pack"):
        pack(np.zeros((0, 4)), "2:4", "packed")


def test_sizes_that_make_no_operand_are_refused():
    with pytest.raises(ShapeError, match="at least 1"):
        size_bytes((4, 0), "2:4", 16, "packed")
    with pytest.raises(ShapeError, match="at least 1"):
        size_bytes((4, 4), "2:4", 0, "packed")
    with pytest.raises(ShapeError, match="at least 1"):
        operand_bits("2:4", "packed", 0)
    with pytest.raises(ShapeError, match="overflow a row pointer"):
        size_bytes((1 << 20, 1 << 14), "2:4", 16, "csr")
    with pytest.raises(ShapeError, match="overflow a column index"):
        operand_bits("fan-in:1", "csr", (1 << 32) + 1)
    with pytest.raises(PatternError, match="0 to 8 non-zeros"):
        size_bytes((4, 4), "2:4", 16, "bitmask", nonzeros=9)
    with pytest.raises(PatternError, match="no axis"):
        size_bytes((4, 4), "2:4", 16, "packed", axis=2)


def test_the_axis_of_the_pattern_holds_unless_another_is_given():
    """[8, 2] in groups of 4 along axis 0 keeps 4 of 8 in 2 rows; along axis 1 tails of 2 keep both of 2 in 8 rows."""
    assert size_bytes((8, 2), Pattern.nm(2, 4, axis=0), 8, "packed").values == 8
    assert size_bytes((8, 2), Pattern.nm(2, 4, axis=0), 8, "packed", axis=1).values == 16
    assert pack(np.eye(4), Pattern.nm(2, 4, axis=0), "packed", 1).pattern.axis == 1


@pytest.mark.parametrize("layout", FORMATS)
def test_a_dense_pattern_is_stored_as_it_is(layout):
    array = np.arange(6.0).reshape(2, 3)
    packed = pack(array, DENSE, layout)
    assert (packed.value_bytes, packed.metadata_bytes) == (48, 0)
    np.testing.assert_array_equal(unpack(packed), array)


@pytest.mark.parametrize("shape", [4, "ab", (2.5, 4)])
def test_a_shape_is_whole_numbers(shape):
    with pytest.raises(ShapeError, match="a shape is a tuple of whole numbers"):
        size_bytes(shape, "2:4", 16, "packed")
