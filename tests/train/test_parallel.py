"""Products on our own threads: the same bits for any number of them, and without control over BLAS."""

from __future__ import annotations

import numpy as np
import pytest

from nmsim.train import parallel
from nmsim.train.layers.base import Run
from nmsim.train.layers.conv import Conv2d


def step(stride: int, groups: int) -> list[np.ndarray]:
    """Output, input gradient and weight gradient of a layer whose patches take several blocks."""
    rng = np.random.default_rng(0)
    layer = Conv2d("conv", 8, 16, 3, rng, stride, 1, groups)
    x = rng.standard_normal((40, 24, 24, 8)).astype(np.float32)
    run = Run()
    y = layer.forward(run, x)
    (dx,) = layer.backward(run, rng.standard_normal(y.shape).astype(np.float32), (True,))
    assert dx is not None
    assert layer.weight.grad is not None
    return [y, dx, layer.weight.grad]


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (2, 4)])
def test_any_number_of_threads_gives_the_same_bits(stride: int, groups: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NMSIM_THREADS", "1")
    alone = step(stride, groups)
    for threads in ("2", "3"):
        monkeypatch.setenv("NMSIM_THREADS", threads)
        assert all(np.array_equal(a, b) for a, b in zip(alone, step(stride, groups), strict=True))


def test_another_blas_works_as_well(monkeypatch: pytest.MonkeyPatch):
    """Where the threads of BLAS cannot be set, blocks follow each other, with results equal but for rounding."""
    ours = step(1, 1)
    monkeypatch.setattr(parallel, "_blas_threads", lambda: None)
    for a, b in zip(ours, step(1, 1), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((1537, 130), (130, 257)),
        ((65, 700), (700, 300)),
        ((5, 4), (4, 3)),
        ((1, 4), (4, 3)),
        ((7, 3, 65, 40), (7, 3, 40, 300)),
    ],
)
def test_a_product_in_parts_is_the_product(x, y, monkeypatch: pytest.MonkeyPatch):
    """Within float32's rounding of sums of at most 700 terms, of transposed operands as well, into a strided array."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(x, np.float32), rng.standard_normal(y, np.float32)
    found = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("NMSIM_THREADS", threads)
        out = np.zeros((*x[:-1], 2 * y[-1]), np.float32)
        columns = a.swapaxes(-1, -2).copy().swapaxes(-1, -2)
        found.append([parallel.matmul(a, b), parallel.matmul(columns, b, out[..., ::2])])
        assert not out[..., 1::2].any()
    for products in found:
        for product, first in zip(products, found[0], strict=True):
            np.testing.assert_array_equal(product, first)
            np.testing.assert_allclose(product, a.astype(float) @ b, atol=700 * 1e-6)
