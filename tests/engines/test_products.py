"""Bytes of operands in the engines against the exact sizes of the packed formats."""

from __future__ import annotations

import numpy as np
import pytest

import nmsim
from nmsim.sparsity.formats import size_bytes
from nmsim.sparsity.pattern import Pattern
from nmsim.workloads.optable import FORMATS, Workload, WorkloadBuilder


def product(k: int, n: int, pattern: str, layout: str) -> Workload:
    b = WorkloadBuilder("one")
    p = Pattern.parse(pattern)
    b.add("fc", "FF", m=4096, n=n, k=k, b_pattern=p, b_axis="k", b_role="weight", b_format=layout)
    return b.build()


@pytest.mark.parametrize("layout", [name for name in FORMATS if name != "dense"])
@pytest.mark.parametrize("pattern", ["2:4", "2:8", "1:16", "3:7", "4:8"])
@pytest.mark.parametrize("k", [16, 32, 256, 257, 260, 300, 70000])
def test_packed_operands_have_their_exact_size(k: int, pattern: str, layout: str):
    """B [k, n] packed along k is n rows of k; large buffers, so that it is read once."""
    big = {f"memories.{x}_buffer": "64 GiB" for x in "abc"} | {"memories.dram.bandwidth": "1e9 TB/s"}
    arch = nmsim.load_arch("systolic_32x32", overrides={**big, "array.dataflows": ["os"]})
    result = nmsim.simulate(arch, product(k, 24, pattern, layout))
    exact = size_bytes((24, k), pattern, 16, layout)
    assert result.columns["dram.b"][0] == exact.values
    assert result.columns["dram.metadata"][0] == exact.metadata


def test_a_dense_layout_moves_every_value():
    result = nmsim.simulate("sat_vcu1525", product(256, 32, "2:8", "dense"))
    assert result.columns["dram.b"][0] == 256 * 32 * 2
    assert result.columns["dram.metadata"][0] == 0
    assert result.macs_executed == 4096 * 32 * 64


def test_a_group_longer_than_the_axis_is_the_axis():
    """2:16 along k = 6 keeps 2 of 6: an index counts 6 places, 3 bits."""
    result = nmsim.simulate("sat_vcu1525", product(6, 32, "2:16", "packed"))
    assert result.macs_executed == 4096 * 32 * 2
    assert result.columns["dram.metadata"][0] == np.ceil(2 * 3 * 32 / 8)
