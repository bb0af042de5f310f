"""The event engine: it executes the analytic plan, keeps to its bounds, differs by little, and says why."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import nmsim
from nmsim import library
from nmsim.arch.schema import AnyArch, CpuArch, SystolicArch
from nmsim.engines.event.engine import build, simulate
from nmsim.engines.event.others import in_whole_cycles
from nmsim.engines.event.result import EventResult
from nmsim.engines.event.stream import Piece
from nmsim.engines.tiling import Turns, side_by_side
from nmsim.errors import UnsupportedError
from nmsim.workloads.optable import Workload
from tests.engines.test_laws import random_products


@cache
def machine(name: str) -> AnyArch:
    return nmsim.load_arch(name)


MACHINES = [n for n in library.names("arch_configs") if not isinstance(machine(n), CpuArch)]


@cache
def step(name: str = "resnet18_64_s7", batch: int = 3) -> Workload:
    return nmsim.load_workload(name, batch=batch).training("bdwp", "2:8")


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("work", ["products", "step"])
def test_the_streams_are_the_analytic_plan(name: str, work: str):
    """Law 7: the same multiply-accumulates and the same bytes to and from DRAM, op by op."""
    planned = nmsim.simulate(machine(name), random_products(5) if work == "products" else step())
    streams = build(machine(name), planned)
    gemms = planned.workload.gemms
    done = np.array([s.total("work") for s in streams], float)
    np.testing.assert_array_equal(done[gemms], np.round(planned.columns["macs_executed"][gemms]))
    moved = np.array([s.total("load") + s.total("store") for s in streams], float)
    np.testing.assert_allclose(moved, planned.per_op("dram_bytes"), rtol=0, atol=3)


@pytest.mark.parametrize("name", MACHINES)
def test_latency_keeps_to_the_bounds(name: str):
    """Law 2, for the whole run: no less than the units or DRAM need."""
    result = nmsim.simulate(machine(name), step(), engine="event")
    dram = machine(name).memories.dram
    assert result.latency_s >= result.dram_bytes / (dram.bandwidth * dram.efficiency) * (1 - 1e-3)
    assert 0 < result.utilization <= 1
    causes = np.array([x for c, x in result.columns.items() if c.startswith("cause.")])
    assert (causes >= -1e-6).all()
    np.testing.assert_allclose(causes.sum(axis=0), result.columns["cycles"], rtol=1e-9, atol=1e-6)
    assert result.breakdown("component")["energy_j"]["static"] == pytest.approx(
        machine(name).energy.static * result.latency_s
    )


@pytest.mark.parametrize("overlap", [False, True])
def test_skipping_changes_no_op(overlap: bool):
    """The steady state of real ops: every op takes the same cycles as in the full simulation."""
    work = nmsim.load_workload("resnet9", batch=16).training("bdwp", "2:8")
    fast = simulate(machine("sat_vcu1525"), work, overlap=overlap)
    full = simulate(machine("sat_vcu1525"), work, overlap=overlap, extrapolate=False)
    np.testing.assert_array_equal(fast.columns["cycles"], full.columns["cycles"])
    assert fast.simulated < full.simulated


def test_repeats_and_batch_cost_nothing():
    """Products that differ in their number only are simulated with the same pieces, give or take a few."""
    few, many = (
        simulate(machine("systolic_32x32"), nmsim.gemms({"m": [512 * b], "n": [256], "k": [512]})) for b in (32, 512)
    )
    assert many.cycles > 15 * few.cycles
    assert many.simulated <= few.simulated + 10
    once, some, often = (
        simulate(
            machine("systolic_32x32"), nmsim.gemms({"m": [512] * t, "n": [256] * t, "k": [512] * t}), overlap=False
        )
        for t in (1, 10, 50)
    )
    assert 50 * 512**3 / 2 / 1024 < often.cycles < 50 * once.cycles  # weights of all but the first are fetched ahead
    assert often.simulated == some.simulated < 10 * once.simulated


def test_a_product_by_hand():
    """1024 x 32 x 64 fp16 on 32 x 32 units, output stationary, 1 GHz, 23.04 B a cycle.

    The array takes 32 folds of 64 cycles and 62 to fill, 2110 in all; DRAM moves (131072 + 4096 + 65536) B in 8711
    cycles, which binds: the analytic engine says 8711. The event engine adds what the last piece computes and
    stores after the last load, and the cycles in which DRAM rounds up."""
    arch = nmsim.load_arch("systolic_32x32", overrides={"array.dataflows": ["os"]})
    analytic, event = (nmsim.simulate(arch, nmsim.gemm(1024, 32, 64), engine=e) for e in ("analytic", "event"))
    assert analytic.cycles == pytest.approx(200704 / 23.04)
    assert 8711 < event.cycles < 8711 * 1.03


def test_overlap_is_no_slower_and_says_so():
    serial, side = (simulate(machine("sat_vcu1525"), step("resnet18", 8), overlap=x) for x in (False, True))
    assert side.cycles < serial.cycles
    parts = side.by_reason()
    analytic = float(side.analytic_cycles @ side.workload["repeat"])
    assert sum(parts.values()) == pytest.approx(analytic / side.cycles - 1, rel=1e-9)
    assert max(parts, key=lambda x: abs(parts[x])) == "overlap"


@pytest.mark.parametrize("name", MACHINES)
def test_the_analytic_engine_is_close(name: str):
    """Law 7, op after op as the analytic engine has it, a batch of 32: within 3 % on a training step."""
    result = simulate(machine(name), step("resnet18", 32), overlap=False)
    analytic = float(result.analytic_cycles @ result.workload["repeat"])
    assert analytic == pytest.approx(result.cycles, rel=0.03), result.by_reason()


@pytest.mark.parametrize(("model", "recipe"), [("vit_cifar", "dense"), ("vit_cifar", "bdwp"), ("deit_s", "bdwp")])
def test_weight_gradients_on_several_arrays_overlap_their_loads(model: str, recipe: str):
    """Weight gradients with few rows and a long k on eight arrays: all of B before the first of four stripes would
    cost 5 % of a step. Tiles that arrays work on side by side, in stripes that begin early, keep within 3 %."""
    work = nmsim.load_workload(model, batch=32)
    work = work.training() if recipe == "dense" else work.training(recipe, "2:8")
    result = simulate(machine("tpu_v4_like"), work, overlap=False)
    analytic = float(result.analytic_cycles @ result.workload["repeat"])
    assert analytic == pytest.approx(result.cycles, rel=0.03), result.by_reason()


def test_arrays_without_work_in_a_tile_share_the_next_one():
    """Eight arrays of 128 x 128, stationary: a tile of 512 columns has 4 folds, so that two tiles above each other are
    worked on side by side; one of 1024 has 8. B that does not stay on chip serves one tile alone."""
    one, tile_m = np.ones(3), np.full(3, 128.0)
    tile_n, keep_b = np.array([512.0, 1024.0, 512.0]), np.array([True, True, False])
    found = side_by_side(machine("tpu_v4_like"), Turns(one, one), tile_m, tile_n, keep_b, True)
    assert found.tolist() == [2, 1, 1]


def test_pieces_of_lanes_take_whole_cycles_of_dram():
    """8192 B in and 8192 B out at 100 B a cycle, 81.92 cycles each way: 10 pieces of 8 cycles and 800 B, and a last
    of 192 B. In 32 pieces of 256 B each transfer would take 3 cycles for 2.56, and 15 % of the bandwidth be lost."""
    whole = Piece(8192, 100, 8192, 4096)
    runs = in_whole_cycles(whole, 100.0)
    assert [(run.pieces[0].load, run.pieces[0].store, run.times) for run in runs] == [(800, 800, 10), (192, 192, 1)]
    assert tuple(sum(run.times * run.pieces[0][i] for run in runs) for i in range(4)) == whole


@cache
def inference(model: str) -> Workload:
    return nmsim.load_workload(model, batch=1)


@pytest.mark.parametrize("name", [n for n in MACHINES if isinstance(machine(n), SystolicArch)])
def test_the_engines_are_no_further_apart_than_a_tenth(name: str):
    """Law 7, all models at batch 1, where ops are shortest and a first load counts most: within 10 %, and the reasons
    sum to the difference. All of it: bench_agreement."""
    for model in library.names("workloads"):
        result = simulate(machine(name), inference(model), overlap=False)
        difference = float(result.analytic_cycles @ result.workload["repeat"]) / result.cycles - 1
        assert abs(difference) < 0.10, (model, result.by_reason())
        assert sum(result.by_reason().values()) == pytest.approx(difference, abs=1e-9)


def test_a_budget_ends_with_what_was_reached():
    work = step()
    result = nmsim.simulate("sat_vcu1525", work, engine="event", max_tiles=500)
    assert isinstance(result, EventResult)
    assert result.partial
    assert result.engine == "event (partial)"
    assert 0 < len(result.workload) < len(work)
    assert result.simulated <= 500
    whole = nmsim.simulate("sat_vcu1525", work, engine="event")
    assert not whole.partial
    assert result.cycles < whole.cycles
    with pytest.raises(UnsupportedError, match="max_tiles=3 ends within the first ops"):
        nmsim.simulate("sat_vcu1525", work, engine="event", max_tiles=3)


def test_refusals_name_op_sizes_and_what_would_fit():
    arch = nmsim.load_arch("systolic_32x32", overrides={"memories.a_buffer": "2 KiB"})
    with pytest.raises(
        UnsupportedError, match=r"tile of \d+ rows of operand A.*takes \d+ B.*room for 1024 B; 512 rows would"
    ):
        nmsim.simulate(arch, nmsim.gemm(8192, 32, 4096), engine="event")
    inline = nmsim.load_arch("systolic_32x32", overrides={"sparsity.weights": "inline"})
    with pytest.raises(UnsupportedError, match=r"FF: operand B .* k = \d+.*no reduction_engine on its path; give it"):
        nmsim.simulate(inline, step(), engine="event")
    with pytest.raises(UnsupportedError, match="use analytic"):
        nmsim.simulate("epyc_zen4_2core", nmsim.gemm(8, 8, 8, dtype="fp32"), engine="event")
    with pytest.raises(UnsupportedError, match="analytic engine has no option 'max_tiles'"):
        nmsim.simulate("sat_vcu1525", nmsim.gemm(8, 8, 8), max_tiles=3)
