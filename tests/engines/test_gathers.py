"""Kernels that gather: a layer counted by hand, which kernel is chosen, laws, what a user is told."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nmsim
from nmsim.arch.capability import modes
from nmsim.arch.schema import AnyArch, CpuArch, TensorCoreArch
from nmsim.results.result import Result

CONDENSED = {"index_bytes": 4, "entry": 3, "elements": 2, "overlap": True}
FAR = {"index_bytes": 4, "entry": 1e6, "elements": 1, "overlap": True}
LAYER = {
    "clock": "1 GHz", "cores.count": 2, "cores.macs_per_cycle": {"fp32": 16}, "memories.dram.bandwidth": "1000 GB/s",
    "memories.l1.size": "1 MiB", "memories.l2.size": "4 MiB", "memories.l2.bandwidth": "1000 B/clk",
    "memories.l3.bandwidth": "1000 B/clk", "launch.floor": "0 us",
}  # fmt: skip


def machine(
    csr: dict[str, object] | None = None, condensed: dict[str, object] | None = None, **more: object
) -> AnyArch:
    gathers = {"csr": csr or FAR, "condensed": condensed or FAR} | more
    return nmsim.load_arch("epyc_zen4_2core", {**LAYER, "gathers": gathers})


def layer(batch: int, pattern: str = "fan-in:4", outputs: int = 768, inputs: int = 3072) -> nmsim.Workload:
    return nmsim.gemm(batch, outputs, inputs, pattern, "B", "fp32")


def causes(result: Result) -> dict[str, float]:
    found = {name[6:]: float(x[0]) for name, x in result.columns.items() if name.startswith("cause.")}
    return {name: x for name, x in found.items() if x > 1e-3}


def kernel(result: Result) -> str:
    return str(result.columns["plan.kernel"][0])


def test_a_layer_by_hand():
    """768 neurons of fan-in 4, 2 cores of 16 lanes: 3072 products, 96 cycles at peak. One vector: 3 cycles an entry,
    1536 entries a core, 4608 cycles. 8 vectors, 2 elements a cycle: 4 cycles an entry, 6144, of which 768 useful."""
    arch = machine(condensed=CONDENSED)
    vector = nmsim.simulate(arch, layer(1))
    assert kernel(vector) == "condensed"
    assert causes(vector) == pytest.approx({"useful": 96, "operand_feed": 672, "metadata": 3840})
    assert vector.columns["macs_executed"][0] == 3072
    assert causes(nmsim.simulate(arch, layer(8))) == pytest.approx({"useful": 768, "operand_feed": 5376})


def test_a_copy_before_the_product_takes_its_time_too():
    """Without overlap 3 + 8/2 = 7 cycles an entry; a vector has its own rate; transposing 8 x 3072 elements takes a
    cycle each, shared by 2 cores."""
    arch = machine(condensed={**CONDENSED, "overlap": False, "single": 5}, transposing=1)
    assert nmsim.simulate(arch, layer(8)).cycles == pytest.approx(1536 * 7 + 8 * 3072 / 2)
    assert nmsim.simulate(arch, layer(1)).cycles == pytest.approx(1536 * 5)


def test_rows_are_shared_out_whole():
    """3 neurons on 2 cores take as long as 4: 2 rows of 4 weights on one, at 10 cycles a product, 80 cycles."""
    slow = {**LAYER, "cores.macs_per_cycle": {"fp32": 0.1}, "gathers": {"csr": FAR, "condensed": CONDENSED}}
    three, four = (nmsim.simulate(nmsim.load_arch("epyc_zen4_2core", slow), layer(1, outputs=n)) for n in (3, 4))
    assert causes(three) == pytest.approx({"useful": 60, "granularity": 20})
    assert causes(four) == pytest.approx({"useful": 80})


def test_what_dram_serves():
    """fan-in 4 of 768 neurons in fp32: 12288 B of values, as many of indices; a CSR has 769 pointers more. The other
    operand and the result are dense."""
    found = nmsim.simulate(machine(condensed=CONDENSED), layer(8)).columns
    assert found["dram.b"][0] == 12288
    assert found["dram.metadata"][0] == 12288
    assert found["dram.a"][0] == 8 * 3072 * 4
    assert found["dram.c"][0] == 8 * 768 * 4
    csr = nmsim.simulate(machine(csr=CONDENSED), layer(8)).columns
    assert csr["dram.metadata"][0] == 12288 + 769 * 4


def test_gathered_elements_come_from_the_cache_that_holds_them():
    """64 x 3072 x 4 B = 768 KiB beyond an L1 of 32 KiB: 6144 entries x 64 x 4 B come through L2, 2 x 1 B a cycle; a
    kernel that takes 2 columns at a time needs 24 KiB, and the operand passes once."""
    slow = {"memories.l1.size": "32 KiB", "memories.l2.bandwidth": "1 B/clk"}
    for block, expected in ((None, 6144 * 64 * 4), (2, 3072 * 64 * 4)):
        gathers = {"csr": FAR, "condensed": {**CONDENSED, "block": block}}
        arch = nmsim.load_arch("epyc_zen4_2core", {**LAYER, **slow, "gathers": gathers})
        result = nmsim.simulate(arch, layer(64, "fan-in:8"))
        assert result.columns["buffer.a"][0] == expected
        assert result.cycles == pytest.approx((expected + 6144 * 8 + 768 * 64 * 4) / 2)


def test_either_operand_may_be_gathered():
    """C^T = B^T A^T: the sparse operand on the left costs the same."""
    arch = machine(condensed=CONDENSED)
    right = nmsim.simulate(arch, nmsim.gemm(8, 768, 3072, "fan-in:4", "B", "fp32"))
    left = nmsim.simulate(arch, nmsim.gemm(768, 8, 3072, "fan-in:4", "A", "fp32"))
    assert kernel(left) == "condensed"
    assert left.cycles == pytest.approx(right.cycles)


def test_the_fastest_kernel_is_chosen():
    """Constant fan-in may run condensed, unstructured weights only as CSR; what keeps much runs dense and says so."""
    arch = nmsim.load_arch("epyc_zen4_2core")
    assert kernel(nmsim.simulate(arch, layer(8, "fan-in:31"))) in ("csr", "condensed")
    assert kernel(nmsim.simulate(arch, layer(8, "unstructured:0.01"))) == "csr"
    assert kernel(nmsim.simulate(arch, layer(8))) != "dense"
    full = nmsim.simulate(arch, layer(256, "fan-in:2000"))
    assert kernel(full) == "dense"
    assert "multiplying the zeros is faster" in full.reasons[full.reason_codes[0]]
    assert full.cycles == pytest.approx(nmsim.simulate(arch, layer(256, "dense")).cycles)
    nmsim.simulate(arch, layer(1), strict=True)


def test_machines_without_such_kernels_say_so():
    """A machine with neither modes nor kernels runs the same pattern dense, as before."""
    result = nmsim.simulate("a100_sxm4_80gb", nmsim.gemm(64, 768, 3072, "fan-in:31"))
    assert "no mode for fan-in:31" in result.reasons[result.reason_codes[0]]
    assert modes(nmsim.load_arch("epyc_zen4_2core")) == "csr, fan-in"
    assert modes(nmsim.load_arch("t4")) == "none"


@pytest.mark.parametrize("name", ["epyc_zen4_2core", "v100_sxm2"])
@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 600), st.integers(1, 900), st.integers(2, 3000), st.sampled_from("AB"), st.lists(
        st.integers(1, 3000), min_size=3, max_size=3)
)  # fmt: skip
def test_laws(name: str, m: int, n: int, k: int, operand: str, kept: list[int]):
    """Less kept is never slower; never slower than dense; CSR never faster than what it must move; causes add up."""
    arch = nmsim.load_arch(name)
    assert isinstance(arch, CpuArch | TensorCoreArch)
    results = [nmsim.simulate(arch, nmsim.gemm(m, n, k, f"fan-in:{x}", operand, "fp32")) for x in sorted(kept)]
    dense = nmsim.simulate(arch, nmsim.gemm(m, n, k, "dense", operand, "fp32"))
    for sparser, denser in pairwise([*results, dense]):
        assert sparser.cycles <= denser.cycles * (1 + 1e-12)
    for r in results:
        assert sum(causes(r).values()) == pytest.approx(r.cycles, rel=1e-6)
        assert r.columns["macs_useful"][0] <= r.columns["macs_executed"][0] * (1 + 1e-12)
        assert r.columns["macs_executed"][0] <= r.columns["macs_padded"][0] * (1 + 1e-12)
        moved = r.per_op("dram_bytes")[0] / (arch.memories.dram.bandwidth * arch.memories.dram.efficiency)
        assert r.latency_s >= moved * (1 - 1e-12)
        assert r.latency_s >= arch.launch.floor


def test_a_batch_of_a_table_is_chosen_row_by_row():
    """Rows of one table with different patterns each get their own kernel; dense rows keep their tiling."""
    rows = {"m": [1, 256, 64], "n": [768] * 3, "k": [3072] * 3, "pattern": ["fan-in:31", "fan-in:2000", "dense"]}
    found = nmsim.simulate("epyc_zen4_2core", nmsim.gemms(rows, dtype="fp32")).columns
    assert found["plan.kernel"].tolist()[1:] == ["dense", "dense"]
    assert found["plan.kernel"][0] != "dense"
    assert found["plan.ran_dense"].tolist() == [False, True, False]
    assert found["plan.tile_m"][0] == 0
    assert np.all(found["plan.tile_m"][1:] > 0)
