"""Winograd's form of 3x3 convolutions beside the direct product, in float64 and in float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.train.layers import winograd
from nmsim.train.layers.base import Run
from nmsim.train.layers.conv import Conv2d
from nmsim.train.precision import get_precision
from nmsim.train.products import Products


def results(layer: Conv2d, x: np.ndarray, dy: np.ndarray, dtype: type, precision: str = "fp32") -> list[np.ndarray]:
    """y, dx and dw of a layer in a floating type."""
    layer.weight.value = layer.weight.value.astype(dtype)
    run = Run(Products(get_precision(precision)))
    y = layer.forward(run, x.astype(dtype))
    (dx,) = layer.backward(run, dy.astype(dtype), (True,))
    return [y, dx, layer.weight.grad]


def case(batch: int, high: int, wide: int, inputs: int, outputs: int, padding: int) -> tuple[Conv2d, ...]:
    rng = np.random.default_rng(high * 100 + wide)
    layer = Conv2d("c", inputs, outputs, 3, rng, padding=padding)
    x = rng.standard_normal((batch, high, wide, inputs), np.float32)
    dy = rng.standard_normal((batch, high + 2 * padding - 2, wide + 2 * padding - 2, outputs), np.float32)
    return layer, x, dy


def error(got: np.ndarray, exact: np.ndarray) -> float:
    """Root mean square, relative to that of the exact values."""
    return float(np.sqrt(np.mean((got - exact) ** 2) / np.mean(exact**2)))


def test_four_outputs_of_six_inputs_by_hand():
    """Taps (1, 2, 3) on 1 to 6: 1 + 4 + 9 = 14, 2 + 6 + 12 = 20, then 6 more each time."""
    transformed = (winograd.OF_KERNEL @ [1, 2, 3]) * (winograd.OF_WINDOW @ np.arange(1, 7))
    np.testing.assert_allclose(winograd.OF_TILE.T @ transformed, [14, 20, 26, 32], rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 14), st.integers(3, 14), st.sampled_from([(32, 32), (32, 48), (64, 32)]), st.integers(0, 2))
def test_error_stays_that_of_a_few_roundings(high, wide, channels, padding):
    """Of y, dx and dw, where whole tiles fit or not: 16 roundings of 2^-23 at most, and 4 of the direct product."""
    layer, x, dy = case(64, high, wide, *channels, padding)
    exact = results(layer, x, dy, np.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "pays", lambda out, channels: True)
        fast = results(layer, x, dy, np.float32)
        patch.setattr(winograd, "pays", lambda out, channels: False)
        direct = results(layer, x, dy, np.float32)
    for a, b, c in zip(fast, direct, exact, strict=True):
        assert a.dtype == np.float32
        assert error(b, c) < 4 * 2.0**-23
        assert error(a, c) < 16 * 2.0**-23
        assert np.abs(a - c).max() < 5e-6 * np.abs(c).max()


def test_only_float32_products_as_they_are_take_this_form(monkeypatch: pytest.MonkeyPatch):
    """float64 checks the direct product, and emulated operands are rounded before a product, not transformed."""
    layer, x, dy = case(16, 8, 8, 32, 32, 1)
    called = []
    monkeypatch.setattr(winograd, "convolve", lambda *arguments: called.append("convolve"))
    monkeypatch.setattr(winograd, "weight_gradient", lambda *arguments: called.append("weight_gradient"))
    for dtype, precision in ((np.float64, "fp64"), (np.float64, "fp32"), (np.float32, "bf16"), (np.float32, "fp16")):
        results(layer, x, dy, dtype, precision)
    assert called == []
    with pytest.raises(Exception, match="0 multiply-accumulates"):
        results(layer, x, dy, np.float32)
    assert called == ["convolve"]


def test_where_it_pays():
    """8x8 outputs are 4 full tiles; 5x5 ones need 4 for what 1.6 would hold; 16 channels are too few; 9 tiles also."""
    assert winograd.pays((128, 8, 8, 64), (64, 64))
    assert not winograd.pays((128, 5, 5, 64), (64, 64))
    assert not winograd.pays((128, 8, 8, 64), (16, 64))
    assert not winograd.pays((1, 12, 12, 64), (64, 64))


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(threads: int, monkeypatch: pytest.MonkeyPatch):
    """Blocks and partial sums follow from shapes."""
    layer, x, dy = case(70, 10, 12, 32, 64, 1)
    monkeypatch.setenv("NMSIM_THREADS", "1")
    alone = results(layer, x, dy, np.float32)
    monkeypatch.setenv("NMSIM_THREADS", str(threads))
    for a, b in zip(alone, results(layer, x, dy, np.float32), strict=True):
        np.testing.assert_array_equal(a, b)
