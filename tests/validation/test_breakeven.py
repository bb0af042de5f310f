"""Where a sparse gain goes and from which sizes on it pays: against simulations one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nmsim
from nmsim.errors import PatternError
from nmsim.sparsity.pattern import Pattern
from nmsim.validation.breakeven import Question, log_sizes, planes, scan, speedups, thresholds, waterfall

ARCH = nmsim.load_arch("a100_sxm4_80gb")


def ask(m, n, k, pattern="2:4", operand="B"):
    return Question((m, n, k), Pattern.parse(pattern), operand)


def ratio(arch, m, n, k, pattern="2:4", operand="B"):
    dense, sparse = nmsim.gemm(m, n, k), nmsim.gemm(m, n, k, pattern, operand)
    return nmsim.simulate(arch, sparse).speedup_over(nmsim.simulate(arch, dense))


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(1, 8192)] * 3), st.sampled_from(["2:4", "1:8", "2:10"]), st.sampled_from("AB"))
def test_the_waterfall_is_that_of_two_simulations(shape, pattern, operand):
    fall = waterfall(ARCH, ask(*shape, pattern, operand))
    assert fall.speedup == pytest.approx(ratio(ARCH, *shape, pattern, operand))
    lost = sum(fall.sparse_s.values()) - fall.density * sum(fall.dense_s.values())
    assert sum(fall.lost_s.values()) == pytest.approx(lost, abs=1e-15)


def test_a_machine_without_a_mode_says_so():
    fall = waterfall(nmsim.load_arch("v100_sxm2"), ask(512, 512, 512))
    assert fall.speedup == 1
    assert "has no mode for 2:4" in fall.because
    assert waterfall(ARCH, ask(4096, 4096, 4096)).because == ""


def test_a_scan_is_many_simulations():
    scanned = scan(ARCH, ask(512, 1024, 2048))
    sizes, found = scanned["k"]
    for i in (0, 40, len(sizes) - 1):
        assert found[i] == pytest.approx(ratio(ARCH, 512, 1024, int(sizes[i])))
    sizes, found = scanned["m = n = k"]
    assert found[50] == pytest.approx(ratio(ARCH, *[int(sizes[50])] * 3))


def test_thresholds_by_hand():
    """1.1 is passed at 32, not at 64, and for good from 128; 1.5 at the last size; 1.8 never."""
    line = {"m": (np.array([16, 32, 64, 128, 256]), np.array([1.0, 1.2, 1.05, 1.3, 1.6]))}
    found = thresholds(line, (1.1, 1.5, 1.8))
    assert [(t.dimension, t.above, t.first, t.always) for t in found] == [
        ("m", 1.1, 32, 128), ("m", 1.5, 256, 256), ("m", 1.8, None, None),
    ]  # fmt: skip
    (once,) = thresholds({"m": (np.array([1, 2]), np.array([2.0, 1.0]))}, (1.1,))
    assert (once.first, once.always) == (1, None)


def test_planes_are_simulations():
    first, second = planes(ARCH, ask(512, 1024, 2048))
    y, x = 10, 30
    at = [int(first.sizes[i]) for i in (y, x)]
    assert (first.x_name, first.y_name, first.fixed) == ("n", "m", "k = 2048")
    assert first.speedup[y, x] == pytest.approx(ratio(ARCH, at[0], at[1], 2048))
    assert second.speedup[y, x] == pytest.approx(ratio(ARCH, at[0], 1024, at[1]))


def test_sizes_are_multiples_and_include_powers_of_two():
    sizes = log_sizes(16, 65536, 8)
    assert np.all(sizes % 16 == 0)
    assert np.all(np.diff(sizes) > 0)
    assert {2**i for i in range(4, 17)} <= set(sizes.tolist())
    assert (sizes[0], sizes[-1]) == (16, 65536)


def test_dense_is_no_question():
    with pytest.raises(PatternError, match="must be n:m"):
        ask(1, 1, 1, "dense")
    with pytest.raises(PatternError, match="must be n:m"):
        ask(1, 1, 1, "fan-in:4")


def test_another_machine(tmp_path):
    arch = nmsim.load_arch("systolic_32x32")
    found = speedups(arch, ask(1, 1, 1, "2:8"), np.array([[64, 64, 64], [100, 30, 512]]))
    assert found[1] == pytest.approx(ratio(arch, 100, 30, 512, "2:8"))
