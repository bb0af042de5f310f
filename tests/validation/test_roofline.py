"""The two-constant roofline: its bounds by hand, and constants that it must find again."""

from __future__ import annotations

import numpy as np
import pytest

import nmsim
from nmsim.validation.roofline import Bounds, fit, joined

ARCH = nmsim.load_arch("a100_sxm4_80gb")


def bounds(**columns):
    work = nmsim.workloads.products.gemms(columns)
    return Bounds.of(ARCH, work, np.arange(len(work)))


def test_bounds_by_hand():
    """4096³ multiply-accumulates at 108 x 1024 a cycle, half of them at 2:4; three matrices of 2 bytes, B half."""
    found = bounds(m=[4096, 4096], n=[4096, 4096], k=[4096, 4096], pattern=["dense", "2:4"])
    peak, bandwidth = 108 * 1024 * 1.41e9, ARCH.memories.dram.bandwidth * ARCH.memories.dram.efficiency
    np.testing.assert_allclose(found.work_s, 4096**3 / peak * np.array([1, 0.5]))
    np.testing.assert_allclose(found.bytes_s, 2 * 4096**2 * np.array([3, 2.5]) / bandwidth)


def test_what_a_machine_cannot_skip_is_work():
    dense, sparse = bounds(m=[512] * 2, n=[512] * 2, k=[512] * 2, pattern=["dense", "1:8"]).work_s
    assert sparse == pytest.approx(dense / 2)  # 1:8 runs as 2:4
    with_10 = bounds(m=[512], n=[512], k=[640], pattern=["2:10"])
    assert with_10.work_s == pytest.approx(bounds(m=[512], n=[512], k=[640]).work_s)


@pytest.mark.parametrize(("efficiency", "t0_s"), [(0.5, 10e-6), (0.83, 0.0)])
def test_constants_are_found_again(efficiency, t0_s):
    sizes = np.array([64, 128, 512, 1024, 2048, 4096, 8192])
    found = bounds(m=sizes, n=sizes, k=sizes)
    measured = found.seconds(efficiency, len(sizes)) + t0_s
    fitted = fit(found, measured)
    assert fitted.efficiency == pytest.approx(efficiency)
    assert fitted.t0_s == pytest.approx(t0_s, abs=1e-12)
    np.testing.assert_allclose(fitted.seconds, measured)


def test_the_fit_is_the_best_of_a_grid():
    sizes = np.array([64, 512, 1024, 2048, 4096])
    found, rng = bounds(m=sizes, n=sizes, k=sizes), np.random.default_rng(0)
    measured = (found.seconds(0.6, 5) + 5e-6) * rng.uniform(0.7, 1.4, 5)

    def error(efficiency, t0):
        return np.abs((found.seconds(efficiency, 5) + t0) / measured - 1).mean()

    best = min(error(e, t) for e in np.arange(5, 101) / 100 for t in np.linspace(0, 30e-6, 61))
    assert np.abs(fit(found, measured).seconds / measured - 1).mean() <= best + 1e-12


def test_points_of_several_operations_sum():
    two = Bounds(np.array([1.0, 2.0, 4.0]), np.array([3.0, 1.0, 1.0]), np.array([0, 0, 1]))
    np.testing.assert_allclose(two.seconds(0.5, 2), [3 + 4, 8])
    np.testing.assert_allclose(joined([two, two], [2, 2]).seconds(1.0, 4), [5, 4, 5, 4])
