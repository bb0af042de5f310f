"""The systolic and SAT models against cases counted by hand; the array is 32x32 and memory never in the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nmsim
from nmsim.arch.schema import SystolicArch
from nmsim.results.result import Result
from nmsim.workloads.optable import Workload, WorkloadBuilder


def sat(**array: Any) -> SystolicArch:
    """SAT without DRAM, port and adder limits; keywords set keys of `array` or, with a dot for `__`, of the file."""
    settings = {"dataflows": ["os"], "accumulator_latency": 1, "interleave": 1, "operand_port": "1e6 B/clk"} | array
    paths = {(key.replace("__", ".") if "__" in key else f"array.{key}"): value for key, value in settings.items()}
    return nmsim.load_arch("sat_vcu1525", overrides={"memories.dram.bandwidth": "1e9 TB/s", **paths})


def run(arch: SystolicArch, m: int, n: int, k: int, pattern: str = "dense", operand: str = "B") -> Result:
    return nmsim.simulate(arch, nmsim.gemm(m, n, k, pattern=pattern, operand=operand))


def causes(result: Result) -> dict[str, float]:
    """Cycles per cause of a result of one op, those that are not zero."""
    found = {name: float(v[0]) for name, v in result.columns.items() if name.startswith("cause.")}
    return {name.removeprefix("cause."): value for name, value in found.items() if value > 1e-6}


def test_pipelined_os_pays_the_fill_once():
    """64x64x64: 2*2 folds of 64 cycles, then 32 + 32 - 2 of fill and drain."""
    assert causes(run(sat(), 64, 64, 64)) == {"useful": 256, "fill_drain": 62}


def test_sparse_group_costs_n_cycles():
    """2:8 leaves 16 of 64: a quarter of the cycles with the same multipliers."""
    assert causes(run(sat(), 64, 64, 64, "2:8")) == {"useful": 64, "fill_drain": 62}


def test_edge_tiles_are_granularity():
    """33 rows need two folds of 32: 2 * 64 cycles for 33/32 * 64 = 66 of work."""
    assert causes(run(sat(), 33, 32, 64)) == {"useful": 66, "granularity": 62, "fill_drain": 62}


def test_adder_latency_stalls_without_interleaving():
    """An adder of 4 cycles: each of the 4 * 64 steps takes 4."""
    assert causes(run(sat(accumulator_latency=4), 64, 64, 64)) == {"useful": 256, "issue": 768, "fill_drain": 62}


def test_interleaving_hides_the_adder():
    """4 outputs in turn along the rows: tiles of 128 x 32, each 4 * 64 cycles: 2 tiles for 128 x 64."""
    assert causes(run(sat(accumulator_latency=4, interleave=4), 128, 64, 64)) == {"useful": 512, "fill_drain": 62}


def test_interleaving_needs_enough_outputs():
    """64x64 fills half of a 128 x 32 (or 32 x 128) tile of 4 turns; with 2 turns, 64 x 32, the adder waits half the
    time: 2 tiles of 64 * 2 steps at 2 cycles each, 512 cycles either way for 256 of work."""
    result = run(sat(accumulator_latency=4, interleave=4), 64, 64, 64)
    assert causes(result) == {"useful": 256, "issue": 256, "fill_drain": 62}
    assert result.columns["plan.turns_m"][0] == 2


def test_a_port_favours_interleaving():
    """64x32x64 through 32 B/clk: without interleaving A passes once, B (2 * 64 * 32 B) twice: 12288 + 4096 = 16384 B
    in 384 + ... cycles; two outputs in turn along m read B once: 8192 + 4096 = 12288 B, 384 cycles."""
    result = run(sat(interleave=2, operand_port="32 B/clk"), 64, 32, 64)
    assert causes(result) == {"useful": 128, "operand_feed": 256, "fill_drain": 62}
    assert result.columns["plan.turns_m"][0] == 2


def test_dense_os_needs_the_array_edge():
    """Dense: (32 + 32) values of 2 B a cycle = 128 B/cycle keeps the array busy, 64 B/cycle halves it."""
    assert causes(run(sat(operand_port="128 B/clk"), 128, 64, 64)) == {"useful": 512, "fill_drain": 62}
    halved = run(sat(operand_port="64 B/clk"), 128, 64, 64)
    assert causes(halved) == {"useful": 512, "operand_feed": 512, "fill_drain": 62}


def test_sparse_os_needs_the_dense_operand_faster():
    """2:8 on 128x64x64: 8 tiles of 16 cycles. The port carries A 128*64*2 times over 2 B = 32768 B, B 16*64*4*2 =
    8192 B and 3-bit indices 16*64*4*3/8 = 1536 B: 332 B a cycle for full speed; 128 B/cycle take 320 + 12 cycles."""
    assert causes(run(sat(operand_port="332 B/clk"), 128, 64, 64, "2:8")) == {"useful": 128, "fill_drain": 62}
    bound = causes(run(sat(operand_port="128 B/clk"), 128, 64, 64, "2:8"))
    assert bound == {"useful": 128, "operand_feed": 192, "metadata": 12, "fill_drain": 62}


def test_a_port_sized_for_2_to_4_holds_back_2_to_8():
    """128x64x64 at 2:4: 8 tiles of 32 cycles need A 32768 B, B 16384 B and 2048 B of indices, 200 B a cycle. Through
    that port 2:8, with half the multiply-accumulates, still moves 42496 B: 212.48 cycles, 1.2 times faster, not 2."""
    arch = sat(operand_port="200 B/clk")
    half, quarter = run(arch, 128, 64, 64, "2:4"), run(arch, 128, 64, 64, "2:8")
    assert half.cycles == 256 + 62
    assert quarter.cycles == pytest.approx(212.48 + 62)


def test_weight_stationary_dense():
    """k = 256: 8 folds of 1000 rows; filling 2*32 + 32 - 2."""
    assert causes(run(sat(dataflows=["ws"]), 1000, 32, 256)) == {"useful": 8000, "fill_drain": 94}


def test_weight_stationary_units_hold_a_group():
    """2:8: a unit holds a group of 8, so 32 rows cover k = 256: one fold of 1000 rows, 2 cycles each. Loading 64
    values a column, then 32 hops of 2 cycles, then 30 columns: 64 + 64 + 30."""
    assert causes(run(sat(dataflows=["ws"]), 1000, 32, 256, "2:8")) == {"useful": 2000, "fill_drain": 158}


def test_the_products_of_a_group_wait_for_each_other():
    """2:8 on an adder of 4 cycles: the second product of each of 1000 rows waits, 1 + 4 cycles instead of 2; with 4
    rows in turn it does not, and 2 in turn take 4 + 2 cycles for 2 rows. Filling: 64 to load, 32 hops of 2 * 4, 30.
    Dense units hold one value and never wait."""

    def waiting(interleave: int, pattern: str = "2:8") -> dict[str, float]:
        return causes(run(sat(dataflows=["ws"], accumulator_latency=4, interleave=interleave), 1000, 32, 256, pattern))

    fill = {"fill_drain": 64 + 32 * 8 + 30}
    assert waiting(4) == {"useful": 2000, **fill}
    assert waiting(2) == {"useful": 2000, "issue": 1000, **fill}
    assert waiting(1) == {"useful": 2000, "issue": 3000, **fill}
    assert waiting(1, "dense") == {"useful": 8000, "fill_drain": 32 + 32 * 4 + 30}


def test_short_reduction_wastes_a_grouped_array():
    """k = 64 fills 8 of 32 rows of units: 2000 cycles for 500 of work, where dense needs 2 folds of 1000. Loading
    dense, 32 + 32 + 30, is shorter, so the op runs dense; with more rows of A the two are equal but for that."""
    result = run(sat(dataflows=["ws"]), 1000, 32, 64, "2:8")
    assert causes(result) == {"useful": 500, "unskipped": 1500, "fill_drain": 94}
    assert "would not be faster" in result.skipped_because[0]


def test_single_values_skip_only_the_stationary_operand():
    """Units that hold single values shorten k for a sparse B, ceil(64/32) folds; a sparse A streams and runs dense."""
    arch = sat(dataflows=["ws"], stationary="value")
    assert causes(run(arch, 1000, 32, 256, "2:8", "B"))["useful"] == 2000
    streamed = causes(run(arch, 1000, 32, 256, "2:8", "A"))
    assert streamed == {"useful": 2000, "unskipped": 6000, "fill_drain": 94}


def test_input_stationary_is_weight_stationary_transposed():
    for pattern, operand, mirrored in (("dense", "B", "B"), ("2:8", "B", "A"), ("2:8", "A", "B")):
        ws = run(sat(dataflows=["ws"]), 1000, 48, 256, pattern, operand)
        is_ = run(sat(dataflows=["is"]), 48, 1000, 256, pattern, mirrored)
        assert causes(ws) == causes(is_)
        assert ws.columns["dram.a"] == is_.columns["dram.b"]
        assert ws.columns["plan.tile_m"] == is_.columns["plan.tile_n"]


def test_the_faster_dataflow_is_chosen():
    """A long reduction suits OS: 64 x 32 x 4096 takes 2 folds of 4096 + 62 = 8254, WS 128 folds of 64 + 94 = 8286;
    with m and k exchanged WS takes 2 folds of 4096 + 94 = 8286 and OS 128 folds of 64 + 62 = 8254."""
    both = sat(dataflows=["os", "ws"])
    assert run(both, 64, 32, 4096).columns["plan.dataflow"][0] == "os"
    short = run(sat(dataflows=["os", "ws"], accumulator_latency=4), 4096, 32, 64)
    assert short.columns["plan.dataflow"][0] == "ws"


def test_identical_arrays_share_the_tiles():
    """5 column tiles on 4 arrays: two waves of 64 cycles."""
    assert causes(run(sat(count=4), 32, 160, 64)) == {"useful": 80, "granularity": 48, "fill_drain": 62}


def step(weights: str, pattern: str = "2:8") -> Workload:
    """A product whose weight (B, 64 x 32) is pruned anew every step, and that search."""
    b = WorkloadBuilder("step")
    p = nmsim.Pattern.parse(pattern)
    b.add("fc", "FF", m=1000 if weights == "ws" else 32, n=32, k=256, b_pattern=p, b_axis="k", b_role="weight")
    b.add("fc", "PRUNE", "prune", m=256, n=32, a_pattern=p, a_role="weight", a_elements=8192, c_elements=2048)
    return b.build()


def test_pruning_in_the_stream_gains_nothing_output_stationary():
    """Inline, the lanes pass one element a cycle: 256 cycles for 64 of work; packed ahead it takes 64."""
    inline = nmsim.simulate(sat(sparsity__weights="inline"), step("os"))
    assert causes(inline) == {"useful": 64, "reduction": 192, "fill_drain": 62}
    assert inline.per_op("cycles")[1] == 0
    ahead = nmsim.simulate(sat(), step("os"))
    assert ahead.per_op("cycles")[0] == 64 + 62


def test_a_group_that_is_held_is_pruned_once_for_all_outputs_in_turn():
    """128 x 32 outputs, 4 in turn along m, k = 256: 64 * 4 cycles of work. Lanes that hold a group prune it in the
    256 cycles in which it serves 4 outputs; those that do not take 4 * 256, and B passes the port 4 times."""
    b = WorkloadBuilder("step")
    p = nmsim.Pattern.parse("2:8")
    b.add("fc", "FF", m=128, n=32, k=256, b_pattern=p, b_axis="k", b_role="weight")
    b.add("fc", "PRUNE", "prune", m=256, n=32, a_pattern=p, a_role="weight", a_elements=8192, c_elements=2048)
    adder = {"accumulator_latency": 4, "interleave": 4, "sparsity__weights": "inline"}
    held = nmsim.simulate(sat(**adder, reduction_engine__holds_groups=True), b.build())
    anew = nmsim.simulate(sat(**adder), b.build())
    assert causes(held) == {"useful": 256, "fill_drain": 62}
    assert anew.cycles == 4 * 256 + 62
    assert held.columns["buffer.b"][0] == 64 * 32 * 2


def test_without_scheduling_every_product_has_the_first_dataflow():
    """WS is faster for 4096 x 32 x 64 and OS for 64 x 32 x 4096, see above; `fixed` keeps what is listed first."""
    for first, other in (("os", "ws"), ("ws", "os")):
        arch = sat(dataflows=[first, other], accumulator_latency=4, scheduling="fixed")
        chosen = nmsim.simulate(arch, nmsim.gemms({"m": [4096, 64], "n": [32, 32], "k": [64, 4096]}))
        assert list(chosen.columns["plan.dataflow"]) == [first, first]


def test_pruning_in_the_stream_is_amortised_weight_stationary():
    """A fold streams 1000 rows in 2000 cycles while the lanes prune the next one's 32 * 8 elements a column in 256."""
    inline = nmsim.simulate(sat(sparsity__weights="inline", dataflows=["ws"]), step("ws"))
    assert inline.columns["cause.reduction"][0] == 0


def test_inline_weights_lie_dense_in_dram():
    """256 x 32 weights of 2 B: 16384 B dense; packed 2:8 a quarter, with 3 bits an index."""
    inline = nmsim.simulate(sat(sparsity__weights="inline"), step("os"))
    ahead = nmsim.simulate(sat(), step("os"))
    assert inline.columns["dram.b"][0] == 16384
    assert ahead.columns["dram.b"][0] == 4096
    assert ahead.columns["dram.metadata"][0] == 2048 * 3 / 8


def test_mask_search_takes_a_lane_one_cycle_per_element():
    """8192 elements on 32 lanes: 256 cycles; written packed: 4096 B of values, 768 B of indices."""
    result = nmsim.simulate(sat(), step("os"))
    assert result.per_op("cycles")[1] == pytest.approx(256)
    assert result.columns["dram.a"][1] == 16384
    assert result.columns["dram.c"][1] == 4096
    assert result.columns["dram.metadata"][1] == 768


def test_weight_update_takes_a_lane_one_cycle_per_parameter():
    b = WorkloadBuilder("update")
    b.add("fc", "UPDATE", "optimizer", m=8192, ops_per_element=4.0, a_elements=8192, b_elements=16384, c_elements=16384)
    assert nmsim.simulate(sat(), b.build()).cycles == pytest.approx(8192 / 32)


def test_inserted_zeros():
    """Input gradient of a stride-2 convolution: 16 live rows of 64; without skipping four times the cycles."""
    b = WorkloadBuilder("bp")
    b.add("conv", "BP", m=256, m_inserted=1024, n=32, k=64, a_elements=256 * 64)
    skipping = nmsim.simulate(sat(), b.build())
    counted = nmsim.simulate(sat(skips_inserted_zeros=False), b.build())
    assert causes(skipping) == {"useful": 512, "fill_drain": 62}
    assert causes(counted) == {"useful": 512, "unskipped": 1536, "fill_drain": 62}


def test_dram_traffic_of_tiles():
    """256x256x256 in fp16, accumulators for 64 x 64 outputs, operand buffers of 16 KiB, double buffered: 8 KiB.

    A stripe of 64 x 256 needs 32 KiB and does not fit: with 64 x 64 tiles A and B pass four times, 4 * 131072 B
    each; a tile of 128 x 32 would pass A 8 times and B twice. C passes once.
    """
    buffers = {f"memories__{x}_buffer": "16 KiB" for x in "ab"} | {"memories__c_buffer": "32 KiB"}
    result = run(sat(**buffers), 256, 256, 256)
    assert (result.columns["plan.tile_m"][0], result.columns["plan.tile_n"][0]) == (64, 64)
    assert result.columns["dram.a"][0] == result.columns["dram.b"][0] == 4 * 131072
    assert result.columns["dram.c"][0] == 131072


def test_a_stripe_that_fits_is_read_once():
    """The same with room for a stripe of 64 x 256 of A (32 KiB of 64): A once, B once per stripe."""
    buffers = {"memories__a_buffer": "64 KiB", "memories__b_buffer": "16 KiB", "memories__c_buffer": "32 KiB"}
    result = run(sat(**buffers), 256, 256, 256)
    assert result.columns["dram.a"][0] == 131072
    assert result.columns["dram.b"][0] == 131072 * 256 / result.columns["plan.tile_m"][0]


def test_partial_sums_pass_once_per_fold_of_k():
    """WS over k = 4096 on 32 rows: each of 1000 x 32 sums of 4 B passes the accumulators 128 times; OS once."""
    assert run(sat(dataflows=["ws"]), 1000, 32, 4096).columns["buffer.c"][0] == 1000 * 32 * 4 * 128
    assert run(sat(), 1000, 32, 4096).columns["buffer.c"][0] == 1000 * 32 * 4


@pytest.mark.parametrize("m", [1, 16, 31, 32, 33, 48, 64, 65, 100, 200])
def test_short_stripes_do_not_hide_the_loading(m: int):
    """Against the recurrence fold by fold: the next 32 x 32 tile loads (32 cycles) behind the rows that stream.

    8 KiB of accumulators, double buffered, hold stripes of 32 rows of 32 sums; folds run k inside, then columns,
    then stripes, so that a short last stripe comes last. total = load + sum of max(stream, load) + last stream.
    """
    result = run(sat(dataflows=["ws"], stationary="value", memories__c_buffer="8 KiB"), m, 64, 4096)
    streams = [min(32, m - start) for start in range(0, m, 32) for _ in range(2 * 128)]
    total = 32 + sum(max(stream, 32) for stream in streams[:-1]) + streams[-1]
    assert result.cycles == pytest.approx(total + 32 * 1 + 32 - 2)


def test_of_equally_fast_plans_the_one_that_can_begin_early():
    """64 x 64 x 1024 at 80 B a cycle: 4 * 1024 + 62 cycles; A and B have 131072 B each, 1638 cycles. A stripe of 32
    rows needs its A and all of B first, 2458 cycles, then half of the 4158 remain: 4537, and 51 to store a tile of 4096
    B. A single tile of 64 x 64 is computed while it is loaded, and ends 102 cycles later, 4260. The latency of the
    closed form is the same. Where DRAM is no matter, the lower tile stays."""
    result = run(sat(memories__dram__bandwidth="16 GB/s"), 64, 64, 1024)
    assert result.cycles == 4 * 1024 + 62
    assert (result.columns["plan.tile_m"][0], result.columns["plan.tile_n"][0]) == (64, 64)
    assert run(sat(), 64, 64, 1024).columns["plan.tile_m"][0] == 32


def test_buffers_follow_the_operands_when_transposed():
    """IS keeps A: 256 x 1024 values of 2 B lie in an A buffer of 16 MiB whole, and are read once."""
    buffers = {"memories__a_buffer": "16 MiB", "memories__b_buffer": "64 KiB", "memories__c_buffer": "32 KiB"}
    result = run(sat(dataflows=["is"], **buffers), 256, 4096, 1024)
    assert result.columns["dram.a"][0] == 256 * 1024 * 2


def test_without_double_buffering_dram_comes_on_top():
    both = {
        d: run(sat(memories__double_buffered=d, memories__dram__bandwidth="0.5 GB/s"), 512, 512, 512)
        for d in (True, False)
    }
    on_chip = run(sat(), 512, 512, 512).cycles
    assert both[True].cycles == pytest.approx(max(on_chip, both[True].dram_bytes / 2.5))
    assert both[False].cycles == pytest.approx(on_chip + both[False].dram_bytes / 2.5)


def test_idle_arrays_lend_no_port():
    """One tile of 32x32x4096 on 4 arrays of 32 B/clk: 2 * 32 * 4096 * 2 B through one port, 16384 cycles."""
    for count in (1, 4):
        assert run(sat(count=count, operand_port="32 B/clk"), 32, 32, 4096).cycles == pytest.approx(16384 + 62)


def test_dram_bound():
    """1 x 32 x 4096: 4096 + 31 + ... cycles of work against 2 * (4096 + 131072 + 32) B at 1 B a cycle."""
    arch = nmsim.load_arch("sat_vcu1525", overrides={"memories.dram.bandwidth": "0.2 GB/s"})
    assert run(arch, 1, 32, 4096).cycles == 2 * (4096 + 131072 + 32)


def test_small_accumulators_are_refused():
    with pytest.raises(
        nmsim.NmsimError,
        match=r"smallest tile, 32 x 32 outputs of 4 bytes, 4 in turn, needs 16384 B of memories\.c_buffer",
    ):
        nmsim.load_arch("sat_vcu1525", overrides={"memories.c_buffer": "20 KiB"})


@pytest.mark.parametrize("letter", ["a", "b"])
def test_buffers_that_hold_no_group_are_refused(letter):
    """32 rows or columns of one group of 16 fp16 values: 1024 B, in half of a buffer."""
    path = f"memories.{letter}_buffer"
    assert nmsim.load_arch("sat_vcu1525", overrides={path: "2 KiB"})
    with pytest.raises(
        nmsim.NmsimError, match=rf"smallest tile of operand {letter.upper()}, 32 x 16 values of 16 bits, needs 1024 B"
    ):
        nmsim.load_arch("sat_vcu1525", overrides={path: "2047 B"})


def test_unknown_dtype_is_refused():
    with pytest.raises(nmsim.NmsimError, match=r"cannot multiply fp32 .* it has fp16"):
        nmsim.simulate(sat(), nmsim.gemm(8, 8, 8, dtype="fp32"))


def test_rates_above_one_shorten_the_reduction():
    """int8 at two multiply-accumulates a cycle: 32 steps of 64."""
    arch = nmsim.load_arch(
        "systolic_32x32",
        overrides={"array.macs_per_cycle.int8": 2, "array.dataflows": ["os"], "memories.dram.bandwidth": "1e9 TB/s"},
    )
    assert causes(nmsim.simulate(arch, nmsim.gemm(32, 32, 64, dtype="int8"))) == {"useful": 32, "fill_drain": 62}


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch):
    """Evaluating three ops at a time gives every op what it gets among the others."""
    rng = np.random.default_rng(5)
    m, n, k = rng.integers(1, 3000, (3, 20))
    work = nmsim.gemms({"m": m, "n": n, "k": k, "pattern": ["2:4", "dense"] * 10})
    whole = nmsim.simulate("sat_vcu1525", work)
    monkeypatch.setattr("nmsim.engines.analytic.CHUNK", 3)
    parts = nmsim.simulate("sat_vcu1525", work)
    np.testing.assert_array_equal(whole.per_op("cycles"), parts.per_op("cycles"))
