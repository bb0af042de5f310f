"""Power over time of the event engine: an op counted by hand, and the laws that every run obeys."""

from __future__ import annotations

import numpy as np
import pytest

import nmsim
from nmsim import library
from nmsim.engines.event.power import DRAM, phase_of
from nmsim.engines.event.spans import COMPUTE, LOAD, STORE

MACHINES = [n for n in library.names("arch_configs") if nmsim.load_arch(n).kind in ("systolic", "tensorcore")]
DTYPES = ("fp16", "bf16", "int8", "fp32")


def dtype_of(arch):
    rates = (arch.array if arch.kind == "systolic" else arch.cores).macs_per_cycle
    return next(d for d in DTYPES if d in rates)


def spent(result):
    """Joules of every op, executed once, by component."""
    account = result.account
    return {key: float(account.joules(key).sum()) for key in account.counts}


def test_one_tile_by_hand():
    """A product of one 32 x 32 tile is loaded, computed and stored one after another, with nothing beside it: DRAM
    works for the loads with the energy of A, B and what is written into their buffers, then the array for all of its
    cycles, then DRAM with C; power is each energy over its seconds, on 1 W of static power."""
    arch = nmsim.load_arch("systolic_32x32", {"array.dataflows": ["os"]})
    result = nmsim.simulate(arch, nmsim.gemm(32, 32, 32), engine="event", extrapolate=False)
    frame, found, j = result.timeline(), result.power(), spent(result)
    load = j["dram", "read", "a"] + j["dram", "read", "b"] + j["buffers", "write", "a"] + j["buffers", "write", "b"]
    store = j["dram", "write", "c"] + j["buffers", "read", "c"]
    rest = sum(j.values()) - load - store - j["static", "second", ""]
    for phase, unit, energy in (("load", DRAM, load), ("compute", "array", rest), ("store", DRAM, store)):
        spans = frame[frame["phase"] == phase]
        seconds = (spans["end_cycle"] - spans["start_cycle"]).sum() / arch.clock
        last = np.searchsorted(found.edges_s, spans["end_cycle"].max() / arch.clock) - 1
        assert found.watts[unit][last] == pytest.approx(energy / seconds, rel=0.02), phase
    assert found.energy_j == pytest.approx(result.energy_j, rel=1e-12)
    assert found.static_w == 1.0


@pytest.mark.parametrize("name", MACHINES)
def test_the_energy_is_that_of_the_account_on_every_machine(name):
    """Whether all spans are there or equal periods are one, each op once; the average is energy over time, no unit
    draws less than nothing."""
    arch = nmsim.load_arch(name)
    work = nmsim.load_workload("resnet9", batch=2).training("bdwp", "2:4", dtype=dtype_of(arch), steps=3)
    result = nmsim.simulate(arch, work, engine="event")
    once = sum(spent(result).values())
    for limit in (None, 300):
        found = result.power(limit)
        assert found.energy_j == pytest.approx(once, rel=1e-9)
        assert found.edges_s[0] == 0
        assert found.edges_s[-1] == pytest.approx(result.columns["cycles"].sum() / arch.clock)
        assert all((watts >= 0).all() for watts in found.watts.values())
        assert found.average_w <= found.peak_w
    assert found.average_w == pytest.approx(once / found.edges_s[-1])


def test_random_products_conserve_their_energy():
    rng = np.random.default_rng(3)
    for name in ("sat_vcu1525", "a100_sxm4_80gb"):
        m, n, k = rng.integers(1, 900, (3, 20))
        work = nmsim.gemms({"m": m, "n": n, "k": k, "pattern": rng.choice(["dense", "2:4", "1:8"], 20)})
        result = nmsim.simulate(name, work, engine="event")
        assert result.power().energy_j == pytest.approx(sum(spent(result).values()), rel=1e-9)


def test_dram_draws_no_more_than_its_bandwidth_allows():
    """Bits of the full bandwidth at the energy of a bit read or written, and of the buffer access beside it, as the
    mean of a hundredth of the run: a transfer is spread over its time, in which two may both seem at full speed."""
    result = nmsim.simulate("sat_vcu1525", nmsim.load_workload("resnet9", batch=4).training("bdwp", "2:8"), "event")
    bit = result.account.costs["dram", "read", "a"].joules
    buffer = max(c.joules for key, c in result.account.costs.items() if key[0] == "buffers")
    most = 8 * result.arch.memories.dram.bandwidth * (bit + buffer)
    assert most * 0.5 < result.power().binned(100).watts[DRAM].max() <= most * 1.01


def test_a_board_at_its_cap_is_at_its_cap():
    """A long product that the power limit holds: the cap is the average of the op, and the trace says so."""
    result = nmsim.simulate("h100_sxm5", nmsim.gemm(8192, 8192, 8192), engine="event")
    found = result.power()
    assert found.cap_w == 700
    assert found.average_w == pytest.approx(700, rel=0.02)
    assert found.over(1e9) == 0


@pytest.mark.parametrize(
    ("key", "phase"),
    [
        (("dram", "read", "a"), LOAD), (("dram", "write", "metadata"), STORE), (("stream", "bit", "c"), STORE),
        (("stream", "bit", "a"), LOAD), (("buffers", "write", "metadata"), LOAD), (("buffers", "read", "c"), STORE),
        (("buffers", "write", "psum"), COMPUTE), (("buffers", "read", "a"), COMPUTE), (("mac", "fp16", ""), COMPUTE),
    ],
)  # fmt: skip
def test_every_action_happens_in_a_phase(key, phase):
    assert phase_of(key) == phase
