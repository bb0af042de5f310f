"""Counts of actions against products counted by hand, and the laws that every account obeys."""

from __future__ import annotations

import numpy as np
import pytest

import nmsim
from nmsim import library
from nmsim.energy.account import SCALED
from nmsim.energy.area import wire_mm
from nmsim.errors import UnsupportedError
from nmsim.results.result import Result

MACHINES = library.names("arch_configs")


def counts_of(result: Result) -> dict[tuple[str, str, str], float]:
    assert result.account is not None
    return {key: float(v @ result.workload["repeat"]) for key, v in result.account.counts.items()}


def one_array(**overrides: object) -> Result:
    """64 x 64 x 32 in fp16 on 32 x 32 output-stationary units: 2 x 2 tiles of 32 x 32 sums, k = 32."""
    settings = {"array.dataflows": ["os"]} | overrides
    return nmsim.simulate(nmsim.load_arch("systolic_32x32", overrides=settings), nmsim.gemm(64, 64, 32))


def test_a_dense_product_by_hand():
    """E = 131072 MACs, nothing padded. Each latches 16 bits of A, of B and 32 of the sum. A passes the port twice
    (2 column tiles): 64*32*2 values of 16 bits, B as well; sums 64*64 of 32 bits are written and read once. DRAM: A
    and B of 2048 values each read once and written into their buffers, C of 4096 values written, 16 bits each."""
    found = counts_of(one_array())
    bits = {key: value for key, value in found.items() if key[0] in ("registers", "buffers", "dram")}
    assert found["mac", "fp16", ""] == 131072
    assert ("mac", "gated fp16", "") not in found
    assert bits == {
        ("registers", "bit", "a"): 131072 * 16, ("registers", "bit", "b"): 131072 * 16,
        ("registers", "bit", "psum"): 131072 * 32,
        ("buffers", "read", "a"): 64 * 32 * 2 * 16, ("buffers", "read", "b"): 64 * 32 * 2 * 16,
        ("buffers", "read", "psum"): 64 * 64 * 32, ("buffers", "write", "psum"): 64 * 64 * 32,
        ("buffers", "write", "a"): 2048 * 16, ("buffers", "write", "b"): 2048 * 16,
        ("buffers", "read", "c"): 4096 * 16,
        ("dram", "read", "a"): 2048 * 16, ("dram", "read", "b"): 2048 * 16, ("dram", "write", "c"): 4096 * 16,
    }  # fmt: skip
    assert found["noc", "bit mm", "a"] == pytest.approx(65536 * wire_mm(nmsim.load_arch("systolic_32x32")))


def test_a_sparse_product_by_hand():
    """B is 2:8: a quarter of the 131072 MACs. Each picks one of 8 values of 16 bits of A (7 two-way switches a bit),
    while 8/2 values of A pass its latch, one of B with 3 bits of index."""
    arch = nmsim.load_arch("systolic_32x32", overrides={"array.dataflows": ["os"]})
    found = counts_of(nmsim.simulate(arch, nmsim.gemm(64, 64, 32, pattern="2:8", operand="B")))
    macs = 131072 / 4
    assert found["mac", "fp16", ""] == macs
    assert found["select", "mux bit", "metadata"] == macs * 16 * 7
    assert found["registers", "bit", "a"] == macs * 16 * 4
    assert found["registers", "bit", "b"] == macs * 16
    assert found["registers", "bit", "metadata"] == macs * 3


def test_padding_gates_the_units_without_data():
    """33 rows on 32 take two tiles of 32: 64/33 - 1 of the MACs again are slots without data, at 3.21 % of a MAC."""
    arch = nmsim.load_arch("systolic_32x32", overrides={"array.dataflows": ["os"]})
    result = nmsim.simulate(arch, nmsim.gemm(33, 32, 64))
    found = counts_of(result)
    assert found["mac", "gated fp16", ""] == pytest.approx((64 - 33) * 32 * 64)
    costs = result.account.costs
    assert costs["mac", "gated fp16", ""].joules == pytest.approx(0.0321 * costs["mac", "fp16", ""].joules)


def test_skipped_multiplications_are_counted_and_cost_nothing():
    """2:8 leaves a quarter of 131072; the others are skipped, at no energy. Of a dense product none is."""
    arch = nmsim.load_arch("systolic_32x32", overrides={"array.dataflows": ["os"]})
    result = nmsim.simulate(arch, nmsim.gemm(64, 64, 32, pattern="2:8", operand="B"))
    assert counts_of(result)["mac", "skipped fp16", ""] == 131072 * 3 / 4
    assert result.account.joules(("mac", "skipped fp16", "")).sum() == 0
    assert ("mac", "skipped fp16", "") not in counts_of(one_array())


def random_products(dtype: str) -> nmsim.Workload:
    rng = np.random.default_rng(11)
    size = 60
    m, n, k = (np.round(2 ** rng.uniform(0, 11, size)).astype(int) for _ in range(3))
    return nmsim.gemms(
        {
            "m": m, "n": n, "k": k, "count": rng.choice([1, 1, 7], size),
            "pattern": rng.choice(["dense", "2:4", "1:4", "2:8", "1:8", "2:16", "unstructured:0.3"], size),
            "operand": rng.choice(["A", "B"], size), "dtype": [dtype] * size,
        }
    )  # fmt: skip


WORKLOADS = {
    "step": lambda dtype: nmsim.load_workload("resnet9", batch=4).training("bdwp", "2:4", dtype=dtype, steps=3),
    "products": random_products,
}


@pytest.mark.parametrize("work", WORKLOADS)
@pytest.mark.parametrize("engine", ["analytic", "event"])
@pytest.mark.parametrize("name", MACHINES)
def test_every_split_of_the_energy_sums_to_the_whole(name, engine, work):
    """Law 6, by component, action, operand, stage and layer, of training steps and random products; the parts are
    count x joules per action x (V/V_max)^2, op by op and in sum; no count is negative."""
    if engine == "event" and nmsim.load_arch(name).kind == "cpu":
        pytest.skip("the event engine simulates no CPU")
    dtype = next(d for d in DTYPES if d in rates(name))
    result = nmsim.simulate(name, WORKLOADS[work](dtype), engine=engine)
    total, account, repeat = result.energy_j, result.account, result.workload["repeat"]
    for by in ("component", "action"):
        assert result.breakdown(by)["energy_j"].sum() == pytest.approx(total, rel=1e-9)
    for by in ("operand", "stage", "layer", "kind", "phase"):
        assert result.breakdown(by, "energy_j")["energy_j"].sum() == pytest.approx(total, rel=1e-9)
    per_op = sum(
        counts * account.costs[key].joules * (np.square(account.voltage) if key[0] in SCALED else 1.0)
        for key, counts in account.counts.items()
    )
    assert per_op == pytest.approx(result.per_op("energy_j"), rel=1e-9)
    assert per_op @ repeat == pytest.approx(total, rel=1e-9)
    assert sum(t["joules"] for t in account.record(repeat)["terms"]) == pytest.approx(total, rel=1e-9)
    assert all((counts >= 0).all() for counts in account.counts.values())
    static = result.breakdown("component")["energy_j"]["static"]
    assert static == pytest.approx(result.arch.energy.static * result.latency_s, rel=1e-9)


LISTED = {
    "sat_vcu1525": {
        "mac fp16", "mac skipped fp16", "mac gated fp16", "select mux bit", "registers bit", "buffers read",
        "buffers write", "noc bit mm", "dram read", "dram write", "reduction compare", "update op", "vector op",
        "static second",
    },
    "a100_sxm4_80gb": {
        "mac fp16", "mac skipped fp16", "cores fp16", "buffers read", "dram read", "dram write", "stream bit",
        "reduction compare", "update op", "vector op", "static second",
    },
    "systolic_128x128": {
        "mac fp16", "mac skipped fp16", "mac gated fp16", "select mux bit", "registers bit", "buffers read",
        "buffers write", "noc bit mm", "dram read", "dram write", "update op", "vector op", "static second",
    },
}  # fmt: skip


@pytest.mark.parametrize("engine", ["analytic", "event"])
@pytest.mark.parametrize("name", LISTED)
def test_every_engine_reports_every_action(name, engine):
    """A sparse training step has all of them, indices read and written among the streams."""
    pattern = "2:4" if name.startswith("a100") else "2:8"
    work = nmsim.load_workload("resnet9", batch=4).training("bdwp", pattern)
    result = nmsim.simulate(name, work, engine=engine)
    found = {f"{component} {action}" for component, action, _ in result.account.counts}
    assert found >= LISTED[name]
    moved = {key[:2] for key in result.account.counts if key[2] == "metadata"}
    assert {("dram", "read"), ("buffers", "read")} <= moved
    assert {"activation", "weight", "gradient", "metadata"} <= set(result.breakdown("operand", "energy_j").index)


def test_both_engines_count_the_same_actions():
    """They execute one plan; only the seconds of the static power differ."""
    work = nmsim.load_workload("resnet9", batch=4).training("bdwp", "2:8")
    one, other = (nmsim.simulate("sat_vcu1525", work, engine=engine) for engine in ("analytic", "event"))
    mine, theirs = counts_of(one), counts_of(other)
    assert mine.keys() == theirs.keys()
    for key in mine.keys() - {("static", "second", "")}:
        assert theirs[key] == pytest.approx(mine[key], rel=1e-12), key


DTYPES = ("fp16", "bf16", "int8", "fp32")


def rates(name: str) -> dict[str, float]:
    arch = nmsim.load_arch(name)
    return arch.array.macs_per_cycle if arch.kind == "systolic" else arch.cores.macs_per_cycle


def test_skipping_zeros_saves_multiplications_and_costs_selection():
    work = nmsim.gemm(512, 512, 512), nmsim.gemm(512, 512, 512, pattern="2:8", operand="B")
    dense, sparse = (nmsim.simulate("sat_vcu1525", w).breakdown("component")["energy_j"] for w in work)
    assert sparse["mac"] == pytest.approx(dense["mac"] / 4, rel=1e-3)
    assert dense["select"] == 0 < sparse["select"]


def test_a_machine_may_name_its_own_table(tmp_path):
    table = tmp_path / "half.yaml"
    table.write_text(
        "kind: energy_table\nversion: 1\nname: half\nbase: asic\n"
        "factors:\n- {component: arithmetic, factor: 0.5, uncertainty: 10 %, date: 2026, assumed: half}\n"
    )
    arch = nmsim.load_arch("systolic_32x32", overrides={"energy.table": str(table)})
    work = nmsim.gemm(64, 64, 64)
    half, full = (nmsim.simulate(a, work).breakdown("component")["energy_j"] for a in (arch, "systolic_32x32"))
    assert half["mac"] == pytest.approx(full["mac"] / 2)
    assert half["dram"] == full["dram"]


def test_a_table_that_is_not_there_is_an_error(tmp_path):
    arch = nmsim.load_arch("systolic_32x32", overrides={"energy.table": "asik"})
    with pytest.raises(UnsupportedError, match=r"unknown energy table 'asik'.*asic"):
        nmsim.simulate(arch, nmsim.gemm(8, 8, 8))


def test_a_table_without_sram_says_what_is_missing(tmp_path):
    table = tmp_path / "bare.yaml"
    table.write_text("kind: energy_table\nversion: 1\nname: bare\ndram: {}\n")
    arch = nmsim.load_arch("systolic_32x32", overrides={"energy.table": str(table)})
    with pytest.raises(UnsupportedError, match=r"bare.*no `(sram|scaling|gated):`"):
        nmsim.simulate(arch, nmsim.gemm(8, 8, 8))


def test_a_gpu_without_a_fitted_core_energy_takes_that_of_its_rate_and_says_so():
    """V100, 12 nm, 512 multiply-accumulates of 16 bits a cycle: 512 x 1.66 pJ x (12/7)^0.57. The A100 has its own,
    from which that was taken: 1,024 x 1.66 pJ. A table without the action is an error, not a zero."""
    work = nmsim.gemm(512, 512, 512)
    v100, a100 = (nmsim.simulate(name, work) for name in ("v100_sxm2", "a100_sxm4_80gb"))
    assert v100.account.costs["cores", "fp16", ""].joules == pytest.approx(512 * 1.66e-12 * (12 / 7) ** 0.57)
    assert a100.account.costs["cores", "fp16", ""].joules == pytest.approx(1024 * 1.66e-12, rel=1e-3)
    assert any(line.startswith("energy, cores slot: the 1.7 nJ") for line in v100.assumptions)
    assert not any(line.startswith("energy, cores slot") for line in a100.assumptions)
    bare = nmsim.load_arch("v100_sxm2", {"energy.table": "asic"})
    with pytest.raises(UnsupportedError, match=r"'cores', action 'slot': the table 'asic' has no value.*`entries:`"):
        nmsim.simulate(bare, work)
