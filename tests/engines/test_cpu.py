"""The CPU model: a product counted by hand, each bound in turn, the levels of memory, what a user is told."""

from __future__ import annotations

import numpy as np
import pytest

import nmsim
from nmsim.arch.schema import AnyArch
from nmsim.errors import NmsimError, UnsupportedError
from nmsim.results.result import Result

PLAIN = {
    "clock": "1 GHz", "cores.count": 1, "cores.macs_per_cycle": {"fp32": 16, "fp16": 16, "int8": 64},
    "cores.simd": "64 B", "cores.register_tile": [4, 1], "cores.fma_efficiency": 1.0, "cores.packing": 1.0,
    "memories.l1.size": "32 KiB", "memories.l1.bandwidth": "64 B/clk", "memories.l2.size": "1 MiB",
    "memories.l2.bandwidth": "32 B/clk", "memories.l3.size": "32 MiB", "memories.l3.bandwidth": "16 B/clk",
    "memories.dram.bandwidth": "1000 GB/s", "launch.floor": "0 us",
}  # fmt: skip


def machine(**changes: object) -> AnyArch:
    return nmsim.load_arch("epyc_zen4_2core", PLAIN | {path.replace("__", "."): x for path, x in changes.items()})


def causes(result: Result) -> dict[str, float]:
    found = {name[6:]: float(x[0]) for name, x in result.columns.items() if name.startswith("cause.")}
    return {name: x for name, x in found.items() if x > 1e-3}


def test_a_product_by_hand():
    """64 x 64 x 64 in fp32 on 16 lanes: 64**3 / 16 = 16384 cycles, tiles of 4 x 16 fill the product; packing 2*64*64
    elements at a cycle each: 8192. L1 feeds A 64/16 and B 64/4 times, 16384 B each, and C: 344064 B in 5376 cycles;
    DRAM serves 3 * 16384 B in 49 cycles. Neither shows."""
    found = causes(nmsim.simulate(machine(), nmsim.gemm(64, 64, 64, dtype="fp32")))
    assert found == pytest.approx({"useful": 16384, "operand_feed": 8192})


def test_tiles_of_registers_are_whole():
    """m = 5 takes two rows of tiles where vectors lie along n: 8 x 64 outputs of 64 each in 2048 cycles instead of
    1280. Along m it would be 16 x 64."""
    found = causes(nmsim.simulate(machine(), nmsim.gemm(5, 64, 64, dtype="fp32")))
    assert found == pytest.approx({"useful": 1280, "granularity": 768, "operand_feed": 5 * 64 + 64 * 64})


def test_a_vector_is_neither_tiled_nor_packed():
    """1 x 4096 x 4096 in fp32: 64 MiB from DRAM at 10 B a cycle: 6710886.4 cycles, and 32768 B of vectors."""
    arch = machine(memories__dram__bandwidth="10 GB/s")
    result = nmsim.simulate(arch, nmsim.gemm(1, 4096, 4096, dtype="fp32"))
    assert result.cycles == pytest.approx(6710886.4 + 3276.8)
    assert causes(result).keys() == {"useful", "dram"}


def test_a_cache_that_is_too_small_reads_again():
    """512**3 in fp32, 3 MiB: an L2 of 16 KiB keeps 64 x 64 outputs and takes A and B 512/64 = 8 times each, 16 MiB,
    and C once, 1 MiB, from L3 at 1 B a cycle: 17 * 2**20 cycles, and packing."""
    arch = machine(memories__l2__size="16 KiB", memories__l1__size="8 KiB", memories__l3__bandwidth="1 B/clk")
    result = nmsim.simulate(arch, nmsim.gemm(512, 512, 512, dtype="fp32"))
    assert result.cycles == pytest.approx(17 * 2**20 + 2 * 2**18)


def test_cores_share_the_tiles():
    """128 x 128: 256 tiles of 4 x 16. Three cores: 86 tiles each, 86 * 64 * 128 / 16 cycles; packing a third."""
    result = nmsim.simulate(machine(cores__count=3), nmsim.gemm(128, 128, 128, dtype="fp32"))
    assert result.cycles == pytest.approx(86 * 64 * 128 / 16 + 2 * 128**2 / 3)


def test_narrow_types_fill_a_vector_with_sums_of_32_bits():
    """int8 at 64 products a cycle: tiles stay 4 x 16, since a sum has 32 bits."""
    result = nmsim.simulate(machine(), nmsim.gemm(64, 64, 64, dtype="int8"))
    assert result.columns["plan.tile_m"][0] * result.columns["plan.tile_n"][0] == 64
    assert causes(result)["useful"] == pytest.approx(4096)


def test_groups_run_dense_and_say_why():
    """2:4 costs what dense costs on SIMD units; with the mode in the file, half the products and values are left."""
    dense = nmsim.simulate(machine(), nmsim.gemm(256, 256, 256, dtype="fp32"))
    work = nmsim.gemm(256, 256, 256, pattern="2:4", dtype="fp32")
    plain = nmsim.simulate(machine(), work)
    assert plain.cycles == dense.cycles
    assert "no mode for 2:4" in plain.reasons[plain.reason_codes[0]]
    with pytest.raises(UnsupportedError, match="no mode for 2:4"):
        nmsim.simulate(machine(), work, strict=True)
    able = nmsim.simulate(machine(sparsity={"patterns": ["2:4"]}), work)
    assert able.columns["macs_executed"][0] == 256**3 / 2
    assert able.cycles < dense.cycles


def test_a_conversion_of_quantised_weights_takes_lanes():
    """int4 weights that the machine multiplies as int8 are widened once each."""
    result = nmsim.simulate(machine(), nmsim.gemm(64, 64, 64, dtype="int4"))
    assert result.columns["lane_ops"][0] == 2 * 64 * 64


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cores.simd", "64", "64"),
        ("cores.fma_efficiency", 1.5, "1.5"),
        ("memories.l1.bandwidth", "64 GB/s", "B/clk"),
        ("sparsity", {"weights": "inline"}, "pregenerate"),
        ("gathers.csr.entry", 0, "greater than 0"),
        ("gathers.csr.overlaps", True, "overlap"),
    ],
)
def test_a_bad_number_is_refused(path: str, value: object, message: str):
    with pytest.raises(NmsimError, match=message):
        nmsim.load_arch("epyc_zen4_2core", {path: value})


def test_the_time_is_bounded_by_the_machine():
    """Random products: no faster than the peak, than DRAM, and never faster with half of anything."""
    rng = np.random.default_rng(4)
    m, n, k = (np.round(2 ** rng.uniform(0, 11, 200)).astype(int) for _ in range(3))
    work = nmsim.gemms({"m": m, "n": n, "k": k}, dtype="fp32")
    before = nmsim.simulate(machine(), work)
    assert (before.per_op("cycles") >= m * n * k / 16 - 1e-6).all()
    assert (before.per_op("cycles") >= before.per_op("dram_bytes") / 1000 - 1e-6).all()
    for path in ("memories.l1.size", "memories.l2.size", "memories.l3.size"):
        after = nmsim.simulate(machine(**{path.replace(".", "__"): "4 KiB"}), work)
        assert (after.per_op("cycles") >= before.per_op("cycles") * (1 - 1e-12)).all()
