"""The systolic model: the plan of each product (dataflow, tile, loop order), and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from nmsim.arch import fleet
from nmsim.arch.capability import SIDES
from nmsim.arch.schema import ACCUMULATOR_BYTES, SystolicArch
from nmsim.engines.dataflows import Passes, interleavings, output_stationary, stationary_operand
from nmsim.engines.products import Products, dense_where, take, transposed
from nmsim.engines.tiling import ORDERS, Turns, fits, refetches, side_by_side, tile_columns, tile_rows, with_ends
from nmsim.engines.timing import Timing, Waterfall

DATAFLOWS = ("os", "ws", "is")
RESIDENT = np.array(["", "A", "B", "A B"], dtype=object)
"""Operands that stay on chip until they are done with, by 1 for A plus 2 for B."""

WORTH = 0.01
"""Share of its time that a higher tile must save at its ends: low ones take finer turns at DRAM in between."""


@dataclass(frozen=True)
class Plan:
    """The choice for each op [ops]: dataflow (index of DATAFLOWS), tile of outputs kept on chip, loop order (index
    of ORDERS), outputs that a unit takes in turn along m and n, whether zeros are multiplied all the same, and whether
    A and B stay on chip until they are done with."""

    dataflow: np.ndarray
    tile_m: np.ndarray
    tile_n: np.ndarray
    order: np.ndarray
    turns_m: np.ndarray
    turns_n: np.ndarray
    dense: np.ndarray
    keep_a: np.ndarray
    keep_b: np.ndarray

    def take(self, rows: np.ndarray) -> Plan:
        """The choices for these rows."""
        return Plan(*(getattr(self, f.name)[rows] for f in fields(self)))

    def transposed(self) -> Plan:
        """The same choices seen with m and n exchanged."""
        return Plan(
            self.dataflow, self.tile_n, self.tile_m, 1 - self.order, self.turns_n, self.turns_m, self.dense,
            self.keep_b, self.keep_a,
        )  # fmt: skip


def evaluate(arch: SystolicArch, p: Products, plan: Plan | None = None) -> Timing:
    """Time, traffic and plan of each product; without a plan the fastest is chosen."""
    plan = choose(arch, p) if plan is None else plan
    p = dense_where(p, plan.dense > 0)
    parts = []
    for dataflow in range(len(DATAFLOWS)):
        for order in range(len(ORDERS)):
            rows = np.flatnonzero((plan.dataflow == dataflow) & (plan.order == order))
            if len(rows):
                parts.append(
                    (rows, _account(fleet.take(arch, rows), take(p, rows), plan.take(rows), DATAFLOWS[dataflow]))
                )
    return _scatter(parts, len(p.m), plan)


def choose(arch: SystolicArch, p: Products) -> Plan:
    """The fastest plan of each op; of those that take equally long the one with the least DRAM traffic, of those the
    one with the lowest tile unless another hides its first loads and its last store better."""
    size = len(p.m)
    best_time, best_bytes, best_ends = (np.full(size, np.inf) for _ in range(3))
    plan = Plan(*(np.zeros(size) for _ in fields(Plan)))
    for dense in (0, 1) if p.side.any() else (0,):
        executed = dense_where(p, p.side > 0) if dense else p
        for name in arch.array.allowed:
            for candidate, time, traffic, ends in _candidates(arch, executed, name, dense):
                less = (traffic < best_bytes) | ((traffic == best_bytes) & (ends < best_ends * (1 - WORTH)))
                better = (time < best_time) | ((time == best_time) & less)
                if not better.any():
                    continue
                best_time = np.where(better, time, best_time)
                best_bytes = np.where(better, traffic, best_bytes)
                best_ends = np.where(better, ends, best_ends)
                for f in fields(Plan):
                    np.copyto(getattr(plan, f.name), getattr(candidate, f.name), where=better)
    coded = ("dataflow", "order", "dense", "keep_a", "keep_b")
    whole = {name: getattr(plan, name).astype(np.uint8) for name in coded}
    return Plan(**{**vars(plan), **whole})


def _candidates(
    arch: SystolicArch, p: Products, name: str, dense: int
) -> Iterator[tuple[Plan, np.ndarray, np.ndarray, np.ndarray]]:
    """The plans of a dataflow, with the cycles and the DRAM bytes [ops] that each takes, and the cycles with its
    first loads and its last store."""
    view = transposed(p) if name == "is" else p
    turns, cycles = Turns(np.ones(len(p.m)), np.ones(len(p.m))), np.zeros(len(p.m))
    able = (view.side != SIDES.index("A")) | (name == "os" or skips_streamed_zeros(arch))
    sizes = [x.dram_bytes + x.dram_metadata for x in (view.a, view.b)]
    if name == "os":
        turns, cycles = _turns(arch, view)
    for tile_m in tile_rows(arch, view, turns):
        if name != "os":
            cycles = on_chip(arch, view, stationary_operand(arch, view, tile_m)).cycles
        for order, letters in enumerate(ORDERS):
            tile_n = tile_columns(arch, view, turns, tile_m, letters)
            kept = fits(view, tile_m, tile_n, letters)
            a_times, b_times = refetches(view, tile_m, tile_n, *kept)
            loads = sizes[0] * a_times, sizes[1] * b_times
            traffic = loads[0] + loads[1] + view.c_bytes
            time = np.where(able, _with_dram(arch, cycles, traffic), np.inf)
            high = tile_m * side_by_side(arch, turns, tile_m, tile_n, kept[1], name != "os")
            ends = with_ends(view, high, tile_n, loads, letters, cycles, _dram_bytes_per_cycle(arch))
            codes = (np.full(len(p.m), code) for code in (DATAFLOWS.index(name), order, dense))
            dataflow, order_codes, dense_codes = codes
            plan = Plan(dataflow, tile_m, tile_n, order_codes, turns.m, turns.n, dense_codes, *kept)
            yield (plan.transposed() if name == "is" else plan), time, traffic, np.maximum(ends, time)


def _turns(arch: SystolicArch, p: Products) -> tuple[Turns, np.ndarray]:
    """The fastest interleaving of each op and its cycles on chip; the least interleaved where equal."""
    shapes = interleavings(arch.array)
    cycles = []
    for high, wide in shapes:
        turns = Turns(np.full(len(p.m), high), np.full(len(p.m), wide))
        cycles.append(on_chip(arch, p, output_stationary(arch, p, turns)).cycles)
    best = np.argmin(cycles, axis=0)
    high, wide = np.array(shapes)[best].T
    return Turns(high, wide), np.min(cycles, axis=0)


def skips_streamed_zeros(arch: SystolicArch) -> bool:
    """Whether a stationary array can skip zeros of the operand that streams past.

    Units that hold single values cannot; SCALE-Sim counts as if they could (the same rows of k dropped everywhere).
    """
    return arch.array.stationary == "group" or arch.array.fold_overlap == "none"


def _account(arch: SystolicArch, p: Products, plan: Plan, name: str) -> Timing:
    """The waterfall and the traffic of ops that share a dataflow."""
    if name == "is":
        p, plan = transposed(p), plan.transposed()
    turns = Turns(plan.turns_m, plan.turns_n)
    passes = output_stationary(arch, p, turns) if name == "os" else stationary_operand(arch, p, plan.tile_m)
    fall = on_chip(arch, p, passes)
    dram = _dram(p, plan.tile_m, plan.tile_n, plan.keep_a > 0, plan.keep_b > 0)
    values, indices = (x / _dram_bytes_per_cycle(arch) for x in (dram["a"] + dram["b"] + dram["c"], dram["metadata"]))
    if arch.memories.double_buffered:
        fall.resource("dram", values, indices)
    else:
        fall.plus("dram", values)
        fall.plus("metadata", indices)
    fall.plus("launch", np.full(len(p.m), arch.launch.seconds * arch.clock if arch.launch else 0.0))
    port = _port(p, passes)
    if name == "is":
        dram, port = ({**t, "a": t["b"], "b": t["a"]} for t in (dram, port))
    peak = _peak(arch, p)
    return Timing(
        fall.causes, dram, port, executed=p.executed, useful=p.useful, padded=passes.padded, peak=peak,
        lane_ops=_widening(p, passes),
    )  # fmt: skip


def on_chip(arch: SystolicArch, p: Products, passes: Passes) -> Waterfall:
    """The waterfall down to the array: everything but DRAM and launch."""
    fall = Waterfall(p.useful / _peak(arch, p))
    fall.at_least("unskipped", p.executed / _peak(arch, p))
    fall.at_least("granularity", passes.steps)
    fall.plus("issue", passes.stall)
    fall.plus("fill_drain", passes.loading)
    fall.resource("reduction", passes.reduction)
    if p.widens:
        fall.resource("operand_feed", _widening(p, passes) / arch.vector.lanes)
    if arch.array.operand_port is not None:
        port, width = _port(p, passes), arch.array.operand_port * passes.arrays
        fall.resource("operand_feed", (port["a"] + port["b"]) / width, port["metadata"] / width)
    fall.plus("fill_drain", passes.fill)
    return fall


def _with_dram(arch: SystolicArch, cycles: np.ndarray, traffic: np.ndarray) -> np.ndarray:
    """Cycles with DRAM, which works beside the array only where buffers are doubled."""
    transfer = traffic / _dram_bytes_per_cycle(arch)
    return np.maximum(cycles, transfer) if arch.memories.double_buffered else cycles + transfer


def _widening(p: Products, passes: Passes) -> np.ndarray:
    """Operations of the vector lanes on values that pass to the arrays in a narrower type than is multiplied [ops]."""
    a = p.m * p.k * passes.a_times * p.a.share * p.a.widening
    b = p.n * p.k * passes.b_times * p.b.share * p.b.widening
    return (a + b) * p.count


def _port(p: Products, passes: Passes) -> dict[str, np.ndarray]:
    """Bytes between buffers and arrays per stream [ops]; im2col copies pass each time, sums once per fold of k."""
    a = p.m * p.k * p.count * passes.a_times
    b = p.n * p.k * p.count * passes.b_times
    return {
        "a": a * p.a.share * p.a.width,
        "b": b * p.b.share * p.b.width,
        "c": p.m * p.n * p.count * passes.c_times * ACCUMULATOR_BYTES,
        "metadata": a * p.a.metadata + b * p.b.metadata,
    }


def _dram(
    p: Products, tile_m: np.ndarray, tile_n: np.ndarray, keep_a: np.ndarray, keep_b: np.ndarray
) -> dict[str, np.ndarray]:
    """DRAM bytes per stream [ops]."""
    a_times, b_times = refetches(p, tile_m, tile_n, keep_a, keep_b)
    return {
        "a": p.a.dram_bytes * a_times,
        "b": p.b.dram_bytes * b_times,
        "c": p.c_bytes,
        "metadata": p.a.dram_metadata * a_times + p.b.dram_metadata * b_times,
    }


def _peak(arch: SystolicArch, p: Products) -> np.ndarray:
    """Multiply-accumulates per cycle of all units [ops]."""
    return arch.array.rows * arch.array.columns * arch.array.count * p.rate


def _dram_bytes_per_cycle(arch: SystolicArch) -> float:
    return arch.memories.dram.bandwidth * arch.memories.dram.efficiency / arch.clock


def _scatter(parts: list[tuple[np.ndarray, Timing]], size: int, plan: Plan) -> Timing:
    """One Timing [size] from those of disjoint rows."""
    groups: dict[str, Any] = {"causes": {}, "dram": {}, "port": {}}
    figures: dict[str, Any] = {name: np.zeros(size) for name in ("executed", "useful", "padded", "peak", "lane_ops")}
    for rows, timing in parts:
        for group, columns in groups.items():
            for name, values in getattr(timing, group).items():
                columns.setdefault(name, np.zeros(size))[rows] = values
        for name, column in figures.items():
            column[rows] = getattr(timing, name)
    choice = {
        "dataflow": np.array(DATAFLOWS, dtype=object)[plan.dataflow],
        "tile_m": plan.tile_m,
        "tile_n": plan.tile_n,
        "loop_order": np.array(ORDERS, dtype=object)[plan.order],
        "turns_m": plan.turns_m,
        "turns_n": plan.turns_n,
        "ran_dense": plan.dense > 0,
        "resident": RESIDENT[plan.keep_a + 2 * plan.keep_b],
    }
    return Timing(**groups, **figures, plan=choice)
