"""Energy of ops: actions times energy per action, plus static power times time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmsim.arch.schema import AnyArch, SystolicArch, TensorCoreArch
from nmsim.energy.table import ActionTable, action_table
from nmsim.workloads.optable import DTYPES

COMPONENTS = {
    "mac": "multiply-accumulates carried out, unskipped zeros included, padding not",
    "cores": "cycles of a GPU's cores at work besides the multiplications, where its file has the energy of one",
    "buffers": "on-chip memory between DRAM and the units, indices included",
    "dram": "off-chip memory",
    "vector": "element-wise arithmetic and weight updates",
    "reduction": "comparisons of mask searches",
    "static": "power drawn whether the machine works or not",
}


@dataclass(frozen=True)
class Actions:
    """What the ops did, arrays [ops]: multiply-accumulates and the code of their data type, bytes through the buffer
    of each operand (`a`, `b`, `c`, `metadata`), DRAM bytes, element-wise operations, comparisons, seconds, cycles with
    cores of a GPU at work (summed over the cores), and the voltage relative to that of the energies per action."""

    macs: np.ndarray
    dtype: np.ndarray
    buffer_bytes: dict[str, np.ndarray]
    dram_bytes: np.ndarray
    lane_ops: np.ndarray
    compares: np.ndarray
    seconds: np.ndarray
    busy: np.ndarray
    voltage: np.ndarray


def table_of(arch: AnyArch) -> ActionTable:
    """The energy per action of a machine."""
    return action_table(arch.energy.node, arch.energy.dram)


def energy(arch: AnyArch, actions: Actions) -> dict[str, np.ndarray]:
    """Joules per component of COMPONENTS, arrays [ops]."""
    table = table_of(arch)
    used = {code: DTYPES[code] for code in np.unique(actions.dtype[actions.macs > 0])}
    per_mac = np.zeros(len(DTYPES))
    for code, name in used.items():
        per_mac[code] = table.mac_j(name)
    limit = arch.power if isinstance(arch, TensorCoreArch) else None
    per_cycle = limit.per_cycle(actions.dtype) if limit is not None else 0.0
    square = actions.voltage**2
    buffers = sum(actions.buffer_bytes[x] * j for x, j in _per_buffer_byte(arch, table).items())
    return {
        "mac": actions.macs * per_mac[actions.dtype] * square,
        "cores": actions.busy * per_cycle * square,
        "buffers": np.asarray(buffers * square),
        "dram": actions.dram_bytes * table.dram_byte * square,
        "vector": actions.lane_ops * table.vector_op,
        "reduction": actions.compares * table.compare,
        "static": actions.seconds * arch.energy.static,
    }


def assumptions(arch: AnyArch, dtypes: set[str]) -> tuple[str, ...]:
    """What the energies of a workload with these data types rest on that no source vouches for, a line each."""
    other = [f"energy, mac {name}:" for name in DTYPES if name not in dtypes]
    return tuple(line for line in table_of(arch).assumptions if not line.startswith(tuple(other)))


def _per_buffer_byte(arch: AnyArch, table: ActionTable) -> dict[str, float]:
    """Joules per byte read from the memory next to the units, by operand."""
    if isinstance(arch, SystolicArch):
        sizes = {"a": arch.memories.a_buffer, "b": arch.memories.b_buffer, "c": arch.memories.c_buffer}
        sizes["metadata"] = sizes["b"]
    else:
        sizes = dict.fromkeys(("a", "b", "c", "metadata"), arch.memories.l2.size)
    return {name: table.sram_byte(size) for name, size in sizes.items()}
