"""Area of a machine from its parts, and the resources it takes of an FPGA.

    unit (dense)   multiplier + adder + latches of two values and a sum
    unit (n:m)     and a multiplexer of (m - 1) w two-way switches, an index and a group of m values to pick from
    SORE           lanes x (m values with indices, m comparators)
    WUVE, vector   lanes x (FP32 multiplier, adder, three latched values)
    buffers        bit cells over the share of a macro that they fill

Logic shrinks with the transistor density of its node, buffers with their cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil, log2, nan
from pathlib import Path
from typing import Any

import numpy as np

from nmsim.arch.provenance import split
from nmsim.arch.schema import AnyArch, SystolicArch
from nmsim.energy.scaling import log_interpolated
from nmsim.errors import SpecError, UnsupportedError, unknown
from nmsim.specfile import read
from nmsim.units import parse_quantity
from nmsim.workloads.optable import DTYPE_BITS

_FILE = Path(__file__).with_name("area.yaml")
SUM_BITS = 32
FPGA = "fpga_"
"""How the names of the energy tables of FPGAs begin; what follows names the part."""
PARTS_OF_MAC = {
    "fp32": ("fp32 multiply", "fp32 add"), "tf32": ("fp16 multiply", "fp32 add"), "fp16": ("fp16 multiply", "fp32 add"),
    "bf16": ("bf16 multiply", "fp32 add"), "fp8": ("int8 multiply", "fp32 add"), "int8": ("int8 multiply", "int32 add"),
    "int4": ("int8 multiply", "int32 add"),
}  # fmt: skip


@dataclass(frozen=True)
class Use:
    """How much of a resource of an FPGA a machine takes."""

    resource: str
    used: float
    available: float

    @property
    def fits(self) -> bool:
        """Whether the part has enough."""
        return self.used <= self.available


@cache
def area_data() -> Any:
    """The figures of area.yaml without their marks."""
    document, _, problems = split(read(_FILE))
    if problems:
        raise SpecError(problems)
    return document.data


@cache
def _by_node(table: str) -> tuple[list[float], list[float]]:
    pairs = sorted((parse_quantity(node, "length"), float(value)) for node, value in area_data()[table].items())
    return [node for node, _ in pairs], [value for _, value in pairs]


def logic_um2(part: str, node_m: float) -> float:
    """Square micrometres of a logic cell of area.yaml at a node, before placement."""
    nodes, density = _by_node("density")
    shrink = log_interpolated(45e-9, nodes, density) / log_interpolated(node_m, nodes, density)
    return float(area_data()["logic"][part]) * shrink


def sram_mm2(size_bytes: float, node_m: float) -> float:
    """Square millimetres of an SRAM with one port."""
    return 8 * size_bytes * log_interpolated(node_m, *_by_node("bitcell")) / area_data()["filled"]["sram"] * 1e-6


def unit_um2(dtype: str, node_m: float, group: int = 1) -> float:
    """Square micrometres of a multiply-accumulate unit that picks operands out of groups of `group` (1: dense)."""
    if dtype not in PARTS_OF_MAC:
        raise UnsupportedError(f"area of a unit: {unknown('data type', dtype, PARTS_OF_MAC)}")
    bits = DTYPE_BITS[dtype]
    area = sum(logic_um2(part, node_m) for part in PARTS_OF_MAC[dtype])
    area += (2 * bits + SUM_BITS) * logic_um2("flip-flop", node_m)
    if group > 1:
        latches = (group - 1) * bits + ceil(log2(group))
        area += (group - 1) * bits * logic_um2("mux", node_m) + latches * logic_um2("flip-flop", node_m)
    return area


def lane_um2(node_m: float) -> float:
    """Square micrometres of an FP32 lane: a multiplier, an adder, three latched values."""
    both = logic_um2("fp32 multiply", node_m) + logic_um2("fp32 add", node_m)
    return both + 3 * 32 * logic_um2("flip-flop", node_m)


def pruning_lane_um2(group: int, node_m: float) -> float:
    """Square micrometres of a lane that keeps the largest of `group` 16-bit values: latches and a comparator each."""
    bits = 16 + ceil(log2(max(group, 2)))
    return group * (bits * logic_um2("flip-flop", node_m) + logic_um2("compare", node_m))


def largest_group(arch: AnyArch) -> int:
    """The longest group whose kept values the machine can pick, 1 where it only multiplies densely."""
    able = arch.sparsity
    if able.patterns == "any":
        return able.max_group
    return max((int(text.split(":")[-1]) for text in able.patterns), default=1)


def areas_mm2(arch: SystolicArch) -> dict[str, float]:
    """Square millimetres by part: the array as if dense, what n:m adds to its units, vector, pruning and update lanes,
    buffers.

    The units are sized for the type that takes most.
    """
    node, group, array = arch.energy.node, largest_group(arch), arch.array
    units = array.rows * array.columns * array.count
    full, dense = max(
        (unit_um2(d, node, group) * max(rate, 1.0), unit_um2(d, node) * max(rate, 1.0))
        for d, rate in array.macs_per_cycle.items()
    )
    logic = {
        "array": units * dense,
        "selection": units * (full - dense),
        "vector": arch.vector.lanes * lane_um2(node),
        "pruning": arch.reduction_engine.lanes * pruning_lane_um2(group, node) if arch.reduction_engine else 0.0,
        "update": arch.update_engine.lanes * lane_um2(node) if arch.update_engine else 0.0,
    }
    placed = {name: area * 1e-6 / area_data()["filled"]["logic"] for name, area in logic.items()}
    m = arch.memories
    return placed | {"buffers": sum(sram_mm2(size, node) for size in (m.a_buffer, m.b_buffer, m.c_buffer))}


def area_mm2(arch: AnyArch) -> float:
    """Square millimetres of the machine: the sum of its parts; of a known chip its die; NaN where neither is known.

    A machine in an FPGA has no area of its own; see `fpga_use`.
    """
    if isinstance(arch, SystolicArch):
        return nan if (arch.energy.table or "").startswith(FPGA) else sum(areas_mm2(arch).values())
    dies: Mapping[str, float] = area_data()["dies"]
    return next((float(area) for name, area in dies.items() if arch.name.startswith(name)), nan)


def wire_mm(arch: AnyArch) -> float:
    """Millimetres that a bit travels between the buffers and the units: half the side of a square of its parts' area.

    Of a machine in an FPGA the area is that of the same design as custom logic: its table's wires cost more instead.
    """
    return np.sqrt(sum(areas_mm2(arch).values())) / 2 if isinstance(arch, SystolicArch) else 0.0


def fpga_use(arch: SystolicArch, part: str = "xcvu9p") -> list[Use]:
    """DSP slices, BRAM of 36 Kbit, URAM of 288 Kbit and LUTs that the machine takes of an FPGA.

    Raises UnsupportedError for an unknown part or a data type without an estimate.
    """
    data = area_data()["fpga"]
    if part not in data["parts"]:
        raise UnsupportedError(unknown("FPGA part", part, data["parts"]))
    able = data["parts"][part]
    known = [d for d in arch.array.macs_per_cycle if d in data["unit"]]
    if not known:
        types = ", ".join(arch.array.macs_per_cycle)
        raise UnsupportedError(
            unknown("data type of an FPGA unit", types, [d for d in data["unit"] if d in DTYPE_BITS])
        )
    units = arch.array.rows * arch.array.columns * arch.array.count
    lanes = arch.vector.lanes + (arch.update_engine.lanes if arch.update_engine else 0)
    group = largest_group(arch)
    bits = max(DTYPE_BITS[d] for d in known)
    per_unit = {r: max(data["unit"][d][r] for d in known) for r in ("dsp", "lut")}
    select = ceil((group - 1) / 3) * bits  # a 6-input LUT is a four-way multiplexer of one bit
    pruning = arch.reduction_engine.lanes * group * 16 if arch.reduction_engine else 0
    m, large = arch.memories, data["large"]
    sizes = (m.a_buffer, m.b_buffer, m.c_buffer)
    uram = sum(ceil(size / 36864) for size in sizes if size >= large)
    spilled = max(uram - able["uram"], 0) * 8
    bram = sum(ceil(size / 4608) for size in sizes if size < large) + spilled
    return [
        Use("DSP", units * per_unit["dsp"] + lanes * data["lane"]["dsp"], able["dsp"]),
        Use("BRAM36", bram, able["bram36"]),
        Use("URAM", min(uram, able["uram"]), able["uram"]),
        Use("LUT", units * (per_unit["lut"] + select) + lanes * data["lane"]["lut"] + pruning, able["lut"]),
    ]
