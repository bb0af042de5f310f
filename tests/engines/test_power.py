"""Power-limited clocks against a case counted by hand, and the laws of a board at its cap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nmsim
from nmsim import library
from nmsim.arch.gpu import PowerLimit
from nmsim.arch.schema import TensorCoreArch
from nmsim.engines.power import clock_at
from nmsim.errors import SpecError

CURVE = [["500 MHz", 0.7], ["1000 MHz", 1.0]]


def gpu(**paths: Any) -> TensorCoreArch:
    """An A100 at 1 GHz with one kernel, nothing but products and cycles to spend energy on, 50 W without work."""
    settings = {
        "clock": "1 GHz", "power.curve": CURVE, "power.core_cycle": "2 nJ", "power.cap": "1 kW",
        "energy.static": "50 W",
        "kernels.tiles": [[128, 128]], "kernels.split_k": [1], "kernels.exposed_feed": 0, "launch.floor": "0 s",
        "memories.dram.bandwidth": "1e9 TB/s", "memories.l2.bandwidth": "1e9 TB/s", "kernels.fill_cycles": 1,
    } | {key.replace("__", "."): value for key, value in paths.items()}  # fmt: skip
    return nmsim.load_arch("a100_sxm4_80gb", overrides=settings)


def limit_of(name: str) -> PowerLimit | None:
    return getattr(nmsim.load_arch(name), "power", None)


WORK = nmsim.gemm(128 * 108, 128, 65536)


def test_the_clock_falls_until_the_work_fits():
    """108 cores of 2 nJ a cycle and 1024 products of E pJ at 1 GHz draw 216 W + 110.6 W E. A cap that leaves half of it
    holds where f V^2 = 1/2; between 0.5 and 1 GHz V = 0.4 + 0.6 f, so f (0.4 + 0.6 f)^2 = 0.5: f = 0.7366."""
    free = nmsim.simulate(gpu(), WORK)
    dynamic = free.energy_j / free.latency_s - 50
    held = nmsim.simulate(gpu(power__cap=f"{50 + dynamic / 2} W"), WORK)
    f = held.columns["cycles"][0] / free.columns["cycles"][0]
    root = next(x.real for x in np.roots([0.36, 0.48, 0.16, -0.5]) if abs(x.imag) < 1e-9)
    assert f == pytest.approx(1 / root, rel=2e-3)
    assert held.columns["cause.power"][0] == pytest.approx(held.cycles - free.cycles)


def test_below_the_cap_nothing_changes():
    """Power is no cause where there is enough of it."""
    assert nmsim.simulate(gpu(), WORK).columns["cause.power"][0] == 0


def test_waiting_for_dram_leaves_power_for_the_rest():
    """A product that waits for DRAM twice as long as it computes gives the cores that time: they slow down unseen."""
    free = nmsim.simulate(gpu(memories__dram__bandwidth="1 GB/s"), WORK)
    held = nmsim.simulate(gpu(memories__dram__bandwidth="1 GB/s", power__cap="150 W"), WORK)
    assert held.latency_s == pytest.approx(free.latency_s)


def test_cores_that_wait_spend_nothing():
    """A kernel that waits 100 cycles in each of 2048 steps takes longer for the same energy, static power aside."""
    work = nmsim.gemm(128 * 108, 128, 65536, "2:4", "A")
    fast, slow = (nmsim.simulate(gpu(kernels__sparse__step_cycles=x), work) for x in (0, 100))
    assert slow.cycles - fast.cycles == pytest.approx(100 * 2048)
    assert [r.energy_j - 50 * r.latency_s for r in (slow, fast)] == pytest.approx(
        [fast.energy_j - 50 * fast.latency_s] * 2
    )


@given(st.lists(st.floats(1e6, 1e10), min_size=2, max_size=20))
def test_more_heat_is_a_higher_clock_and_less_than_in_proportion(heats: list[float]):
    """f rises with f V^2, and f / (f V^2) falls: what lets more cores stay no slower at a cap."""
    limit = PowerLimit.model_construct(cap=1.0, core_cycle=0.0, curve=[(5e8, 0.7), (8e8, 0.75), (1e9, 1.0)])
    heat = np.sort(heats)
    clock = clock_at(limit, heat)
    assert (np.diff(clock) >= 0).all()
    assert (np.diff(clock / heat) <= 1e-9).all()


@pytest.mark.parametrize("path", ["cores.count", "cores.shared_memory_bandwidth"])
@given(share=st.floats(0.05, 1.2), k=st.integers(64, 20000), m=st.integers(64, 9000))
def test_more_units_are_never_slower_at_a_cap(path: str, share: float, k: int, m: int):
    """Law 4 where power binds: the same energy in fewer cycles lowers the clock by less than it saves."""
    work = nmsim.gemm(m, 4096, k)
    few = gpu(power__cap=f"{50 + 400 * share} W")
    more = {"cores.count": 150, "cores.shared_memory_bandwidth": "200 B/clk"}[path]
    many = gpu(power__cap=f"{50 + 400 * share} W", **{path: more})
    assert nmsim.simulate(many, work).latency_s <= nmsim.simulate(few, work).latency_s * (1 + 1e-12)


@pytest.mark.parametrize("name", [n for n in library.names("arch_configs") if limit_of(n) is not None])
def test_no_product_draws_more_than_the_cap(name: str):
    """What a result says of energy and time is what the cap allows, from tiny to large products, dense and sparse."""
    rng = np.random.default_rng(5)
    m, n, k = (np.round(2 ** rng.uniform(0, 14, 300)).astype(int) for _ in range(3))
    patterns = ["2:4" if sparse else "dense" for sparse in rng.random(300) < 0.5]
    result = nmsim.simulate(name, nmsim.gemms({"m": m, "n": n, "k": k, "pattern": patterns}))
    cap = limit_of(name).cap
    assert (result.per_op("energy_j") <= cap * result.per_op("latency_s") * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", ["a100_sxm4_80gb", "h100_sxm5", "h200_sxm"])
@pytest.mark.parametrize("share", [1.0, 0.8])
def test_the_clock_and_the_account_see_the_same_energy(name: str, share: float):
    """A large product that is slowed by power and waits for nothing else draws its cap by the energies of its account:
    what the clock model spends and what is reported come from one table. The clock model credits what is left over
    while cores start and end at the lower voltage, so that a part (1 - V^2) of that time's share is not used."""
    cap = limit_of(name).cap * share
    arch = nmsim.load_arch(name, {"power.cap": f"{cap} W"})
    for size in (4096, 8192):
        held = nmsim.simulate(arch, nmsim.gemm(size, size, size))
        assert held.columns["cause.power"][0] > 0
        idle = (held.columns["cause.launch"] + held.columns["cause.fill_drain"])[0] / held.cycles
        unused = (cap - arch.energy.static) * idle * (1 - np.square(held.account.voltage)[0])
        assert held.power_w == pytest.approx(cap - unused, rel=2e-3)


def test_sparse_gains_least_where_power_and_feed_bind():
    """2:4 at 8192^3: an H100 is fed and powered for little more than its dense rate; an H20, whose cores are a
    quarter as fast under the same shared memory, is not short of either."""
    gain = {}
    for name in ("h100_sxm5", "h20"):
        dense, sparse = (nmsim.simulate(name, nmsim.gemm(8192, 8192, 8192, x, "A")) for x in ("dense", "2:4"))
        gain[name] = sparse.speedup_over(dense)
    assert 1.1 < gain["h100_sxm5"] < 1.3
    assert 1.9 < gain["h20"] < 2.0


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("power.cap", "40 W", "does not exceed energy.static"),
        ("power.curve", [["1 GHz", 0.8], ["1 GHz", 1.0]], "clocks must rise"),
        ("power.curve", [["1 GHz", 0.8], ["2 GHz", 0.7]], "voltages not fall"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(path: str, value: Any, message: str):
    with pytest.raises(SpecError, match=message):
        gpu(**{path: value})
