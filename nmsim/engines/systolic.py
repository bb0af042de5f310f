"""The systolic model: output, weight and input stationary arrays, dense or skipping n:m groups, plain or SAT.

Cycles of one array of R x C units, for C[m,n] = A[m,k]·B[k,n] with k' of k left (k' = floor(k/M) N + min(N, k mod M)):

    OS  folds = ceil(m/R) ceil(n/C), each k' cycles, fill and drain R + C - 2
    WS  folds = ceil(k'/R) ceil(n/C), each m cycles, fill and drain 2R + C - 2
    IS  as WS with m and n exchanged

`fold_overlap: none` pays the fill at every fold (SCALE-Sim's count), `pipelined` once per op; a stationary tile is
then loaded behind the one before, which shows only where a fold is shorter than its R cycles of loading. An adder
of latency L makes every OS step take L cycles unless i outputs are interleaved: i k' max(1, L/i) per tile of iR rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nmsim.arch.capability import SIDES
from nmsim.arch.schema import SystolicArch
from nmsim.engines.products import Operand, Products
from nmsim.engines.tiling import ORDERS, ceil_div, refetches, tile_columns, tile_rows
from nmsim.engines.timing import Timing, Waterfall, total

DATAFLOWS = ("os", "ws", "is")


@dataclass(frozen=True)
class Passes:
    """What one dataflow costs on the array, in cycles [ops] unless said otherwise.

    `steps` with every unit busy or padded, `stall` waiting for the adder, `loading` waiting for the next stationary
    tile, `fill` filling and draining, `reduction` the least time in which the pruning lanes can supply the stream;
    `a_times`, `b_times` how often each element of an operand passes the port; `padded` dense multiply-accumulates of
    the padded tiles.
    """

    steps: np.ndarray
    stall: np.ndarray
    loading: np.ndarray
    fill: np.ndarray
    reduction: np.ndarray
    a_times: np.ndarray
    b_times: np.ndarray
    padded: np.ndarray


@dataclass(frozen=True)
class Plan:
    """The choice for each op [ops]: dataflow (index of DATAFLOWS), tile of outputs kept on chip, loop order (index
    of ORDERS), and whether its zeros are multiplied although they could be skipped."""

    dataflow: np.ndarray
    tile_m: np.ndarray
    tile_n: np.ndarray
    order: np.ndarray
    dense: np.ndarray


def evaluate(arch: SystolicArch, p: Products) -> Timing:
    """Time, traffic and chosen plan of each product."""
    plan = choose(arch, p)
    p = dense_where(p, plan.dense)
    parts = []
    for dataflow, order in itertools.product(range(len(DATAFLOWS)), range(len(ORDERS))):
        rows = np.flatnonzero((plan.dataflow == dataflow) & (plan.order == order))
        if len(rows):
            tile_m, tile_n = plan.tile_m[rows], plan.tile_n[rows]
            parts.append((rows, _account(arch, take(p, rows), dataflow, order, tile_m, tile_n)))
    return _scatter(parts, len(p.m), plan)


def choose(arch: SystolicArch, p: Products) -> Plan:
    """The fastest dataflow, tile and loop order of each op, the least DRAM traffic where times are equal."""
    size = len(p.m)
    best_time, best_bytes = np.full(size, np.inf), np.full(size, np.inf)
    plan = np.zeros((5, size))
    for dense in (0, 1) if p.side.any() else (0,):
        executed = dense_where(p, p.side > 0) if dense else p
        for name in arch.array.dataflows:
            for choice, time, traffic in _candidates(arch, executed, name):
                better = (time < best_time) | ((time == best_time) & (traffic < best_bytes))
                best_time = np.where(better, time, best_time)
                best_bytes = np.where(better, traffic, best_bytes)
                for row, value in enumerate((DATAFLOWS.index(name), *choice, dense)):
                    np.copyto(plan[row], value, where=better)
    dataflow, tile_m, tile_n, order, dense_rows = plan
    return Plan(dataflow.astype(np.uint8), tile_m, tile_n, order.astype(np.uint8), dense_rows.astype(bool))


Choice = tuple[np.ndarray, np.ndarray, int]


def _candidates(arch: SystolicArch, p: Products, name: str) -> Iterator[tuple[Choice, np.ndarray, np.ndarray]]:
    """Every (tile_m, tile_n, order) of a dataflow with the cycles and the DRAM bytes [ops] it takes."""
    view = transposed(p) if name == "is" else p
    on_chip = None
    for tile_m in tile_rows(arch, view):
        if on_chip is None or name != "os":
            on_chip = _on_chip(arch, view, _passes(arch, view, name, tile_m)).cycles
            if name != "os" and not _skips_streamed_zeros(arch):
                on_chip = np.where(view.side == SIDES.index("A"), np.inf, on_chip)
        for order, letters in enumerate(ORDERS):
            tile_n = tile_columns(arch, view, tile_m, letters)
            traffic = total(_dram(arch, view, tile_m, tile_n, letters))
            time = np.maximum(on_chip, traffic / _dram_bytes_per_cycle(arch))
            yield ((tile_n, tile_m, 1 - order) if name == "is" else (tile_m, tile_n, order)), time, traffic


def _skips_streamed_zeros(arch: SystolicArch) -> bool:
    """Whether a stationary array can skip zeros of the operand that streams past.

    Units that hold single values cannot; SCALE-Sim counts as if they could (the same rows of k dropped everywhere).
    """
    return arch.array.stationary == "group" or arch.array.fold_overlap == "none"


def _account(
    arch: SystolicArch, p: Products, dataflow: int, order: int, tile_m: np.ndarray, tile_n: np.ndarray
) -> Timing:
    """The waterfall and the traffic of ops that share a dataflow and a loop order."""
    if swap := DATAFLOWS[dataflow] == "is":
        p, tile_m, tile_n, order = transposed(p), tile_n, tile_m, 1 - order
    passes = _passes(arch, p, DATAFLOWS[dataflow], tile_m)
    fall = _on_chip(arch, p, passes)
    dram = _dram(arch, p, tile_m, tile_n, ORDERS[order])
    rate = _dram_bytes_per_cycle(arch)
    fall.resource("dram", (dram["a"] + dram["b"] + dram["c"]) / rate, dram["metadata"] / rate)
    fall.plus("launch", np.full(len(p.m), arch.launch.floor * arch.clock if arch.launch else 0.0))
    port = _port(p, passes)
    if swap:
        dram, port = ({**t, "a": t["b"], "b": t["a"]} for t in (dram, port))
    peak = _peak(arch, p)
    return Timing(fall.causes, dram, port, executed=p.executed, useful=p.useful, padded=passes.padded, peak=peak)


def _on_chip(arch: SystolicArch, p: Products, passes: Passes) -> Waterfall:
    """The waterfall down to the array: everything but DRAM and launch."""
    array = arch.array
    peak = _peak(arch, p)
    fall = Waterfall(p.useful / peak)
    fall.at_least("unskipped", p.executed / peak)
    fall.at_least("granularity", passes.steps)
    fall.plus("issue", passes.stall)
    fall.plus("fill_drain", passes.loading)
    fall.resource("reduction", passes.reduction)
    if array.operand_port is not None:
        port = _port(p, passes)
        width = array.operand_port * array.count
        fall.resource("operand_feed", (port["a"] + port["b"]) / width, port["metadata"] / width)
    fall.plus("fill_drain", passes.fill)
    return fall


def _passes(arch: SystolicArch, p: Products, dataflow: str, tile_m: np.ndarray) -> Passes:
    if dataflow == "os":
        return output_stationary(arch, p)
    return stationary_operand(arch, p, tile_m)


def output_stationary(arch: SystolicArch, p: Products) -> Passes:
    """Each unit keeps an output (i outputs in turn when interleaved) while A and B stream past along k.

    Pruning lanes in the stream keep nothing: a group that serves i outputs in turn is pruned i times.
    """
    array = arch.array
    steps_k = ceil_div(p.kept, p.rate)
    latency, most = float(array.accumulator_latency), float(array.interleave)
    shapes = [(1.0, 1.0), (most, 1.0), (1.0, most)] if most > 1 else [(1.0, 1.0)]
    waves, busy = [], []
    for high, wide in shapes:
        tiles = ceil_div(p.m, high * array.rows) * ceil_div(p.n, wide * array.columns) * p.count
        waves.append(ceil_div(tiles, array.count))
        busy.append(waves[-1] * max(high * wide, latency))
    best = np.argmin(busy, axis=0)
    high, wide = (np.array([s[i] for s in shapes])[best] for i in (0, 1))
    waves_best = np.choose(best, waves)
    steps = waves_best * steps_k * high * wide
    stall = waves_best * steps_k * np.maximum(latency - high * wide, 0.0)
    fill = array.rows + array.columns - 2
    folds_m, folds_n = ceil_div(p.m, high * array.rows), ceil_div(p.n, wide * array.columns)
    return Passes(
        steps=steps, stall=stall, loading=np.zeros(len(p.m)),
        fill=waves_best * fill if array.fold_overlap == "none" else np.full(len(p.m), fill),
        reduction=waves_best * p.k * high * wide * _lane_turns(arch, p) * p.inline,
        a_times=folds_n, b_times=folds_m,
        padded=folds_m * high * array.rows * folds_n * wide * array.columns * p.k * p.count,
    )  # fmt: skip


def stationary_operand(arch: SystolicArch, p: Products, tile_m: np.ndarray) -> Passes:
    """Each unit keeps values of B (one, or a whole group when sparse) while the rows of A stream past.

    Units that hold a group take N cycles per row of A and cover R M elements of k (of a sparse A the group of B is
    held whole); units that hold single kept values shorten k instead, which only a sparse B allows. Loading takes a
    cycle per value and column: R a fold for single values, what there is to load for groups.
    """
    array = arch.array
    sparse_b = p.side == SIDES.index("B")
    if array.stationary == "group":
        kept, group, depth, loaded = p.pattern_n, p.pattern_m, p.k, np.where(sparse_b, p.kept, p.k)
    else:
        kept = group = np.ones(len(p.m))
        depth, loaded = p.kept, None
    at_once = np.maximum(np.floor(p.rate / kept), 1.0)
    serial = ceil_div(at_once * kept, p.rate)
    span = at_once * group
    folds_k, folds_n = ceil_div(depth, array.rows * span), ceil_div(p.n, array.columns)
    load = array.rows * at_once if loaded is None else loaded / folds_k
    fill = load + array.rows * (serial - 1 + array.accumulator_latency) + array.columns - 2
    tile_m = p.m if array.fold_overlap == "none" else np.minimum(tile_m, p.m)
    stripes = ceil_div(p.m, tile_m)
    jobs = folds_n * stripes * p.count
    waves = ceil_div(jobs, array.count)
    short = stripes * tile_m - p.m if array.count == 1 else np.zeros(len(p.m))
    steps = folds_k * (waves * tile_m - folds_n * p.count * short) * serial
    serial_folds = array.fold_overlap == "none"
    late = (folds_k * waves - 1) * np.maximum(load - tile_m * serial, 0.0)
    pruned = np.where(sparse_b, array.rows * span, tile_m * group)
    return Passes(
        steps=steps, stall=np.zeros(len(p.m)), loading=late * (not serial_folds),
        fill=fill * (folds_k * waves if serial_folds else 1.0),
        reduction=folds_k * waves * pruned * _lane_turns(arch, p) * p.inline,
        a_times=folds_n, b_times=stripes,
        padded=p.m * folds_n * array.columns * np.maximum(folds_k * array.rows * span, p.k) * p.count,
    )  # fmt: skip


def _lane_turns(arch: SystolicArch, p: Products) -> np.ndarray:
    """Cycles in which the pruning lanes handle one element of every row or column of the sparse stream [ops]."""
    if arch.reduction_engine is None:
        return np.ones(len(p.m))
    streams = np.where(p.side == SIDES.index("A"), arch.array.rows, arch.array.columns)
    return ceil_div(streams.astype(float), arch.reduction_engine.lanes)


def _port(p: Products, passes: Passes) -> dict[str, np.ndarray]:
    """Bytes through the ports between buffers and arrays, per stream [ops]; im2col copies pass each time."""
    a = p.m * p.k * p.count * passes.a_times
    b = p.n * p.k * p.count * passes.b_times
    return {
        "a": a * p.a.share * p.a.width,
        "b": b * p.b.share * p.b.width,
        "c": p.m * p.n * p.count * 4.0,
        "metadata": a * p.a.metadata + b * p.b.metadata,
    }


def _dram(arch: SystolicArch, p: Products, tile_m: np.ndarray, tile_n: np.ndarray, order: str) -> dict[str, np.ndarray]:
    """DRAM bytes per stream [ops]."""
    a_times, b_times = refetches(arch, p, tile_m, tile_n, order)
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


def transposed(p: Products) -> Products:
    """The same products as C^T = B^T·A^T: m and n, A and B exchanged."""
    swapped = np.array([0, SIDES.index("B"), SIDES.index("A")], dtype=p.side.dtype)
    return replace(p, m=p.n, n=p.m, a=p.b, b=p.a, side=swapped[p.side])


def dense_where(p: Products, rows: np.ndarray) -> Products:
    """The same products with the zeros of these rows (boolean [ops]) multiplied instead of skipped."""
    a, b = (
        replace(
            x, share=np.where(rows, 1.0, x.share), metadata=np.where(rows, 0.0, x.metadata), packed=x.packed & ~rows
        )
        for x in (p.a, p.b)
    )
    return replace(
        p, a=a, b=b, side=np.where(rows, 0, p.side).astype(p.side.dtype), inline=p.inline & ~rows,
        pattern_n=np.where(rows, 1.0, p.pattern_n), pattern_m=np.where(rows, 1.0, p.pattern_m),
        kept=np.where(rows, p.k, p.kept), executed=np.where(rows, p.m * p.n * p.k * p.count, p.executed),
    )  # fmt: skip


def take(p: Products, rows: np.ndarray) -> Products:
    """The products of these rows."""
    fields: dict[str, Any] = {name: value[rows] for name, value in vars(p).items() if isinstance(value, np.ndarray)}
    a, b = (Operand(**{name: value[rows] for name, value in vars(x).items()}) for x in (p.a, p.b))
    return Products(**fields, a=a, b=b)


def _scatter(parts: list[tuple[np.ndarray, Timing]], size: int, plan: Plan) -> Timing:
    """One Timing [size] from those of disjoint rows."""
    groups: dict[str, Any] = {"causes": {}, "dram": {}, "port": {}}
    figures: dict[str, Any] = {name: np.zeros(size) for name in ("executed", "useful", "padded", "peak")}
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
        "ran_dense": plan.dense,
    }
    return Timing(**groups, **figures, plan=choice)
