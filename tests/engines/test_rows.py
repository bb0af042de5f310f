"""Row-wise operations that read their rows again, counted by hand on an A100."""

from __future__ import annotations

import pytest

import nmsim
from nmsim.workloads.optable import Workload, WorkloadBuilder

GPU = "a100_sxm4_80gb"


def rows(kind: str, m: int, n: int) -> Workload:
    b = WorkloadBuilder(kind)
    types = {f"{x}_dtype": "fp32" for x in "abc"}
    b.add("layer", "VECTOR", kind, m=m, n=n, a_elements=m * n, c_elements=m * n, ops_per_element=1.0, **types)
    return b.build()


def test_short_rows_stay_in_registers():
    """A softmax of 1024 elements moves what it reads and writes, once."""
    result = nmsim.simulate(GPU, rows("softmax", 16384, 1024))
    assert result.dram_bytes == 2 * 16384 * 1024 * 4
    assert result.breakdown("cause")["latency_s"].get("l2", 0.0) == 0


def test_longer_rows_are_read_again_from_l2():
    """A softmax of 2048: 108 cores work on 2 rows of 8 KiB each, 1.7 MiB, so that 2 more passes over 16384 rows of
    8 KiB come from L2 at 5460 GB/s."""
    result = nmsim.simulate(GPU, rows("softmax", 16384, 2048))
    assert result.dram_bytes == 2 * 16384 * 2048 * 4
    assert result.breakdown("cause")["latency_s"]["l2"] == pytest.approx(2 * 16384 * 2048 * 4 / 5460e9)


def test_rows_that_l2_cannot_hold_are_read_again_from_dram():
    """A layernorm of 4096: 108 cores work on 16 rows of 16 KiB each, 27 MiB, more than the 20 MiB of a partition."""
    result = nmsim.simulate(GPU, rows("layernorm", 16384, 4096))
    assert result.dram_bytes == 3 * 16384 * 4096 * 4
    held = nmsim.simulate(GPU, rows("layernorm", 1024, 4096))
    assert held.dram_bytes == 2 * 1024 * 4096 * 4, "1024 rows of 16 KiB are 16 MiB in all"


def test_validated_operations_are_the_same():
    """What stands alone in a table of measurements reads its rows as often."""
    alone, within = (nmsim.simulate(GPU, rows(kind, 4096, 4096)) for kind in ("softmax alone", "softmax"))
    assert alone.latency_s == within.latency_s
