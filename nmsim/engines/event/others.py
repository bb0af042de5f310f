"""Streams of what is no product of a systolic array: kernels of a GPU, and work of the vector, pruning and update
lanes."""

from __future__ import annotations

from math import ceil

import numpy as np

from nmsim.arch.schema import SystolicArch, TensorCoreArch
from nmsim.engines.event.stream import Piece, Run, Stream, even
from nmsim.engines.gpu_traffic import Kernel, side_by_side
from nmsim.engines.tiling import ceil_div
from nmsim.engines.timing import Timing, total
from nmsim.workloads.optable import Workload

PIECES = 32
"""Least number of pieces of an op of lanes, and slices of a wave (or of all waves, where they are more)."""

SHORTEST = 8
"""Cycles of DRAM below which the larger transfer of a piece of lanes is not cut on."""


def kernels(arch: TensorCoreArch, work: Workload, timing: Timing) -> list[Stream]:
    """The waves of each product: the cores' cycles are those of the analytic engine, spread evenly over the waves.

    What the analytic engine adds for writing results comes here as stores instead. A kernel that gathers has no tiles;
    its outputs are taken as parts of their own, so that its waves are even.
    """
    causes = timing.causes
    launch, dram = causes["launch"], total(timing.dram)
    cores = sum((x for name, x in causes.items() if name not in ("launch", "dram")), np.zeros(len(work)))
    tile_m, tile_n, split = (np.maximum(timing.plan[x], 1.0) for x in ("tile_m", "tile_n", "split_k"))
    m, n, count = (work[x].astype(float) for x in ("m", "n", "count"))
    parts = ceil_div(m, tile_m) * ceil_div(n, tile_n) * count * split
    waves = ceil_div(parts, float(arch.cores.count))
    resident = side_by_side(arch.kernels, Kernel(tile_m, tile_n, split, 0.0))
    writing = timing.dram["c"] / bytes_per_cycle(arch, "cores") / resident
    cores = cores - np.where(
        causes.get("dram", np.zeros(len(work))) > 0, 0.0, np.minimum(writing, causes["fill_drain"])
    )
    stored = np.ceil(timing.dram["c"])
    rows = zip(dram - timing.dram["c"], cores, stored, timing.executed + 0 * m, waves, launch, strict=True)
    return [
        Stream("cores", _waves(Piece(*(int(np.round(x)) for x in row[:4])), int(row[4])), lead=int(np.ceil(row[5])))
        for row in rows
    ]


def _waves(whole: Piece, waves: int) -> tuple[Run, ...]:
    """A kernel as waves of equal pieces; a wave loads in slices, and stores when it is done."""
    slices = max(1, PIECES // waves)
    if slices == 1:
        return even(whole, waves)
    runs = []
    for piece, times in ((run.pieces[0], run.times) for run in even(whole, waves)):
        sliced = [p for run in even(piece._replace(store=0), slices) for p in run.pieces * run.times]
        sliced[-1] = sliced[-1]._replace(store=piece.store)
        runs.append(Run(tuple(sliced), times))
    return tuple(runs)


def lanes(arch: SystolicArch | TensorCoreArch, work: Workload, timing: Timing) -> list[Stream]:
    """The stream of each op that is no product, on the lanes that do it.

    Rows that a GPU reads again from L2 take their time before the first piece: nothing hides it.
    """
    launch = np.ceil(timing.causes["launch"] + timing.causes.get("l2", 0.0) + np.zeros(len(work)))
    cycles = np.ceil(np.round(timing.causes["useful"], 6))
    dram = {name: np.ceil(np.round(size, 6)) for name, size in timing.dram.items()}
    writes_indices = work.is_stage("PRUNE")
    out = dram["c"] + np.where(writes_indices, dram["metadata"], 0.0)
    elements = work["m"].astype(float) * work["n"] * work["count"]
    units, per_cycle = _units(arch, work), bytes_per_cycle(arch, "lanes")
    found = []
    for i in range(len(work)):
        read = int(total(dram)[i] - out[i]) if i < len(out) else 0
        whole = Piece(read, int(cycles[i]), int(out[i]), int(elements[i]))
        found.append(Stream(units[i], in_whole_cycles(whole, per_cycle), lead=int(launch[i])))
    return found


def in_whole_cycles(whole: Piece, per_cycle: float) -> tuple[Run, ...]:
    """An op of lanes as at most PIECES pieces alike and a last one that takes the rest.

    The larger transfer of a piece fills whole cycles of DRAM, an even number, so that one of half its size does too: a
    transfer ends with a whole cycle, and what is left of it would be lost with every piece.
    """
    longest = max(whole.load, whole.store) / per_cycle
    if not longest:
        return even(whole, max(1, min(PIECES, whole.cycles)))
    cycles = 2 * ceil(max(longest / PIECES, SHORTEST) / 2)
    others = ceil(round(longest / cycles, 6)) - 1
    if not others:
        return even(whole, 1)
    each = Piece(*(int(value * cycles / longest) for value in whole))
    rest = Piece(*(value - others * part for value, part in zip(whole, each, strict=True)))
    return Run((each,), others), Run((rest,), 1)


def _units(arch: SystolicArch | TensorCoreArch, work: Workload) -> list[str]:
    names = np.full(len(work), "vector", dtype=object)
    if isinstance(arch, SystolicArch):
        if arch.reduction_engine is not None:
            names[work.is_stage("PRUNE")] = "SORE"
        if arch.update_engine is not None:
            names[work.is_kind("optimizer")] = "WUVE"
    return list(names)


def bytes_per_cycle(arch: SystolicArch | TensorCoreArch, unit: str = "") -> float:
    """Bytes of DRAM that streams get in a cycle; on a GPU those of a `unit` (`cores`, or lanes) get a share of it."""
    whole = arch.memories.dram.bandwidth * arch.memories.dram.efficiency / arch.clock
    if not unit or isinstance(arch, SystolicArch):
        return whole
    return whole * (arch.kernels if unit == "cores" else arch.vector).dram_efficiency
