"""Counts of actions per op, from what an engine found: the same for every engine, vectorised over ops.

Of a product with E multiply-accumulates on a systolic array, groups n:m skipped on one operand:

    mac        E; gated: the padded slots of the tiles without data, (padded/dense - 1) E; skipped: dense - E, for free
    registers  bits of each kept value E w, of the dense operand E w m/n, of sums E 32, of indices E ceil(log2 m)
    select     bits through the multiplexers: E w (m - 1)
    buffers    what passes the port is read, sums are read and written; what comes from DRAM is written, C is read out
    noc        bits that pass the port x half the side of the machine's area
    dram       A, B and indices are read, C is written

A GPU counts the cycles of its cores instead of gated slots, registers, selection and wires.
"""

from __future__ import annotations

import numpy as np

from nmsim.arch.capability import SIDES
from nmsim.arch.schema import ACCUMULATOR_BYTES, AnyArch, CpuArch, SystolicArch, TensorCoreArch
from nmsim.energy.account import STATIC, Key, table_name
from nmsim.engines.products import Products
from nmsim.engines.timing import Timing
from nmsim.workloads.optable import DTYPES, Workload

READ = ("a", "b", "metadata")
"""The streams that come from DRAM; c goes to it."""


def count(
    arch: AnyArch,
    work: Workload,
    timing: Timing,
    seconds: np.ndarray,
    products: Products | None = None,
    wire_mm: float = 0.0,
) -> dict[Key, np.ndarray]:
    """The actions [ops] of `work`, all of whose rows are products (then with `products`) or none is.

    `wire_mm` is how far a bit travels between the buffers and the units.
    """
    size = len(work)
    found: dict[Key, np.ndarray] = {STATIC: seconds}
    for stream, sent in timing.dram.items():
        written = stream == "c" or (products is None and stream == "metadata")
        found["dram", "write" if written else "read", stream] = 8 * sent
    if products is None:
        _elementwise(arch, work, timing, found)
        return found
    _products(arch, work, timing, products.dtype, found)
    found["vector", "op", ""] = np.zeros(size) + timing.lane_ops
    if isinstance(arch, TensorCoreArch):
        for code in np.unique(dtype := products.dtype):
            found["cores", DTYPES[code], ""] = np.where(dtype == code, timing.busy, 0.0)
        for stream, sent in timing.port.items():
            found["buffers", "read", stream] = 8 * sent
    elif isinstance(arch, CpuArch):
        for stream, sent in timing.port.items():
            found["buffers", "write" if stream == "c" else "read", stream] = 8 * sent
    else:
        _array(arch, work, timing, products, wire_mm, found)
    return found


def _elementwise(arch: AnyArch, work: Workload, timing: Timing, found: dict[Key, np.ndarray]) -> None:
    update = work.is_kind("optimizer")
    zero = np.zeros(len(work))
    found["vector", "op", ""] = np.where(update, 0.0, zero + timing.lane_ops)
    found["update", "op", ""] = np.where(update, zero + timing.lane_ops, 0.0)
    found["reduction", "compare", ""] = zero + timing.compares
    if isinstance(arch, TensorCoreArch) and table_name(arch) == "gpu":
        for stream, sent in timing.dram.items():
            found["stream", "bit", stream] = 8 * sent


def _products(arch: AnyArch, work: Workload, timing: Timing, dtype: np.ndarray, found: dict[Key, np.ndarray]) -> None:
    """Multiply-accumulates by data type (codes [ops]), and those skipped; padded slots of an array are gated."""
    executed = np.zeros(len(work)) + timing.executed
    dense = work["m"].astype(float) * work["n"] * work["k"] * work["count"]
    idle = executed * (np.maximum(np.asarray(timing.padded) / dense, 1.0) - 1.0)
    skipped = np.maximum(dense - executed, 0.0)
    for code in np.unique(dtype):
        rows = dtype == code
        found["mac", DTYPES[code], ""] = np.where(rows, executed * timing.multiplied, 0.0)
        found["mac", f"skipped {DTYPES[code]}", ""] = np.where(rows, skipped, 0.0)
        if isinstance(arch, SystolicArch):
            found["mac", f"gated {DTYPES[code]}", ""] = np.where(rows, idle, 0.0)


def _array(
    arch: SystolicArch, work: Workload, timing: Timing, p: Products, wire_mm: float, found: dict[Key, np.ndarray]
) -> None:
    """What moves in and around a systolic array."""
    executed = np.zeros(len(work)) + timing.executed
    ran_dense = np.asarray(timing.plan.get("ran_dense", False), dtype=bool)
    side = np.where(ran_dense, 0, p.side)
    group = np.where(side > 0, p.pattern_m / p.pattern_n, 1.0)
    a_bits, b_bits = 8 * p.a.width, 8 * p.b.width
    of_a, of_b = side == SIDES.index("A"), side == SIDES.index("B")
    found["registers", "bit", "a"] = executed * a_bits * np.where(of_b, group, 1.0)
    found["registers", "bit", "b"] = executed * b_bits * np.where(of_a, group, 1.0)
    found["registers", "bit", "psum"] = executed * 8 * ACCUMULATOR_BYTES
    if side.any():
        index = np.where(side > 0, np.ceil(np.log2(np.maximum(p.pattern_m, 1.0))), 0.0)
        found["registers", "bit", "metadata"] = executed * index
        dense_bits = np.select([of_a, of_b], [b_bits, a_bits], 0.0)
        found["select", "mux bit", "metadata"] = executed * dense_bits * (np.where(side > 0, p.pattern_m, 1.0) - 1.0)
    for stream, sent in timing.port.items():
        if stream == "c":
            found["buffers", "read", "psum"] = found["buffers", "write", "psum"] = 8 * sent
        else:
            found["buffers", "read", stream] = 8 * sent
            found["noc", "bit mm", stream] = 8 * sent * wire_mm
    for stream in READ:
        if stream in timing.dram:
            found["buffers", "write", stream] = 8 * timing.dram[stream]
    if "c" in timing.dram:
        found["buffers", "read", "c"] = 8 * timing.dram["c"]
