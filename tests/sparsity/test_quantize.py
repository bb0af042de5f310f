"""Number formats code by code, quantisation counted by hand, and the order of sparsity and quantisation."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import NmsimError, ShapeError, UnsupportedError
from nmsim.sparsity.formats import size_bytes
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.numbers import NUMBER_FORMATS, number_format, pack_int4, unpack_int4
from nmsim.sparsity.quantize import (
    compare_orders,
    fake_quantize,
    max_abs_scale,
    output_error,
    quantize,
    quantize_then_sparsify,
    sparsify_then_quantize,
    weight_error,
)

FP8 = {"fp8_e4m3": "float8_e4m3fn", "fp8_e5m2": "float8_e5m2"}
BLOCKS: list[dict[str, Any]] = [{}, {"axis": 0}, {"axis": 1}, {"axis": 1, "group": 8}, {"axis": 0, "group": 3}]
seeds = st.integers(0, 2**32 - 1)


def weights(seed: int, shape: tuple[int, ...] = (12, 20)) -> np.ndarray:
    return np.random.default_rng(seed).laplace(size=shape).astype(np.float32)


def test_e4m3_by_hand():
    """Bias 7: 0x01 = 2^-6/8, 0x07 = 7 x 2^-9, 0x08 = 2^-6, 0x38 = 1, 0x39 = 1.125, 0x7E = 1.75 x 2^8 = 448."""
    table = number_format("fp8_e4m3").table
    codes = [0x00, 0x01, 0x07, 0x08, 0x38, 0x39, 0x7E, 0xB8, 0xFE]
    np.testing.assert_array_equal(table[codes], [0, 2**-9, 7 * 2**-9, 2**-6, 1, 1.125, 448, -1, -448])
    assert np.flatnonzero(np.isnan(table)).tolist() == [0x7F, 0xFF]
    assert not np.isinf(table).any()


def test_e5m2_by_hand():
    """Bias 15: 0x01 = 2^-14/4, 0x04 = 2^-14, 0x3C = 1, 0x3D = 1.25, 0x7B = 1.75 x 2^15 = 57344, 0x7C infinite."""
    table = number_format("fp8_e5m2").table
    codes = [0x01, 0x03, 0x04, 0x3C, 0x3D, 0x7B, 0x7C, 0xFC]
    np.testing.assert_array_equal(table[codes], [2**-16, 3 * 2**-16, 2**-14, 1, 1.25, 57344, np.inf, -np.inf])
    assert np.flatnonzero(np.isnan(table)).tolist() == [0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF]


@pytest.mark.parametrize("name", FP8)
def test_every_code_round_trips(name: str):
    """All 256: the signs of zero and NaN kept, NaN as its last code, infinity itself where it does not saturate."""
    fmt, codes = number_format(name), np.arange(256)
    sign = np.signbit(fmt.table).astype(int) << 7
    expected = np.where(np.isnan(fmt.table), 127 | sign, codes)
    np.testing.assert_array_equal(fmt.encode(fmt.table, saturate=False), expected)
    np.testing.assert_array_equal(fmt.decode(fmt.encode(fmt.table[np.isfinite(fmt.table)])), fmt.table[codes_of(fmt)])


def codes_of(fmt: Any) -> np.ndarray:
    return np.flatnonzero(np.isfinite(fmt.table))


@pytest.mark.parametrize("name", FP8)
@pytest.mark.parametrize("sign", [1, -1])
def test_every_midpoint_ties_to_even(name: str, sign: int):
    """Halfway between the magnitudes of codes c and c + 1 lies the even one; a hair to either side, the nearer."""
    fmt = number_format(name)
    magnitudes = fmt.table[: fmt.overflow_code].astype(np.float64)
    halfway = (magnitudes[:-1] + magnitudes[1:]) / 2
    lower = np.arange(len(halfway))
    high = 0 if sign > 0 else 128
    np.testing.assert_array_equal(fmt.encode(sign * halfway), lower + lower % 2 | high)
    np.testing.assert_array_equal(fmt.encode(sign * np.nextafter(halfway, 0)), lower | high)
    np.testing.assert_array_equal(fmt.encode(sign * np.nextafter(halfway, np.inf)), lower + 1 | high)


def test_overflow_saturates_or_not():
    """e4m3: 464 is halfway to 480 and ties to 448; e5m2: 61440 is halfway to 65536, whose code, infinity, is even."""
    e4m3, e5m2 = number_format("fp8_e4m3"), number_format("fp8_e5m2")
    assert e4m3.encode([464, 465, -1e9, np.inf]).tolist() == [0x7E, 0x7E, 0xFE, 0x7E]
    assert e4m3.encode([464, 465, -1e9], saturate=False).tolist() == [0x7E, 0x7F, 0xFF]
    assert e5m2.encode([61439, 61440, -np.inf]).tolist() == [0x7B, 0x7B, 0xFB]
    assert e5m2.encode([61439, 61440, -np.inf], saturate=False).tolist() == [0x7B, 0x7C, 0xFC]


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("name", FP8)
def test_agrees_with_torch(name: str):
    """The table, and 2^17 numbers of every magnitude in range, with ties among them, bit by bit."""
    import torch

    fmt, kind = number_format(name), getattr(torch, FP8[name])
    theirs = torch.arange(256, dtype=torch.uint8).view(kind).to(torch.float32).numpy()
    np.testing.assert_array_equal(fmt.table, theirs)
    rng = np.random.default_rng(5)
    x = (rng.normal(size=1 << 17) * np.exp2(rng.integers(-20, 16, 1 << 17))).astype(np.float32)
    x = np.clip(np.concatenate((x, fmt.midpoints[:-1].astype(np.float32))), -fmt.largest, fmt.largest)
    np.testing.assert_array_equal(fmt.encode(x), torch.from_numpy(x).to(kind).view(torch.uint8).numpy())


def test_integers_by_hand():
    """max|w| = 14 in int4: s = 2; 5/2 = 2.5 ties to 2, 7/2 = 3.5 to 4, -1/2 to 0; -8 is never used."""
    q = quantize([14.0, 5.0, 7.0, -1.0, -14.0], "int4")
    assert q.scale.tolist() == [2.0]
    assert q.codes.tolist() == [7, 2, 4, 0, -7]
    assert q.dequantize().tolist() == [14, 4, 8, 0, -14]
    assert quantize([1.0, -3.0], "int8", scale=0.01).codes.tolist() == [100, -127]


def test_blocks_by_hand():
    """A row's scale is its largest magnitude over 7; in groups of 2 along it, the tail is a group of its own."""
    w = np.array([[7.0, -14.0, 21.0], [0.0, 0.0, 0.7]])
    np.testing.assert_allclose(max_abs_scale(w, "int4", axis=0), [[3], [0.1]], rtol=1e-7)
    np.testing.assert_allclose(max_abs_scale(w, "int4", axis=-1), [[1, 2, 3]], rtol=1e-7)
    np.testing.assert_allclose(max_abs_scale(w, "int4", axis=1, group=2), [[2, 3], [1, 0.1]], rtol=1e-7)
    assert max_abs_scale(w, "int4").shape == (1, 1)


@given(seeds, st.sampled_from(list(NUMBER_FORMATS)), st.sampled_from(BLOCKS))
@settings(max_examples=60, deadline=None)
def test_rounds_to_the_nearest_value(seed: int, name: str, blocks: dict[str, Any]):
    """No value of the format is nearer than the one taken, and rounding again changes nothing but the last bit."""
    fmt, w = number_format(name), weights(seed)
    q = quantize(w, fmt, **blocks)
    values = np.arange(-fmt.largest, fmt.largest + 1) if fmt.is_integer else fmt.table[codes_of(fmt)]
    spread = np.broadcast_to(q._spread(), w.shape).astype(np.float64)
    nearest = np.abs(w[..., None] / spread[..., None] - values).min(axis=-1)
    np.testing.assert_allclose(np.abs(w / spread - fmt.decode(q.codes)), nearest, atol=0, rtol=1e-12)
    again = fake_quantize(q.dequantize(), fmt, blocks.get("axis"), blocks.get("group"), scale=q.scale)
    np.testing.assert_array_equal(again, q.dequantize())


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=33))
@settings(max_examples=60, deadline=None)
def test_int4_packs_two_to_a_byte(codes: list[int]):
    packed = pack_int4(np.array(codes, np.int8))
    assert packed.nbytes == -(-len(codes) // 2)
    assert unpack_int4(packed, len(codes)).tolist() == codes


def test_sizes_by_hand():
    """5 x 6 of int4 are 15 bytes, and 3 groups of 2 in each of 5 rows have 15 scales of 2 bytes; 2:4 of 8 x 16 keeps
    64 values, 32 bytes, with 2 bits each, 16 bytes, beside 8 scales of 4 bytes."""
    q = quantize(weights(1, (5, 6)), "int4", axis=1, group=2, scale_dtype=np.float16)
    assert (q.packed.nbytes, q.size_bytes) == (15, 15 + 30)
    assert pack_int4([1, -1]).tolist() == [0xF1]
    sparse = sparsify_then_quantize(weights(2, (8, 16)), "2:4", "int4", scale_axis=0).quantized
    size = sparse.sparse_size("2:4")
    assert (size.values, size.metadata) == (32, 16 + 32)
    assert size.values == size_bytes((8, 16), "2:4", 4, "packed").values


def test_extreme_magnitudes_keep_their_scale():
    """Where max|w| / 127 underflows, the smallest float32 stands in; what float16 cannot hold is refused."""
    tiny = np.array([1e-45, 0.0], np.float32)
    assert quantize(tiny, "int8").dequantize()[0] > 0
    assert fake_quantize(np.zeros(3), "fp8_e4m3").tolist() == [0, 0, 0]
    with pytest.raises(UnsupportedError, match="no finite float16"):
        quantize([1e9], "int4", scale_dtype=np.float16)


def test_order_by_hand():
    """int4 with s = 1 along 1:2: 0.6 and 1.0 both round to 1, and the lower index wins: quantising first keeps 0.6
    and drops 1.0, an error of sqrt(0.4^2 + 1) against 0.6 for dropping 0.6. Its L1 error 1.4 exceeds the sum of the
    errors of its steps, 0.4 for rounding and 0.6 for pruning; sparsifying first stays below."""
    w = np.array([[0.6, 1.0, 7.0, 0.0]])
    first, last = sparsify_then_quantize(w, "1:2", "int4"), quantize_then_sparsify(w, "1:2", "int4")
    assert first.weight.tolist() == [[0, 1, 7, 0]]
    assert last.weight.tolist() == [[1, 0, 7, 0]]
    errors = compare_orders(w, "1:2", "int4")
    assert errors == pytest.approx({"sparsify_first": 0.6, "quantize_first": np.hypot(0.4, 1)})
    assert np.abs(last.weight - w).sum() == pytest.approx(1.4)
    rounding = np.abs(fake_quantize(w, "int4") - w).sum()
    pruning = np.abs(w * ~magnitude_mask(w, "1:2")).sum()
    assert np.abs(last.weight - w).sum() > rounding + pruning


@given(seeds, st.sampled_from(list(NUMBER_FORMATS)), st.sampled_from(["2:4", "1:4", "2:8", "1:2"]))
@settings(max_examples=60, deadline=None)
def test_sparsifying_first_is_never_worse_for_the_weight(seed: int, name: str, pattern: str):
    """Scales per tensor, row or groups of 8, each of whole groups of the pattern: the same in both orders, so the mask
    by magnitude is the best of all (see compare_orders). And the sum of squares splits into what is dropped and the
    rounding of what is kept, so that the error is at most the sum of the errors of the two steps."""
    w = weights(seed, (6, 32))
    for blocks in ({}, {"scale_axis": 0}, {"scale_axis": 1, "group": 8}):
        errors = compare_orders(w, pattern, name, **blocks)
        assert errors["sparsify_first"] <= errors["quantize_first"] * (1 + 1e-6)
        found = sparsify_then_quantize(w, pattern, name, **blocks)
        same = sparsify_then_quantize(w, pattern, name, scales="all", **blocks)
        np.testing.assert_array_equal(found.quantized.scale, same.quantized.scale)
        rounded = fake_quantize(w, name, blocks.get("scale_axis"), blocks.get("group"))
        dropped, kept = weight_error(w * ~found.mask, 0 * w), weight_error(w * found.mask, rounded * found.mask)
        assert errors["sparsify_first"] == pytest.approx(np.hypot(dropped, kept), rel=1e-6)
        assert errors["sparsify_first"] <= dropped + weight_error(w, rounded)


@given(seeds, st.sampled_from(list(NUMBER_FORMATS)), st.sampled_from(["2:4", "1:4"]))
@settings(max_examples=40, deadline=None)
def test_quantising_first_errs_on_ties_only(seed: int, name: str, pattern: str):
    """Rounding keeps the order of magnitudes, so a weight that is dropped for a smaller one rounds to the same."""
    w = weights(seed, (6, 32))
    rounded = np.abs(fake_quantize(w, name)).reshape(6, -1, 4)
    ours = magnitude_mask(w, pattern).reshape(6, -1, 4)
    theirs = quantize_then_sparsify(w, pattern, name).mask.reshape(6, -1, 4)
    lost = np.where(ours & ~theirs, rounded, -1).max(axis=2)
    won = np.where(theirs & ~ours, rounded, -1).max(axis=2)
    np.testing.assert_array_equal(lost, won)


def test_scales_of_kept_weights_differ_across_groups():
    """Scales per column, groups along the row: 8 is dropped beside 9, and its column's scale falls from 8 to 1 / 7."""
    w = np.array([[8.0, 9.0], [1.0, 0.5]])
    kept = sparsify_then_quantize(w, "1:2", "int4", scale_axis=1).quantized
    both = sparsify_then_quantize(w, "1:2", "int4", scale_axis=1, scales="all").quantized
    np.testing.assert_allclose(kept.scale * 7, [[1, 9]], rtol=1e-6)
    np.testing.assert_allclose(both.scale * 7, [[8, 9]], rtol=1e-6)
    assert kept.dequantize()[1, 0] == pytest.approx(1)


@given(seeds, st.sampled_from(list(NUMBER_FORMATS)))
@settings(max_examples=20, deadline=None)
def test_compressed_weights_obey_the_pattern(seed: int, name: str):
    w = weights(seed, (8, 16))
    for order in (sparsify_then_quantize, quantize_then_sparsify):
        found = order(w, "2:4", name, 0, scale_axis=1)
        assert not found.weight[~found.mask].any()
        assert not found.quantized.codes[~found.mask].any()
        np.testing.assert_array_equal(found.mask.reshape(2, 4, 16).sum(axis=1), 2)
        np.testing.assert_array_equal(found.quantized.dequantize(), found.weight)


def test_output_error_by_hand():
    """x = [1, 2], w - approximation = [[1, 0], [0, -1]]: outputs 1 and -2."""
    assert output_error([[1, 2]], [[1, 0], [0, 0]], [[0, 0], [0, 1]]) == pytest.approx(5**0.5)
    w, x = weights(3, (6, 8)), weights(4, (5, 8))
    errors = compare_orders(w, "2:4", "int4", inputs=x)
    assert errors["sparsify_first"] == output_error(x, w, sparsify_then_quantize(w, "2:4", "int4").weight)


BAD: list[tuple[str, Any, type[NmsimError], str]] = [
    ("format", lambda: quantize([1.0], "int5"), UnsupportedError, "unknown number format 'int5'; did you mean int"),
    ("nan", lambda: quantize([1.0, np.nan], "int8"), UnsupportedError, "of 2 values: 1 not finite"),
    ("text", lambda: quantize(["a"], "int8"), UnsupportedError, "only finite real numbers"),
    ("empty", lambda: quantize([], "int8"), ShapeError, "nothing to quantise"),
    ("axis", lambda: quantize([1.0], "int8", axis=1), ShapeError, "no axis 1 for scales: the array has 1 axes"),
    ("group", lambda: quantize([1.0], "int8", axis=0, group=0), ShapeError, "at least 1, not 0"),
    ("no axis", lambda: quantize([1.0], "int8", group=4), ShapeError, "need the axis"),
    ("scale", lambda: quantize([1.0], "int8", scale=0.0), UnsupportedError, "positive and finite"),
    ("shape", lambda: quantize([1.0, 2.0], "int8", scale=[1.0, 2.0]), ShapeError, r"one per block: \[1\]"),
    ("scales", lambda: sparsify_then_quantize([1.0], "1:2", "int8", scales="most"), UnsupportedError, "allowed: all"),
    ("output", lambda: output_error([1.0], [[1.0]], [[1.0]]), ShapeError, "inputs"),
    ("unpack", lambda: unpack_int4([0], 3), ShapeError, "hold 0 to 2 codes"),
    ("integer", lambda: number_format("int8").encode([np.nan]), UnsupportedError, "no code for a NaN"),
]


@pytest.mark.parametrize(("call", "error", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_named(call: Any, error: type[NmsimError], message: str):
    with pytest.raises(error, match=message):
        call()
