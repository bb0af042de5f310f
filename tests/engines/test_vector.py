"""Work that is not a product, counted by hand on SAT (32 lanes everywhere) with DRAM out of the way."""

from __future__ import annotations

import pytest

import nmsim
from nmsim.arch.schema import SystolicArch
from nmsim.workloads.optable import Workload, WorkloadBuilder


def sat(**paths: str) -> SystolicArch:
    fast = {"memories.dram.bandwidth": "1e9 TB/s"}
    return nmsim.load_arch("sat_vcu1525", overrides=fast | {k.replace("__", "."): v for k, v in paths.items()})


def one(stage: str, kind: str, **values: object) -> Workload:
    b = WorkloadBuilder("one")
    b.add("layer", stage, kind, **values)
    return b.build()


def test_arithmetic_takes_a_lane_one_cycle_each():
    """100 rows of 64 at 5 operations an element on 32 lanes: 1000 cycles."""
    result = nmsim.simulate(sat(), one("VECTOR", "batchnorm", m=100, n=64, ops_per_element=5.0))
    assert result.cycles == pytest.approx(1000)
    assert result.flops == 32000


def test_bytes_bound_cheap_operations():
    """6400 elements read and written in fp16: 25600 B at 25.6 GB/s take 1 us, 200 cycles."""
    work = one("VECTOR", "batchnorm", m=100, n=64, ops_per_element=0.5, a_elements=6400, c_elements=6400)
    result = nmsim.simulate("sat_vcu1525", work)
    assert result.latency_s == pytest.approx(1e-6)
    assert result.breakdown("cause")["latency_s"]["dram"] == pytest.approx(0.5e-6)


def test_fused_operations_only_read_their_second_operand():
    """An addition on the way out: no lanes, nothing written, but the other branch is read."""
    rows = {"m": 100, "n": 64, "ops_per_element": 1.0, "a_elements": 6400, "c_elements": 6400}
    alone = nmsim.simulate(sat(), one("VECTOR", "relu", **rows))
    joined = nmsim.simulate(sat(), one("VECTOR", "add", b_elements=6400, **rows))
    assert (alone.dram_bytes, joined.dram_bytes) == (0, 12800)
    assert alone.cycles == 0


@pytest.mark.parametrize(
    ("pattern", "comparisons"),
    [("2:4", 5 / 4), ("2:8", 13 / 8), ("1:16", 15 / 16), ("fan-in:8", (8 * 64 - 36) / 64), ("unstructured:0.1", 1)],
)
def test_mask_searches_compare(pattern: str, comparisons: float):
    """n m - n(n+1)/2 per group; a constant fan-in selects 8 of the whole row of 64; a threshold compares once."""
    work = one("PRUNE", "prune", m=10, n=64, a_pattern=nmsim.Pattern.parse(pattern), a_elements=640, a_role="weight")
    result = nmsim.simulate(sat(), work)
    per_comparison = result.energy_columns().sum(axis=1)
    assert (per_comparison >= 0).all()
    gpu = nmsim.simulate("a100_sxm4_80gb", work)
    unit = nmsim.load_arch("a100_sxm4_80gb").vector
    operations = max(comparisons, 1.0) * (unit.search if work.patterns[work["a_pattern"][0]].has_groups else 1.0)
    assert gpu.columns["cause.useful"][0] == pytest.approx(640 * operations / unit.lanes)


def test_a_search_whose_result_is_not_skipped_writes_it_dense():
    """VEGETA skips weights only: a pruned gradient stays dense there."""
    fields = {"m": 10, "n": 64, "a_pattern": nmsim.Pattern.parse("2:4"), "a_elements": 640, "a_dtype": "bf16"}
    weight = nmsim.simulate("vegeta_like", one("PRUNE", "prune", a_role="weight", **fields))
    gradient = nmsim.simulate("vegeta_like", one("PRUNE", "prune", a_role="gradient", **fields))
    assert weight.columns["dram.c"][0] == 640
    assert gradient.columns["dram.c"][0] == 1280
