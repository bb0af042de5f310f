"""The tensor-core model against cases counted by hand, on an A100 with one kernel and caches out of the way."""

from __future__ import annotations

from typing import Any

import pytest

import nmsim
from nmsim.arch.schema import TensorCoreArch
from nmsim.results.result import Result


def gpu(**paths: Any) -> TensorCoreArch:
    """108 cores of 1024 MAC a cycle, 128 x 128 tiles of 64 x 64 warp tiles, 128 B a cycle of shared memory."""
    settings = {
        "kernels.tiles": [[128, 128]],
        "kernels.split_k": [1],
        "kernels.fill_cycles": 100,
        "memories.l2.bandwidth": "1e9 TB/s",
        "memories.dram.bandwidth": "1e9 TB/s",
        "launch.floor": "1 us",
    } | {key.replace("__", "."): value for key, value in paths.items()}
    return nmsim.load_arch("a100_sxm4_80gb", overrides=settings)


def causes(result: Result) -> dict[str, float]:
    found = {
        name.removeprefix("cause."): float(v[0]) for name, v in result.columns.items() if name.startswith("cause.")
    }
    return {name: value for name, value in found.items() if value > 1e-3}


def test_one_wave():
    """1024 x 1024 x 1024: 64 tiles on 108 cores, one wave of 128*128*1024/1024 = 16384 cycles; the work would take
    1024**3 / (108*1024) = 9709.04 on all cores. Launch: 1 us at 1.41 GHz."""
    found = causes(nmsim.simulate(gpu(), nmsim.gemm(1024, 1024, 1024)))
    useful = 1024**3 / (108 * 1024)
    expected = {"useful": useful, "granularity": 16384 - useful, "fill_drain": 100, "launch": 1410}
    assert found == pytest.approx(expected)


def test_waves_are_whole():
    """109 tiles take two waves where 108 take one."""
    one = nmsim.simulate(gpu(), nmsim.gemm(128 * 108, 128, 1024))
    two = nmsim.simulate(gpu(), nmsim.gemm(128 * 109, 128, 1024))
    assert one.cycles == pytest.approx(16384 + 100 + 1410)
    assert two.cycles == pytest.approx(2 * (16384 + 100) + 1410)


def test_sparse_products_are_fed_less_than_twice_as_fast():
    """2:4 halves the 16384 cycles to 8192, but shared memory moves, per element of k, A 128*(1+2)*2 = 768 B and B
    half of that, 1152 B at 128 B a cycle: 9 cycles where the multipliers need 8. 2-bit indices of half the elements:
    128*3*0.125 = 48 B more."""
    work = nmsim.gemm(128 * 108, 128, 1024, pattern="2:4", operand="B")
    found = causes(nmsim.simulate(gpu(), work))
    expected = {"useful": 8192, "operand_feed": 1024, "metadata": 384, "fill_drain": 100, "launch": 1410}
    assert found == pytest.approx(expected)


def test_reduction_is_padded_to_the_main_loop_step():
    """k = 1 runs a whole step of 32."""
    found = causes(nmsim.simulate(gpu(), nmsim.gemm(128 * 108, 128, 1)))
    assert found["useful"] + found["granularity"] == pytest.approx(128 * 128 * 32 / 1024)


def test_split_k_fills_the_cores():
    """8 tiles of k = 8192 keep 8 cores busy; in 8 parts each, 64 cores for an eighth of the time."""
    work = nmsim.gemm(128 * 8, 128, 8192)
    whole = nmsim.simulate(gpu(), work)
    split = nmsim.simulate(gpu(kernels__split_k=[1, 8]), work)
    assert whole.cycles == pytest.approx(131072 + 100 + 1410)
    assert split.cycles == pytest.approx(16384 + 100 + 1410)
    assert split.columns["plan.split_k"][0] == 8


def test_rooflines():
    """4096^3 in fp16 reads 32 rows of tiles x 32 MiB of B and the same of A through L2; 40 MiB of L2 do not hold the
    64 MiB of operands, which come from DRAM once per rectangle of about 108 tiles."""
    l2 = nmsim.simulate(gpu(memories__l2__bandwidth="1 TB/s"), nmsim.gemm(4096, 4096, 4096))
    read = 2 * 32 * 4096 * 4096 * 2 + 4096 * 4096 * 2
    assert l2.cycles == pytest.approx(read * 1.41e9 / 1e12 + 100 * 10 + 1410)
    dram = l2.dram_bytes
    assert dram == pytest.approx(2 * 2**25 * 32 / 108**0.5 + 2**25)


def test_operands_that_l2_holds_are_read_once():
    result = nmsim.simulate(gpu(), nmsim.gemm(2048, 2048, 2048))
    assert result.dram_bytes == 3 * 2048 * 2048 * 2


@pytest.mark.parametrize("count", [2, 8, 32])
def test_products_of_a_batch_follow_each_other(count: int):
    """Each of them has the cores to itself and moves what it would move alone."""
    alone = nmsim.simulate(gpu(), nmsim.gemm(8192, 8192, 4096))
    batch = nmsim.simulate(gpu(), nmsim.gemm(8192, 8192, 4096, count=count))
    assert batch.dram_bytes == pytest.approx(count * alone.dram_bytes)


def test_2_to_8_runs_as_2_to_4():
    """At most 2 of every 8 are at most 2 of every 4: the machine's own pattern covers it, at half the cycles."""
    sparse = nmsim.simulate(gpu(), nmsim.gemm(128 * 108, 128, 1024, pattern="2:8"))
    covering = nmsim.simulate(gpu(), nmsim.gemm(128 * 108, 128, 1024, pattern="2:4"))
    assert sparse.cycles == covering.cycles
    assert sparse.macs_useful == covering.macs_useful / 2
    assert sparse.macs_executed == covering.macs_executed


@pytest.mark.parametrize("pattern", ["4:8", "3:4", "5:16", "unstructured:0.1"])
def test_what_no_mode_covers_runs_dense_and_says_so(pattern: str):
    work = nmsim.gemm(4096, 4096, 4096, pattern=pattern)
    result = nmsim.simulate(gpu(), work)
    assert result.macs_executed == result.macs_dense
    assert result.skipped_because[0] == f"a100_sxm4_80gb has no mode for {pattern} (has 2:4)"
    with pytest.raises(nmsim.NmsimError, match="has no mode for"):
        nmsim.simulate(gpu(), work, strict=True)


def test_a_machine_without_sparsity_runs_dense():
    result = nmsim.simulate("v100_sxm2", nmsim.gemm(512, 512, 512, pattern="2:4"))
    assert result.macs_executed == result.macs_dense
    assert "has none" in result.skipped_because[0]
