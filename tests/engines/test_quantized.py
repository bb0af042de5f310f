"""Products of quantised operands: the type they run in, their bytes, the widening on the way, and the laws of bits."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import nmsim
from nmsim import library
from nmsim.arch.arithmetic import HOLDERS, multiplies_in
from nmsim.arch.capability import skips
from nmsim.arch.schema import AnyArch
from nmsim.engines.products import dense_where, gather
from nmsim.results.result import Result
from nmsim.sparsity.numbers import NUMBER_FORMATS
from nmsim.sparsity.quantize import sparsify_then_quantize
from nmsim.workloads.optable import DTYPE_BITS, Workload

MACHINES = library.names("arch_configs")
ROUNDING = 1e-12
"""Relative room for the last bits of floating-point sums."""


def gpu(**paths: Any) -> AnyArch:
    """An A100 of 108 cores with 128 x 128 tiles of 64 x 64 warp tiles, memories out of the way unless said."""
    settings = {
        "kernels.tiles": [[128, 128]],
        "kernels.split_k": [1],
        "kernels.fill_cycles": 100,
        "kernels.accumulators": "64 KiB",
        "kernels.exposed_feed": 0,
        "kernels.sparse.step_cycles": 0,
        "power.cap": "100 kW",
        "memories.l2.bandwidth": "1e9 TB/s",
        "memories.dram.bandwidth": "1e9 TB/s",
        "launch.floor": "1 us",
    } | {key.replace("__", "."): value for key, value in paths.items()}
    return nmsim.load_arch("a100_sxm4_80gb", overrides=settings)


def bytes_of(result: Result) -> dict[str, int]:
    return {stream: int(result.columns[f"dram.{stream}"][0]) for stream in ("a", "b", "c", "metadata")}


def test_bytes_of_weights_of_4_bits():
    """16 x 4096 x 4096, activations of fp16: B is 8 MiB; a scale of 2 bytes for each of 4096 channels, or 32 for
    each when 128 weights share one."""
    work = nmsim.gemm(16, 4096, 4096)
    sizes = bytes_of(nmsim.simulate(gpu(), work.quantized("int4")))
    assert sizes == {"a": 131072, "b": 8388608, "c": 131072, "metadata": 8192}
    assert bytes_of(nmsim.simulate(gpu(), work.quantized("int8")))["b"] == 2 * 8388608
    assert bytes_of(nmsim.simulate(gpu(), work.quantized("int4", 128)))["metadata"] == 4096 * 32 * 2
    assert bytes_of(nmsim.simulate(gpu(), work))["metadata"] == 0


def test_a_last_group_of_scales_may_be_short():
    """k = 300 in groups of 128 has 3 scales; a group longer than k is one."""
    work = nmsim.gemm(16, 10, 300)
    assert bytes_of(nmsim.simulate(gpu(), work.quantized("int4", 128)))["metadata"] == 10 * 3 * 2
    assert bytes_of(nmsim.simulate(gpu(), work.quantized("int4", 1000)))["metadata"] == 10 * 2


def test_sparse_weights_of_4_bits():
    """2:4 in 4 bits: 2 x 4 bits of values and 2 x 2 bits of indices in 4 weights, which is 3 bits a weight."""
    work = nmsim.gemm(16, 4096, 4096, pattern="2:4").quantized("int4")
    result = nmsim.simulate(gpu(), work)
    sizes = bytes_of(result)
    assert (sizes["b"], sizes["metadata"]) == (4096 * 4096 // 4, 4096 * 4096 // 8 + 8192)
    assert result.macs_executed == result.macs_dense / 2


def test_bytes_agree_with_quantised_arrays():
    """The codes and fp16 scales of a real 2:4 weight of 24 rows of 96, quantised in groups of 32."""
    weight = np.random.default_rng(0).normal(size=(24, 96))
    q = sparsify_then_quantize(weight, "2:4", "int4", scale_axis=1, group=32).quantized
    stored = replace(q, scale=q.scale.astype(np.float16)).sparse_size("2:4")
    work = nmsim.gemm(64, 24, 96, pattern="2:4").quantized("int4", 32)
    for arch in (gpu(), nmsim.load_arch("sat_vcu1525"), nmsim.load_arch("systolic_128x128")):
        sizes = bytes_of(nmsim.simulate(arch, work))
        assert (sizes["b"], sizes["metadata"]) == (stored.values, stored.metadata)


def test_weight_only_runs_at_the_rate_of_the_activations():
    """1024^3: one wave of 128 x 128 x 1024 / 1024 = 16384 cycles in fp16. Widening: 8 x 8 tiles of 128 columns, read
    by 2 warp tiles each, 2^24 operations on 6912 lanes, 2427 cycles beside it. In int8 throughout 8192 cycles."""
    fp16 = nmsim.simulate(gpu(), nmsim.gemm(1024, 1024, 1024))
    weight_only = nmsim.simulate(gpu(), nmsim.gemm(1024, 1024, 1024).quantized("int4"))
    assert weight_only.cycles == fp16.cycles == pytest.approx(16384 + 100 + 1410)
    assert weight_only.columns["lane_ops"][0] == 8 * 8 * 1024 * 128 * 2
    both = nmsim.simulate(gpu(), nmsim.gemm(1024, 1024, 1024, dtype="int8").quantized("int8"))
    assert both.cycles == pytest.approx(8192 + 100 + 1410)
    assert both.columns["lane_ops"][0] == 0


def test_few_lanes_make_widening_the_bound():
    """On 108 lanes the 2^24 operations take 155345 cycles; with scales in groups each weight takes two."""
    arch = gpu(vector__lanes=108)
    work = nmsim.gemm(1024, 1024, 1024)
    result = nmsim.simulate(arch, work.quantized("int4"))
    assert result.cycles == pytest.approx(2**24 / 108 + 100 + 1410)
    assert result.columns["cause.operand_feed"][0] == pytest.approx(2**24 / 108 - 1024**3 / (108 * 1024))
    assert nmsim.simulate(arch, work.quantized("int4", 64)).cycles == pytest.approx(2**25 / 108 + 100 + 1410)


def test_widening_on_a_systolic_array():
    """32 x 32, output stationary, 64 x 32 x 128: two folds of rows, so B passes twice, 8192 values on 32 lanes: 256
    cycles, as long as the two folds of 128 steps take. With 16 lanes it binds: 512 cycles, then fill and drain of 62.
    """
    fixed = {"array.dataflows": ["os"], "memories.dram.bandwidth": "1e9 TB/s", "vector.lanes": 16}
    work = nmsim.gemm(64, 32, 128).quantized("int4")
    result = nmsim.simulate(nmsim.load_arch("systolic_32x32", overrides=fixed), work)
    assert result.columns["lane_ops"][0] == 2 * 32 * 128
    assert result.cycles == pytest.approx(512 + 62)
    assert result.columns["cause.operand_feed"][0] == pytest.approx(256)


@pytest.mark.parametrize(
    ("name", "a", "b", "runs"),
    [
        ("a100_sxm4_80gb", "fp16", "int4", "fp16"), ("a100_sxm4_80gb", "int8", "int4", "int8"),
        ("a100_sxm4_80gb", "int4", "int4", "int4"), ("a100_sxm4_80gb", "fp8", "fp8", "fp16"),
        ("h100_sxm5", "int4", "int4", "int8"), ("h100_sxm5", "fp8", "int4", "fp8"),
        ("h100_sxm5", "int8", "fp8", "fp16"), ("v100_sxm2", "int8", "int8", "fp16"),
        ("tpu_v4_like", "bf16", "int8", "bf16"), ("sat_vcu1525", "int4", "int8", "fp16"),
    ],
)  # fmt: skip
def test_products_run_in_the_narrowest_type_that_holds_both(name: str, a: str, b: str, runs: str):
    arch = nmsim.load_arch(name)
    assert multiplies_in(arch, a, b) == runs == multiplies_in(arch, b, a)


def test_wider_types_hold_every_value():
    """All codes of the quantised formats are values of fp16 (11 bits of significand), bf16 (8 bits of it) and, of
    int4, of e4m3 and e5m2 and int8."""
    for fmt in NUMBER_FORMATS.values():
        codes = np.arange(-127, 128) if fmt.is_integer else np.arange(256)
        values = fmt.decode(codes[np.abs(codes) <= fmt.largest] if fmt.is_integer else codes)
        values = values[np.isfinite(values)]
        assert {"fp16", "bf16", "fp32"} <= set(HOLDERS[fmt.dtype])
        np.testing.assert_array_equal(values.astype(np.float16).astype(np.float32), values)
        assert not (values.view(np.uint32) & 0xFFFF).any()  # the half of float32 that bf16 lacks
    small = np.arange(-7, 8)
    for narrow in ("fp8_e4m3", "fp8_e5m2", "int8"):
        fmt = NUMBER_FORMATS[narrow]
        np.testing.assert_array_equal(fmt.decode(fmt.encode(small)), small)
    assert {"int8", "fp8"} <= set(HOLDERS["int4"])


def test_a_type_that_the_machine_lacks_is_widened_and_says_so():
    """A V100 has no int8: at the rate of fp16 with the bytes of int8; both operands are widened, 2 x 2^24 in all."""
    free = {"memories.l2.bandwidth": "1e9 TB/s", "memories.dram.bandwidth": "1e9 TB/s", "kernels.tiles": [[128, 128]]}
    arch = nmsim.load_arch("v100_sxm2", overrides={**free, "kernels.split_k": [1], "kernels.exposed_feed": 0})
    fp16 = nmsim.simulate(arch, nmsim.gemm(1024, 1024, 1024))
    int8 = nmsim.simulate(arch, nmsim.gemm(1024, 1024, 1024, dtype="int8"))
    assert int8.cycles == pytest.approx(fp16.cycles, rel=1e-9)
    assert bytes_of(int8) == {"a": 1 << 20, "b": 1 << 20, "c": 1 << 20, "metadata": 0}
    assert int8.columns["lane_ops"][0] == 2 * 2**24
    lines = [line for line in int8.assumptions if line.startswith("data types")]
    assert len(lines) == 1
    assert "A in int8 times B in int8 runs in fp16, since v100_sxm2 does not multiply int8" in lines[0]
    assert not [line for line in fp16.assumptions if line.startswith("data types")]


def test_types_that_are_not_quantised_are_not_replaced():
    with pytest.raises(nmsim.NmsimError, match="v100_sxm2 cannot multiply bf16"):
        nmsim.simulate("v100_sxm2", nmsim.gemm(64, 64, 64, dtype="bf16").quantized("int4"))


def test_the_sparse_mode_is_that_of_the_type_that_runs():
    """An A100 lists 2:4 for fp16 and int8, none for int4: weights of int4 skip zeros beside fp16, not beside int4."""
    work = nmsim.gemm(1024, 1024, 1024, pattern="2:4", dtype="int4").quantized("int4")
    alone = nmsim.simulate(gpu(), work)
    assert alone.macs_executed == alone.macs_dense
    assert alone.skipped_because[0].startswith("a100_sxm4_80gb has no sparse mode for int4")
    assert bytes_of(alone)["metadata"] == 1024 * 2  # no indices, but scales
    beside = nmsim.simulate(gpu(), nmsim.gemm(1024, 1024, 1024, pattern="2:4").quantized("int4"))
    assert beside.macs_executed == beside.macs_dense / 2


def test_zeros_that_are_multiplied_all_the_same_keep_their_scales():
    arch = nmsim.load_arch("systolic_32x32")
    work = nmsim.gemm(64, 64, 64, pattern="2:4").quantized("int4", 16)
    sparse = gather(arch, work, skips(arch, work), np.zeros(1, bool))
    dense = dense_where(sparse, np.ones(1, bool))
    assert dense.b.dram_metadata[0] == 64 * 4 * 2
    assert sparse.b.dram_metadata[0] == 64 * 4 * 2 + 64 * 64 // 2 * 2 // 8
    assert dense.b.metadata[0] == 4 * 2 / 64


@cache
def machine(name: str, lanes: int = 0) -> AnyArch:
    return nmsim.load_arch(name, overrides={"vector.lanes": lanes} if lanes else {})


@cache
def products(pattern: str, dtype: str) -> Workload:
    """Products of every shape; k at least 16, so that a scale of 2 bytes costs less than a narrower type saves of the
    values of 1:4."""
    rng = np.random.default_rng(11)
    m, n, k = (np.round(2 ** rng.uniform(low, 13, 200)).astype(int) for low in (0, 0, 4))
    size = len(m)
    return nmsim.gemms(
        {"m": m, "n": n, "k": k, "count": rng.choice([1, 12], size), "pattern": [pattern] * size}, dtype=dtype
    )


CHAINS = [("fp16", ["fp16", "int8", "int4"]), ("int8", ["int8", "int4"]), ("fp8", ["fp8", "int4"])]
"""Activations, and weights of ever fewer bits that run in the same type beside them."""


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("pattern", ["dense", "2:4", "1:4"])
@pytest.mark.parametrize("group", [None, 32])
def test_fewer_bits_of_weights_are_never_slower(name: str, pattern: str, group: int | None):
    """Law 4 for bits: with lanes enough to widen them, weights of fewer bits never make the same product slower."""
    for activations, chain in CHAINS:
        plain = products(pattern, activations)
        works = [plain if x == "fp16" else plain.quantized(x, group) for x in chain]
        latency = [nmsim.simulate(machine(name, 10**12), work).per_op("latency_s") for work in works]
        for wider, narrower in pairwise(latency):
            assert (narrower <= wider * (1 + ROUNDING)).all()


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("pattern", ["dense", "2:4", "1:4"])
def test_4_bits_are_never_slower_than_8(name: str, pattern: str):
    """With the lanes that the machine has: beside fp16 both are widened, at the same cost."""
    latency = [
        nmsim.simulate(machine(name), products(pattern, "fp16").quantized(x, 32)).per_op("latency_s")
        for x in ("int8", "int4")
    ]
    assert (latency[1] <= latency[0] * (1 + ROUNDING)).all()


@pytest.mark.parametrize("name", MACHINES)
def test_the_laws_hold_for_mixed_types(name: str):
    """Work is ordered, no resource is overrun, the causes sum up, and every operand is read in its own width."""
    for activations, stored in (("fp16", "int4"), ("int8", "int8"), ("fp8", "fp8"), ("int8", "int4")):
        work = products("2:4", activations).quantized(stored, 32)
        arch, result = machine(name), nmsim.simulate(machine(name), work)
        useful, executed, padded = (result.columns[f"macs_{x}"] for x in ("useful", "executed", "padded"))
        assert (useful <= executed * (1 + ROUNDING)).all()
        assert (executed <= padded * (1 + ROUNDING)).all()
        latency, dram = result.per_op("latency_s") * (1 + ROUNDING), arch.memories.dram
        assert (latency >= result.seconds_at_peak()).all()
        assert (latency >= result.per_op("dram_bytes") / (dram.bandwidth * dram.efficiency)).all()
        assert (latency >= result.columns["lane_ops"] / arch.vector.lanes / arch.clock).all()
        causes = [v for column, v in result.columns.items() if column.startswith("cause.")]
        np.testing.assert_allclose(np.sum(causes, axis=0), result.per_op("cycles"), rtol=ROUNDING)
        kept = np.where(result.skipped_because == "", result.columns["macs_executed"] / result.macs_dense_per_op(), 1.0)
        least = work["b_elements"] * kept * DTYPE_BITS[stored] / 8
        assert (result.columns["dram.b"] >= least - 1).all()
        scales = work["n"] * work["count"] * np.ceil(work["k"] / 32) * 2
        assert (result.columns["dram.metadata"] >= scales).all()
