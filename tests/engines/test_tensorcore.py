"""The tensor-core model against cases counted by hand, on an A100 with one kernel and caches out of the way."""

from __future__ import annotations

from typing import Any

import pytest

import nmsim
from nmsim.arch.schema import TensorCoreArch
from nmsim.results.result import Result


def gpu(**paths: Any) -> TensorCoreArch:
    """108 cores of 1024 MAC a cycle, 128 x 128 tiles of 64 x 64 warp tiles, 128 B a cycle of shared memory; registers
    for one tile, operands read beside the products, power without end."""
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
    """8 tiles of k = 8192 keep 8 cores busy; in 8 parts each, 64 cores for an eighth of the time. A second kernel adds
    the sums, 8 x 8 tiles of 64 KiB in an L2 without limits: another launch and round trip."""
    work = nmsim.gemm(128 * 8, 128, 8192)
    whole = nmsim.simulate(gpu(), work)
    split = nmsim.simulate(gpu(kernels__split_k=[1, 8]), work)
    assert whole.cycles == pytest.approx(131072 + 100 + 1410)
    assert split.cycles == pytest.approx(16384 + 200 + 2 * 1410)
    assert split.columns["plan.split_k"][0] == 8


def test_a_reduction_is_split_where_that_saves_more_than_a_launch():
    """8 parts of k = 2048 save 28672 of 32768 cycles, and cost a round trip of 100: 20.3 us to launch the second
    kernel in."""
    work = nmsim.gemm(128 * 8, 128, 2048)
    for launch, parts in (("20.2 us", 8), ("20.3 us", 1)):
        found = nmsim.simulate(gpu(kernels__split_k=[1, 8], launch__floor=launch), work)
        assert found.columns["plan.split_k"][0] == parts


def test_dram_does_not_hide_what_follows_a_split_reduction():
    """An L2 without limits, 2 x 8192 x 1024 values of 2 bytes and the results at 87.1 GB/s: the second kernel comes
    after that."""
    arch = gpu(kernels__split_k=[8], memories__dram__bandwidth="100 GB/s", memories__l2__size="1 GB")
    found = nmsim.simulate(arch, nmsim.gemm(1024, 1024, 8192))
    dram = 2 * (2 * 8192 * 1024 + 1024 * 1024) * 1.41e9 / 87.1e9
    assert found.cycles == pytest.approx(dram + 100 + 2 * 1410)


def test_sums_of_a_split_reduction_pass_through_l2():
    """In 8 parts, 1024 x 128 sums of 4 bytes are written and read 8 times: 4 MiB at 10 TB/s each way,
    after the last part."""
    fast, slow = (gpu(kernels__split_k=[8], memories__l2__bandwidth=x) for x in ("1e9 TB/s", "10 TB/s"))
    work = nmsim.gemm(128 * 8, 128, 8192)
    extra = nmsim.simulate(slow, work).cycles - nmsim.simulate(fast, work).cycles
    assert extra == pytest.approx(2 * 8 * 1024 * 128 * 4 * 1.41e9 / 1e13)


def test_stream_k_shares_tiles_evenly():
    """109 tiles on 108 cores take 109/108 of the time of one, not two; 27 tiles half of it, cut in two each."""
    arch = gpu(kernels__stream_k=True)
    even = nmsim.simulate(arch, nmsim.gemm(128 * 109, 128, 1024))
    few = nmsim.simulate(arch, nmsim.gemm(128 * 27, 128, 1024))
    assert even.cycles == pytest.approx(16384 * 109 / 108 + 100 * 109 / 108 + 100 + 1410)
    assert few.cycles == pytest.approx(16384 / 2 + 100 + 100 + 1410)
    assert even.columns["plan.stream_k"][0] == few.columns["plan.stream_k"][0] == 1


def test_blocks_side_by_side_hide_prologues_and_results():
    """Registers for two tiles: 216 tiles are two waves, of whose prologues one is seen. Results of 216 x 128 x 128
    values of 2 bytes at 8.71 TB/s: alone they stand at the end of every wave, together half is hidden."""
    work = nmsim.gemm(128 * 216, 128, 1024)
    alone, pair = (gpu(kernels__accumulators=f"{x} KiB", memories__dram__bandwidth="10 TB/s") for x in (64, 128))
    writing = 216 * 128 * 128 * 2 * 1.41e9 / (0.871 * 1e13)
    assert nmsim.simulate(alone, work).cycles == pytest.approx(2 * 16384 + 2 * 100 + writing + 1410)
    assert nmsim.simulate(pair, work).cycles == pytest.approx(2 * 16384 + 100 + writing / 2 + 1410)


def test_feed_that_is_not_hidden_is_added():
    """Dense 128 x 128 tiles move 128*(1+2)*2*2 = 1536 B per element of k, 12 cycles beside 16: a quarter of 12 more."""
    result = nmsim.simulate(gpu(kernels__exposed_feed=0.25), nmsim.gemm(128 * 108, 128, 1024))
    assert result.cycles == pytest.approx(1024 * (16 + 3) + 100 + 1410)


@pytest.mark.parametrize(("pattern", "steps"), [("2:4", 32), ("128:2:8", 16)])
def test_steps_of_an_nm_product_wait(pattern, steps):
    """1024 elements of k are 32 steps of 32; blocks that share 4 of every 8 columns are read in half as many. Dense
    products do not wait."""
    work, dense = nmsim.gemm(128 * 108, 128, 1024, pattern, "A"), nmsim.gemm(128 * 108, 128, 1024)
    with_and_without = [gpu(kernels__sparse__step_cycles=x, sparsity__blocks=True) for x in (100, 0)]
    (slow, fast), (same, as_well) = (
        [nmsim.simulate(arch, x).cycles for arch in with_and_without] for x in (work, dense)
    )
    assert (slow - fast, same - as_well) == (pytest.approx(100 * steps), 0)


def test_steps_of_blocks_are_whole():
    """Of 32 columns blocks keep 4, so that a step of 32 is 256 of k: 800 are four steps, as 1024 are, 768 are three."""
    arch = gpu(sparsity__blocks=True)
    three, four, same = (
        nmsim.simulate(arch, nmsim.gemm(128 * 108, 128, k, "128:2:32", "A")).cycles for k in (768, 800, 1024)
    )
    assert four == pytest.approx(same)
    assert (four - 100 - 1410) / (three - 100 - 1410) == pytest.approx(4 / 3)


def test_small_tiles_of_dense_products_wait_the_largest_does_not():
    """1024 elements of k are 32 steps; 100 cycles of each in tiles of 64 x 64, of which 128 x 128 is four. Types with
    tiles of their own, as fp32 on CUDA cores, do not wait."""
    both = [gpu(kernels__tiles=[[128, 128], [64, 64]], kernels__step_cycles=x) for x in (100, 0)]
    small, large = nmsim.gemm(64 * 108, 64, 1024), nmsim.gemm(128 * 108, 128, 1024)
    (slow, as_well), (fast, same) = ([nmsim.simulate(arch, x).cycles for x in (small, large)] for arch in both)
    assert (slow - fast, as_well - same) == (pytest.approx(100 * 32), 0)
    simple = nmsim.gemm(64 * 108, 64, 1024, dtype="fp32")
    assert len({nmsim.simulate(arch, simple).cycles for arch in both}) == 1


def test_a_cluster_reads_what_it_shares_once():
    """Two blocks along m get B together: of 32 + 32 readings of the 32 MiB operands, 32 + 16 are left."""
    alone, pair = (nmsim.simulate(gpu(kernels__multicast=x), nmsim.gemm(4096, 4096, 4096)) for x in (1, 2))
    assert alone.columns["buffer.b"][0] == 32 * 2**25
    assert pair.columns["buffer.b"][0] + pair.columns["buffer.a"][0] == 48 * 2**25


def test_blocks_that_follow_columns_read_more():
    """72 x 72 tiles of 9216 x 9216 x 10240 on 108 cores: two columns of tiles are not yet reached by the 108, so A
    comes from DRAM once per 1.5 columns, 48 times; near a square it takes 72 / sqrt(108)."""
    operand, work = 9216 * 10240 * 2, nmsim.gemm(9216, 9216, 10240)
    square, columns = (nmsim.simulate(gpu(kernels__raster=x), work).columns for x in ("blocks", "columns"))
    assert square["dram.a"][0] == pytest.approx(operand * 72 / 108**0.5)
    assert columns["dram.a"][0] == pytest.approx(operand * 48)
    assert columns["dram.b"][0] == operand


@pytest.mark.parametrize("raster", ["blocks", "columns"])
@pytest.mark.parametrize("name", ["a100_sxm4_80gb", "h100_sxm5", "rtx3090"])
def test_sparse_in_b_is_the_transposed_product(name, raster):
    """C = AB with n:m in B is C^T = B^T A^T with n:m in its first operand: the same time, streams changed."""
    arch = nmsim.load_arch(name, overrides={"kernels.raster": raster})
    for m, n, k in ((9216, 5120, 10240), (640, 70000, 2048)):
        first = nmsim.simulate(arch, nmsim.gemm(m, n, k, "2:4", "A"))
        second = nmsim.simulate(arch, nmsim.gemm(n, m, k, "2:4", "B"))
        assert first.cycles == pytest.approx(second.cycles)
        for ours, theirs in ("ab", "ba"):
            assert first.columns[f"dram.{ours}"][0] == pytest.approx(second.columns[f"dram.{theirs}"][0])


def test_a_graph_starts_kernels_faster():
    """1.34 us where kernels are replayed from a graph, at 1.41 GHz, not the 1 us that a stream is set to here."""
    stream, graph = (nmsim.simulate(gpu(launch__replayed=x), nmsim.gemm(1024, 1024, 1024)) for x in (False, True))
    assert graph.cycles - stream.cycles == pytest.approx(1.41e9 * 0.34e-6)


def test_a_data_type_may_have_tiles_of_its_own():
    arch = gpu(kernels__tiles_of={"int8": [[64, 64]]})
    tiles = [
        nmsim.simulate(arch, nmsim.gemm(512, 512, 512, dtype=x)).columns["plan.tile_m"][0] for x in ("fp16", "int8")
    ]
    assert tiles == [128, 64]


def test_half_sums_double_the_rate():
    """A GeForce multiplies fp16 twice as fast into 16-bit sums."""
    work = nmsim.gemm(8192, 8192, 8192)
    wide, narrow = (nmsim.load_arch("rtx3090", overrides={"cores.accumulate": x}) for x in ("fp32", "fp16"))
    peaks = [nmsim.simulate(arch, work).columns["peak_macs"][0] for arch in (wide, narrow)]
    assert peaks == [82 * 256, 82 * 512]


def test_v_n_m_gathers_columns_of_blocks():
    """128:2:8 on 2:4 hardware: 2/8 of the products; of B the cores read 4/8, DRAM delivers what any of the 8 blocks
    keeps, 1 - (1/2)**8."""
    arch = gpu(sparsity__blocks=True, memories__l2__size="1 GiB")
    result = nmsim.simulate(arch, nmsim.gemm(1024, 4096, 4096, pattern="128:2:8", operand="A"))
    assert result.macs_executed == result.macs_dense / 4
    assert result.columns["buffer.b"][0] == 4096 * 4096 * 2 * 8 / 2
    assert result.columns["dram.b"][0] == pytest.approx(4096 * 4096 * 2 * (1 - 0.5**8))


def test_tiles_are_no_higher_than_the_blocks_that_share_columns():
    arch = gpu(sparsity__blocks=True, kernels__tiles=[[128, 128], [64, 64]])
    for v, tile in ((128, 128), (64, 64)):
        result = nmsim.simulate(arch, nmsim.gemm(8192, 8192, 4096, pattern=f"{v}:2:8", operand="A"))
        assert result.columns["plan.tile_m"][0] == tile


def test_dense_where_the_sparse_kernels_are_no_faster():
    """One 128 x 128 tile against a library whose n:m kernels have 256 x 256 tiles only, at twice the cycles."""
    result = nmsim.simulate(gpu(kernels__sparse__tiles=[[256, 256]]), nmsim.gemm(128, 128, 1024, pattern="2:4"))
    assert result.macs_executed == result.macs_dense
    assert "not be faster" in result.skipped_because[0]


def test_shared_memory_feeds_sparse_products_of_hopper_at_little_more_than_the_dense_rate():
    """128 x 256 tiles, warp groups of 64 x 256, 128 B a cycle. Dense: 128*2*2 + 256*(1+2)*2 = 2048 B, 16 cycles for
    16 of products. 2:4 of A: 128*2 + 1536 + 128*2*0.125 = 1824 B, 14.25 cycles for 8 of products: 1.12 times as fast
    at one clock. A quarter of the product rate, as on an H20: 64 and 32 cycles, twice as fast."""
    settings = {
        "kernels.tiles": [[128, 256]], "kernels.fill_cycles": 1, "kernels.split_k": [1], "power.cap": "100 kW",
        "memories.l2.bandwidth": "1e9 TB/s", "memories.dram.bandwidth": "1e9 TB/s", "launch.floor": "0 s",
    }  # fmt: skip
    for name, gain, cores in (("h100_sxm5", 16 / 14.25, 132), ("h20", 2.0, 78)):
        arch = nmsim.load_arch(name, overrides=settings)
        dense, sparse = (
            nmsim.simulate(arch, nmsim.gemm(128 * cores, 256, 8192, pattern=x, operand="A")) for x in ("dense", "2:4")
        )
        assert sparse.speedup_over(dense) == pytest.approx(gain, rel=1e-4)


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


@pytest.mark.parametrize("name", ["h100_sxm5", "h20", "a100_sxm4_80gb", "rtx3090", "rtx4070ti_super"])
def test_the_operand_that_is_sparse_makes_no_difference_to_a_square_product(name: str):
    """Instructions take the sparse operand first; with n:m in B they compute the transposed product, as large."""
    times = [
        nmsim.simulate(name, nmsim.gemm(4096, 4096, 4096, pattern="2:4", operand=operand)).latency_s
        for operand in "AB"
    ]  # fmt: skip
    assert times[0] == pytest.approx(times[1], rel=0.01)


def test_an_operand_along_k_comes_to_each_core_at_a_rate_of_its_own():
    """108 tiles on 108 cores: each fetches 128 rows of A, 1 MiB, at 8 B a cycle: 131072 cycles where products need half
    of that. B is 1 MiB for all. An L2 of 109 MiB holds both, one of 108 MiB does not."""
    work = nmsim.gemm(128 * 108, 128, 4096)
    for mib, rates, cycles in (
        (108, {}, 65536),
        (108, {"a": "8 B/clk"}, 131072),
        (108, {"a": "8 B/clk", "b": "4 B/clk"}, 131072 + 2**20 / 108 / 4),
        (109, {"a": "8 B/clk", "b": "4 B/clk"}, 65536),
    ):
        arch = gpu(memories__l2__size=f"{mib} MiB", kernels__along_k=rates)
        assert nmsim.simulate(arch, work).cycles == pytest.approx(cycles + 100 + 1410)


def test_kernels_that_ask_one_step_ahead_wait_in_every_step():
    """k = 4096 in 128 steps of 32: 128 x 1000 cycles, where products need 65536; twice as many tiles wait no longer
    where registers hold two. An L2 that holds 109 MiB has the operands at once."""
    for tiles, registers, mib, cycles in (
        (108, 64, 108, 128000), (216, 128, 108, 131072), (216, 64, 108, 256000), (108, 64, 109, 65536),
    ):  # fmt: skip
        arch = gpu(kernels__latency=1000, kernels__accumulators=f"{registers} KiB", memories__l2__size=f"{mib} MiB")
        found = nmsim.simulate(arch, nmsim.gemm(128 * tiles, 128, 4096))
        assert found.cycles == pytest.approx(cycles + 100 * tiles / 108 / (registers / 64) + 1410)


def test_products_that_are_added_read_what_is_there():
    """128 x 128 results of 2 bytes pass DRAM twice, at 87.1 GB/s, and nothing hides either."""
    work = nmsim.gemm(128, 128, 1024)
    once, twice = (nmsim.simulate(gpu(memories__dram__bandwidth="100 GB/s", kernels__c_passes=x), work) for x in (1, 2))
    assert twice.dram_bytes - once.dram_bytes == 128 * 128 * 2
    assert twice.cycles - once.cycles == pytest.approx(128 * 128 * 2 * 1.41e9 / 87.1e9)
