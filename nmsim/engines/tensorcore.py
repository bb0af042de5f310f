"""The tensor-core model: thread-block tiles in waves over the cores of a GPU, under the rooflines of its memories.

A product is cut into output tiles, each reduced in one or `split` parts; the parts run in waves of one per core:

    waves = ceil(ceil(m/TM) ceil(n/TN) count split / cores)

(with stream-K the tiles are shared evenly, whatever their number, none among more than two cores). A part takes its
multiply-accumulates at the core's rate (N/M of them when n:m is skipped) or reading its operands from shared memory,
whichever is longer, and what its kernel does not hide: of a dense product a share of the shorter, and in small tiles,
as of an n:m product in all, some cycles in every step of the main loop. Kernels that ask for operands one step ahead
wait in each for what L2 does not hold. Operands are read once per warp tile, the dense operand of an n:m product M/N
times faster. Instructions take the sparse operand as their first: with n:m in B they compute the transposed product, so
that tiles, their order and warp tiles are turned over. An operand that is stored in a narrower type than is multiplied
moves as it is stored; the vector lanes widen it as a warp tile reads it, beside the products. Each wave pays a prologue
and an epilogue, and the results are written to DRAM before the next begins, unless the registers hold the sums of
several thread blocks, of which one computes while another fills or drains. A kernel of its own adds the parts of a
split reduction. L2 serves every part its operands; DRAM serves what L2 cannot keep. A board at its power cap lowers its
clock (nmsim.engines.power).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nmsim.arch import fleet
from nmsim.arch.gpu import Kernels
from nmsim.arch.schema import TensorCoreArch
from nmsim.engines.convolutions import (
    by_winograd,
    copied,
    efficiency,
    own_kernels,
    prepared,
    winograd_offered,
)
from nmsim.engines.gpu_traffic import (
    Kernel,
    condensed,
    dram_bandwidth,
    dram_bytes,
    fetching,
    joining_cycles,
    l2_bytes,
    partial_bytes,
    shared_memory_bytes,
    side_by_side,
    widening,
)
from nmsim.engines.offers import of_own_tiles, offered
from nmsim.engines.power import dynamic_energy, throttled, voltage
from nmsim.engines.products import Products, dense_where, placed, put, take
from nmsim.engines.tiling import ceil_div
from nmsim.engines.timing import Bound, Timing, Waterfall, total
from nmsim.workloads.optable import DTYPES


@dataclass(frozen=True)
class Run:
    """An op under a kernel: its waterfall without the first launch, its bytes per stream, its padded dense products,
    the cycles with cores at work, summed over the cores, and the cycles of `work` on each as `slowed` by the power cap.
    """

    fall: Waterfall
    dram: dict[str, np.ndarray]
    l2: dict[str, np.ndarray]
    padded: np.ndarray
    busy: np.ndarray
    work: np.ndarray
    slowed: np.ndarray


@dataclass(frozen=True)
class Way:
    """How ops are run: the products as their kernel takes them, this kernel and its cycles, the bytes that kernels
    beside it move, and how many kernels are launched in all [ops]."""

    products: Products
    kernel: Kernel
    cycles: np.ndarray
    moved: np.ndarray
    started: np.ndarray

    def total(self, arch: TensorCoreArch) -> np.ndarray:
        """Cycles of all of it [ops]."""
        beside = self.moved / (dram_bandwidth(arch) / arch.clock) + self.started * arch.launch.seconds * arch.clock
        return self.cycles + beside

    def faster(self, arch: TensorCoreArch, rows: np.ndarray, other: Way) -> tuple[Way, np.ndarray]:
        """These ops, those of `rows` (indices) run as `other` has them where that takes less; and which these are."""
        gains = np.flatnonzero(other.total(fleet.take(arch, rows)) < self.total(arch)[rows])
        place = rows[gains]
        figures = ((self.cycles, other.cycles), (self.moved, other.moved), (self.started, other.started))
        kernels = zip(vars(self.kernel).values(), vars(other.kernel).values(), strict=True)
        products = put(self.products, place, take(other.products, gains))
        kernel = Kernel(*(placed(old, place, new[gains]) for old, new in kernels))
        return Way(products, kernel, *(placed(old, place, new[gains]) for old, new in figures)), place


def evaluate(arch: TensorCoreArch, p: Products) -> Timing:
    """Time, traffic and chosen kernel of each product; dense where that is faster than skipping."""
    way, idle = _way(arch, p), np.zeros(len(p.m), dtype=bool)
    if len(sparse := np.flatnonzero(p.side > 0)):
        dense = dense_where(take(p, sparse), np.ones(len(sparse), dtype=bool))
        way, rows = way.faster(arch, sparse, _way(fleet.take(arch, sparse), dense))
        idle[rows] = True
    p, way = way.products, _by_winograd(arch, way)
    run = execute(arch, done := way.products, way.kernel)
    run.fall.plus("operand_feed", way.moved / (dram_bandwidth(arch) / arch.clock))
    run.dram["a"] = run.dram["a"] + way.moved
    run.fall.plus("launch", way.started * arch.launch.seconds * arch.clock)
    plan = {name: np.asarray(value) for name, value in vars(way.kernel).items()} | {"ran_dense": idle}
    share = done.executed / p.executed  # of multiplications that Winograd leaves: fewer of a batch, or at a higher rate
    return Timing(
        run.fall.causes, run.dram, run.l2, plan,
        executed=p.executed, useful=p.useful, padded=run.padded / np.where(done.count > p.count, share, 1.0),
        peak=arch.cores.count * p.rate / share, multiplied=share,
        lane_ops=widening(arch, p, way.kernel), busy=run.busy, voltage=voltage(arch, run.work, run.slowed),
    )  # fmt: skip


def _way(arch: TensorCoreArch, p: Products) -> Way:
    """The products by their fastest kernel, with what others do for it."""
    (moved, others), p = copied(arch, p), prepared(arch, p)
    p = replace(p, c_bytes=p.c_bytes * arch.kernels.c_passes)
    return Way(p, *choose(arch, p), moved, 1.0 + others)


def _by_winograd(arch: TensorCoreArch, way: Way) -> Way:
    """The same ops, by Winograd's algorithm those that it finishes earlier."""
    p = way.products
    for how in arch.kernels.conv.winograd.values() if arch.kernels.conv is not None else ():
        if not len(rows := np.flatnonzero(winograd_offered(how, arch, p))):
            continue
        mine = fleet.take(arch, rows)
        if not how.fused:  # batches of products have no narrow tiles
            mine = fleet.with_numbers(mine, {"kernels.conv.narrow": []})
        fewer, transformed = by_winograd(how, mine, take(p, rows))
        launches = np.full(len(rows), float(how.launches))
        way, _ = way.faster(arch, rows, Way(fewer, *choose(mine, fewer), transformed, launches))
    return way


def choose(arch: TensorCoreArch, p: Products) -> tuple[Kernel, np.ndarray]:
    """The fastest kernel of each op, the first in the architecture file where times are equal, and its cycles."""
    best = np.full(len(p.m), np.inf)
    chosen = np.ones((4, len(p.m)))
    for candidate, able in offered(arch.kernels, p):
        cycles = np.where(able, execute(arch, p, candidate, Bound).fall.cycles, np.inf)
        better = cycles < best
        best = np.where(better, cycles, best)
        for row, value in enumerate(vars(candidate).values()):
            np.copyto(chosen[row], value, where=better)
    return Kernel(*chosen), best


def execute(arch: TensorCoreArch, p: Products, kernel: Kernel, booking: type[Waterfall] = Waterfall) -> Run:
    """The products run with one kernel; `booking` is how their cycles are booked."""
    kernels, memories = arch.kernels, arch.memories
    parts = ceil_div(p.m, kernel.tile_m) * ceil_div(p.n, kernel.tile_n) * p.count * kernel.split_k
    even = np.maximum(parts / arch.cores.count, 0.5)
    waves = np.where(np.asarray(kernel.stream_k) > 0, even, ceil_div(parts, arch.cores.count))
    step = _step(kernels, p)
    steps = ceil_div(p.k, kernel.split_k * step)
    depth = steps * step
    fall, waits = _on_cores(arch, p, kernel, waves, (steps, depth), booking(p.useful / (arch.cores.count * p.rate)))

    l2, dram = l2_bytes(arch, p, kernel), dram_bytes(arch, p, kernel, _order(kernels, p))
    per_cycle = dram_bandwidth(arch) / arch.clock
    if kernels.latency or kernels.along_k:
        fetched = fetching(arch, p, kernel, waves, steps, {x: dram[x] / parts for x in "ab"})
        fall.resource("operand_feed", fetched)
    around, joining = _fill(kernels, kernel, waves, p.c_bytes / per_cycle), joining_cycles(arch, p, kernel)
    starting = arch.launch.seconds * arch.clock
    again = np.where(np.asarray(kernel.split_k) > 1, starting, 0.0)
    work, busy = fall.cycles, (fall.cycles - waits) * parts / waves
    energy = dynamic_energy(arch, p, busy, l2, dram)
    slowed = throttled(arch, energy, work, around + joining + starting + again)
    fall.at_least("power", slowed)
    beside = total(l2) - 2.0 * partial_bytes(p, kernel)  # partial sums pass while they are joined
    fall.resource("l2", beside / (memories.l2.bandwidth / arch.clock))
    fall.plus("fill_drain", around)
    fall.resource("dram", (dram["a"] + dram["b"] + dram["c"]) / per_cycle, dram["metadata"] / per_cycle)
    fall.plus("fill_drain", joining)
    fall.plus("launch", again)
    padded = parts * kernel.tile_m * kernel.tile_n * depth
    return Run(fall, dram, l2, padded, busy, work, slowed)


def _order(kernels: Kernels, p: Products) -> np.ndarray:
    """The dimension that thread blocks follow first [ops]: 1 for m, -1 for n, 0 where those at work are near a square.

    Kernels of convolutions keep near a square; with n:m in B, m and n have changed places.
    """
    dense, sparse = ((raster or kernels.raster) == "columns" for raster in (None, kernels.sparse.raster))
    along_m = dense & ~own_kernels(kernels, p)
    return np.select([p.side == 1, p.side == 2], [int(sparse), -int(sparse)], along_m.astype(int))


def _on_cores(
    arch: TensorCoreArch,
    p: Products,
    kernel: Kernel,
    waves: np.ndarray,
    reduction: tuple[np.ndarray, np.ndarray],
    fall: Waterfall,
) -> tuple[Waterfall, np.ndarray]:
    """`fall` with `waves` parts on each core, products and feeding them, each of a `reduction` of so many steps and
    elements; and the cycles of it in which nothing hides that kernels wait [ops]."""
    cores, kernels, sparse, (steps, depth) = arch.cores, arch.kernels, p.side > 0, reduction
    issue = waves * kernel.tile_m * kernel.tile_n * depth * (p.pattern_n / p.pattern_m) / p.rate
    fall.at_least("unskipped", p.executed / (cores.count * p.rate))
    fall.at_least("granularity", issue)
    dense = np.array([cores.mma_efficiency_of.get(name, cores.mma_efficiency) for name in DTYPES])[p.dtype]
    dense = dense * efficiency(arch, p)
    own = kernels.sparse.mma_efficiency
    fall.at_least("issue", issue / (dense if own is None else np.where(sparse, own, dense)))
    moved = shared_memory_bytes(arch, p, kernel)
    values, indices = (waves * depth * x / cores.shared_memory_bandwidth for x in moved)
    shorter = np.minimum(values + indices, fall.cycles)
    fall.resource("operand_feed", values, indices)
    waits = waves * steps * np.where(sparse, kernels.sparse.step_cycles, _small_tiles_wait(kernels, p, kernel))
    fall.plus("operand_feed", waits + np.where(sparse, 0.0, shorter * kernels.exposed_feed))
    if p.widens:
        fall.resource("operand_feed", widening(arch, p, kernel) / arch.vector.lanes)
    return fall, waits


def _small_tiles_wait(kernels: Kernels, p: Products, kernel: Kernel) -> np.ndarray | float:
    """Cycles that a dense kernel waits in each step of its main loop [ops]."""
    largest = max(high * wide for high, wide in kernels.tiles)
    if not np.any(kernels.step_cycles):
        return 0.0
    return np.where(of_own_tiles(kernels, p), 0.0, kernels.step_cycles * (kernel.tile_m * kernel.tile_n < largest))


def _step(kernels: Kernels, p: Products) -> np.ndarray:
    """Reduction elements of a step of the main loop [ops], to whole ones of which a part is padded: the same bytes for
    every type, of what V:n:m blocks keep."""
    return kernels.k_step * 2 / np.maximum(p.a.width, p.b.width) / np.minimum(*condensed(p))


def _fill(kernels: Kernels, kernel: Kernel, waves: np.ndarray, writing: np.ndarray) -> np.ndarray:
    """Cycles of prologues and epilogues that nothing hides [ops]: one per wave, and `writing` the results.

    Where the registers hold the sums of several thread blocks, only one in as many is seen, but at least one.
    """
    resident = side_by_side(kernels, kernel)
    return np.maximum(waves / resident, 1.0) * kernels.fill_cycles + writing / resident
