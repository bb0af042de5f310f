"""Power-limited clocks: a board at its cap slows down until its work fits, and how much longer an op then takes.

A product dissipates a dynamic energy E: its multiply-accumulates, the cycles in which cores are at work, and the
bytes that L2 and DRAM move. At a clock f it needs a voltage V(f), and E falls with V^2. A board that draws `static`
without work holds its cap where

    E (V/V_max)^2 / (cycles / f) <= cap - static,   that is   f (V/V_max)^2 <= (cap - static) cycles / E,

whose left side rises with f. E depends neither on the clock nor on how many cores share the work, and V never rises
as f falls. So more cores, which need fewer cycles, lower the clock by less than they gain: the energy left at the
lower voltage is spent in less time. All of E is taken to fall with V^2, DRAM's share as well, and only the cores to
slow down: L2 and DRAM keep their bandwidth.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from nmsim.arch.gpu import PowerLimit
from nmsim.arch.schema import TensorCoreArch
from nmsim.energy.account import table_of
from nmsim.engines.products import Products
from nmsim.engines.timing import total
from nmsim.workloads.optable import DTYPES

STEPS = 32
"""Points per segment of the voltage curve at which f V^2 is tabulated; between them f is linear in it."""


def throttled(arch: TensorCoreArch, energy: np.ndarray, cycles: np.ndarray, idle: np.ndarray) -> np.ndarray:
    """Cycles of the nominal clock that the cores of each op work for under the power cap [ops].

    `energy` is what the op dissipates at the highest voltage, `cycles` the cores would work for without a cap, `idle`
    those of the op in which they wait for a kernel to start and end: the cap holds on the average of both. While they
    wait for L2 or DRAM in between, the clock may fall as far as that time allows.
    """
    if arch.power is None:
        return cycles
    left = arch.power.cap - arch.energy.static
    spent = np.maximum(energy - left * idle / arch.clock, 0.0)
    heat = np.divide(left * cycles, spent, out=np.full(len(cycles), np.inf), where=spent > 0)
    slowed, clock = cycles.copy(), np.broadcast_to(arch.clock, heat.shape)
    if len(hot := np.flatnonzero(heat < clock)):  # the others keep their clock
        slowed[hot] *= np.maximum(clock[hot] / clock_at(arch.power, heat[hot]), 1.0)
    return slowed


def dynamic_energy(
    arch: TensorCoreArch,
    p: Products,
    busy: np.ndarray,
    l2: Mapping[str, np.ndarray],
    dram: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Joules [ops] at the highest voltage: multiply-accumulates, cycles of cores at work, bytes of L2 and DRAM.

    `busy` are the cycles with cores at work, summed over the cores. 0 where power has no cap.
    """
    if arch.power is None:
        return np.zeros(len(busy))
    table = table_of(arch)
    per_mac = np.zeros(len(DTYPES))
    for code in np.flatnonzero(np.bincount(p.dtype)):
        per_mac[code] = table.mac_j(DTYPES[code])
    on_chip = p.executed * per_mac[p.dtype] + busy * arch.power.per_cycle(p.dtype)
    return on_chip + total(l2) * table.sram_byte(arch.memories.l2.size) + total(dram) * table.dram_byte


def voltage(arch: TensorCoreArch, cycles: np.ndarray, slowed: np.ndarray) -> np.ndarray:
    """The voltage [ops], relative to the highest, at which cores work for `slowed` cycles of the nominal clock instead
    of `cycles`."""
    if arch.power is None:
        return np.ones(len(cycles))
    clocks, volts = np.array(arch.power.curve).T
    return np.interp(arch.clock * cycles / slowed, clocks, volts) / volts[-1]


def clock_at(limit: PowerLimit, heat: np.ndarray) -> np.ndarray:
    """The clock f at which f (V/V_max)^2 is `heat` [ops]; below the curve the voltage stays at its lowest.

    Linear between tabulated points, the first of which is 0; beyond the last the voltage stays at its highest.
    """
    heats, clocks = _tabulated(tuple(limit.curve))
    return np.interp(heat, heats, clocks) + np.maximum(heat - heats[-1], 0.0)


@lru_cache(maxsize=64)
def _tabulated(curve: tuple[tuple[float, float], ...]) -> tuple[np.ndarray, np.ndarray]:
    """f (V/V_max)^2, ascending, and the clocks f."""
    clocks, volts = np.array(curve).T
    fine = np.interp(np.linspace(0, len(clocks) - 1, STEPS * (len(clocks) - 1) + 1), np.arange(len(clocks)), clocks)
    fine = np.append(0.0, fine)
    return fine * (np.interp(fine, clocks, volts) / volts[-1]) ** 2, fine
