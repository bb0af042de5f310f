"""Energy of ops: counts of actions times energy per action, plus static power times time.

    E[op] = sum over actions of count[op] x joules per action x (V/V_max)^2 + static power x seconds[op]

A count has a key (component, action, stream): the stream is the operand it belongs to (a, b, c, metadata, psum) or
empty. The voltage is that of a GPU whose clock is lowered; elsewhere it is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from nmsim.arch.schema import AnyArch, SystolicArch, TensorCoreArch
from nmsim.energy.area import area_mm2
from nmsim.energy.table import EnergyTable, PerAction, energy_table, extrapolated

COMPONENTS = {
    "mac": "multiply-accumulates carried out, unskipped zeros included; units that padding leaves without data",
    "select": "multiplexers that pick the partner of each kept value out of its group",
    "registers": "latches of operands, indices and sums in the units",
    "noc": "wires between the buffers and the units",
    "cores": "cycles of a GPU's cores at work besides the multiplications",
    "buffers": "on-chip memory between DRAM and the units, indices included",
    "dram": "off-chip memory",
    "stream": "of a GPU: what moves an element-wise operand between DRAM and registers, beyond DRAM itself",
    "vector": "element-wise arithmetic, and widening of operands",
    "update": "weight updates",
    "reduction": "comparisons of mask searches",
    "static": "power drawn whether the machine works or not",
}

Key = tuple[str, str, str]
STATIC: Key = ("static", "second", "")
Counts = Mapping[Key, np.ndarray]

SCALED = ("mac", "cores", "buffers", "dram")
"""Components whose energy falls with the square of the voltage of a GPU's cores, as its power limit counts them."""

STATIC_UNCERTAINTY = {"source": 0.1, "calibrated": 0.1, "assumed": 0.5, "override": 0.1}
"""Half-width of the 90 % interval of a machine's static power, by how it is known; assumed."""
CORE_UNCERTAINTY = 0.25
"""The same of the fitted energy of a GPU core's cycle; assumed."""
SIXTEEN_BIT = ("fp16", "bf16")


@dataclass(frozen=True, eq=False)
class Account:
    """The actions of every op [ops], executed once, with the energy of each action."""

    size: int
    counts: Counts
    costs: Mapping[Key, PerAction]
    voltage: np.ndarray | float = 1.0
    machine: AnyArch | None = None

    @cached_property
    def area_mm2(self) -> float:
        """Area of the machine, NaN where there is none; found when asked for, since it reads all of the machine."""
        return float("nan") if self.machine is None else area_mm2(self.machine)

    def joules(self, key: Key) -> np.ndarray:
        """Energy [ops] of one kind of action."""
        spent = self.counts[key] * self.costs[key].joules
        return spent * np.square(self.voltage) if key[0] in SCALED else spent

    def by_component(self) -> dict[str, np.ndarray]:
        """Joules [ops] of every component of COMPONENTS, in its order."""
        found = {name: np.zeros(self.size) for name in COMPONENTS}
        for key in self.counts:
            found[key[0]] += self.joules(key)
        return found

    def totals(self, repeat: np.ndarray) -> dict[Key, float]:
        """Joules of each kind of action of all ops, each as often as it repeats."""
        return {key: float(self.joules(key) @ repeat) for key in self.counts}

    def record(self, repeat: np.ndarray) -> dict[str, Any]:
        """Plain data: a term for each action with its count, joules, and how their uncertainty is drawn."""
        terms = [
            {
                "component": key[0], "action": key[1], "stream": key[2], "count": float(self.counts[key] @ repeat),
                "joules_per_action": self.costs[key].joules, "uncertainty": self.costs[key].uncertainty,
                "group": self.costs[key].group, "sigma": self.costs[key].sigma, "joules": joules,
            }
            for key, joules in self.totals(repeat).items()
        ]  # fmt: skip
        return {"terms": terms}


def taking(account: Account, rows: np.ndarray, seconds: np.ndarray) -> Account:
    """The account of these rows where they take `seconds` [rows] instead; what they do is the same."""
    counts = {key: values[rows] for key, values in account.counts.items()} | {STATIC: seconds}
    voltage = account.voltage if np.ndim(account.voltage) == 0 else np.asarray(account.voltage)[rows]
    return replace(account, size=len(rows), counts=counts, voltage=voltage)


def table_of(arch: AnyArch) -> EnergyTable:
    """The energy per action of a machine."""
    return energy_table(arch.energy.node, arch.energy.dram, table_name(arch))


def table_name(arch: AnyArch) -> str:
    """The table that the machine's file names, else the one for its kind."""
    return arch.energy.table or ("gpu" if isinstance(arch, TensorCoreArch) else "asic")


def account(arch: AnyArch, size: int, counts: Counts, voltage: np.ndarray | float = 1.0) -> Account:
    """The counts [size] with what each action costs on `arch`; counts that are all zero are dropped.

    Raises UnsupportedError for an action that the machine's table has no value for.
    """
    used = {key: values for key, values in counts.items() if values.any()}
    table = table_of(arch)
    return Account(size, used, {key: cost(arch, table, key) for key in used}, voltage, arch)


def cost(arch: AnyArch, table: EnergyTable, key: Key) -> PerAction:
    """The energy of one action of a machine."""
    component, action, stream = key
    if component == "static":
        known = arch.provenance.get(("energy", "static"))
        return PerAction(arch.energy.static, STATIC_UNCERTAINTY[known.kind if known else "assumed"], "static")
    if component == "cores":
        return _core_cycle(cast(TensorCoreArch, arch), table, action)
    if component == "mac":
        how, _, dtype = action.rpartition(" ")
        table.mac_j(dtype)
        full = table.values["mac", dtype]
        return replace(full, joules=full.joules * {"": 1.0, "gated": table.gated_share, "skipped": 0.0}[how])
    if component == "buffers":
        return _buffer_bit(arch, table, action, stream)
    if component == "stream":
        whole, device = table.value("stream", "bit"), table.value("dram", "read")
        return PerAction(max(whole.joules - device.joules, 0.0), whole.uncertainty, "stream")
    return table.value(component, action)


def _core_cycle(arch: TensorCoreArch, table: EnergyTable, dtype: str) -> PerAction:
    """Joules of a cycle of one core at work on products of a data type: those of the machine's file, else those that
    its 16-bit rate stands for."""
    if arch.power is not None:
        return PerAction(arch.power.core_cycle_of.get(dtype, arch.power.core_cycle), CORE_UNCERTAINTY, "cores")
    slot, rates = table.value("cores", "slot"), arch.cores.macs_per_cycle
    rate = max((rates[name] for name in SIXTEEN_BIT if name in rates), default=max(rates.values()))
    return replace(slot, joules=slot.joules * rate)


def _buffer_bit(arch: AnyArch, table: EnergyTable, action: str, stream: str) -> PerAction:
    """Joules per bit of the memory beside the units that holds a stream."""
    if ("l2", "bit") in table.values:
        return table.values["l2", "bit"]
    size, width = buffer_of(arch, stream)
    access = table.sram.read_j if action == "read" else table.sram.write_j
    return PerAction(access(size, width) / width, table.sram_uncertainty, "sram")


def buffer_of(arch: AnyArch, stream: str) -> tuple[float, float]:
    """Size in bytes and width of an access in bits of the memory that holds a stream.

    A row or column of a systolic array is served at once, 16 bits a unit, 32 of sums, within 64 and 1024 bits.
    """
    if isinstance(arch, SystolicArch):
        m, array = arch.memories, arch.array
        size, bits = {
            "a": (m.a_buffer, 16 * array.rows), "c": (m.c_buffer, 32 * array.columns),
            "psum": (m.c_buffer, 32 * array.columns),
        }.get(stream, (m.b_buffer, 16 * array.columns))  # fmt: skip
        return size, np.clip(bits, 64.0, 1024.0)
    return arch.memories.l2.size, 64.0


def assumptions(arch: AnyArch, dtypes: set[str]) -> tuple[str, ...]:
    """What the energies of a workload with these data types rest on that no source vouches for, a line each."""
    table = table_of(arch)
    known = [action for component, action in table.values if component == "mac"]
    other = tuple(f"energy, mac {name}:" for name in known if name not in dtypes)
    if isinstance(arch, TensorCoreArch) and arch.power is not None:
        other = (*other, "energy, cores slot:")
    lines = [line for line in table.assumptions if not line.startswith(other)]
    if isinstance(arch, SystolicArch):
        sizes = {stream: buffer_of(arch, stream)[0] for stream in ("a", "b", "c")}
        if any(map(extrapolated, sizes.values())):
            lines.append("energy, sram: buffers beyond 8 KiB to 4 MiB are extrapolated")
    return tuple(lines)
