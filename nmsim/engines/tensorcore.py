"""The tensor-core model: thread-block tiles in waves over the cores of a GPU, under the rooflines of its memories.

A product is cut into output tiles, each reduced in one or `split` parts; the parts run in waves of one per core:

    waves = ceil(ceil(m/TM) ceil(n/TN) count split / cores)

A part takes the longer of its multiply-accumulates at the core's rate (N/M of them when n:m is skipped) and of
reading its operands from shared memory: once per warp tile, the dense operand of an n:m product M/N times faster.
Each wave pays a prologue and an epilogue. L2 serves every part its operands; DRAM serves what L2 cannot keep.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nmsim.arch.schema import TensorCoreArch
from nmsim.engines.products import Products
from nmsim.engines.tiling import ceil_div
from nmsim.engines.timing import Timing, Waterfall, total

PARTIAL_BYTES = 4
"""Partial sums of a split reduction are exchanged in 32 bits."""


@dataclass(frozen=True)
class Kernel:
    """A tiling: output tile of a thread block, and into how many parts its reduction is split; numbers or [ops]."""

    tile_m: np.ndarray | float
    tile_n: np.ndarray | float
    split_k: np.ndarray | float


def evaluate(arch: TensorCoreArch, p: Products) -> Timing:
    """Time, traffic and chosen kernel of each product."""
    kernel = choose(arch, p)
    fall, dram, port, padded = _run(arch, p, kernel)
    fall.plus("launch", np.full(len(p.m), arch.launch.floor * arch.clock))
    plan = {name: np.asarray(value) for name, value in vars(kernel).items()}
    peak = arch.cores.count * p.rate
    return Timing(fall.causes, dram, port, plan, executed=p.executed, useful=p.useful, padded=padded, peak=peak)


def choose(arch: TensorCoreArch, p: Products) -> Kernel:
    """The fastest kernel of each op, the first in the architecture file where times are equal."""
    best = np.full(len(p.m), np.inf)
    chosen = np.ones((3, len(p.m)))
    for candidate in _kernels(arch):
        cycles = _run(arch, p, candidate)[0].cycles
        better = cycles < best
        best = np.where(better, cycles, best)
        for row, value in enumerate((candidate.tile_m, candidate.tile_n, candidate.split_k)):
            np.copyto(chosen[row], value, where=better)
    return Kernel(*chosen)


def _kernels(arch: TensorCoreArch) -> Iterator[Kernel]:
    for (tile_m, tile_n), split in itertools.product(arch.kernels.tiles, sorted(arch.kernels.split_k)):
        yield Kernel(float(tile_m), float(tile_n), float(split))


def _run(
    arch: TensorCoreArch, p: Products, kernel: Kernel
) -> tuple[Waterfall, dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """The waterfall without launch, DRAM and L2 bytes per stream, and padded dense multiply-accumulates [ops]."""
    cores, clock = arch.cores, arch.clock
    grid_m, grid_n = ceil_div(p.m, kernel.tile_m), ceil_div(p.n, kernel.tile_n)
    parts = grid_m * grid_n * p.count * kernel.split_k
    waves = ceil_div(parts, cores.count)
    depth = ceil_div(p.k, kernel.split_k * arch.kernels.k_step) * arch.kernels.k_step
    peak = cores.count * p.rate
    kept = p.pattern_n / p.pattern_m

    fall = Waterfall(p.useful / peak)
    fall.at_least("unskipped", p.executed / peak)
    issue = waves * kernel.tile_m * kernel.tile_n * depth * kept / p.rate
    fall.at_least("granularity", issue)
    fall.at_least("issue", issue / cores.mma_efficiency)
    values, indices = _shared_memory_bytes(arch, p, kernel)
    width = cores.shared_memory_bandwidth
    fall.resource("operand_feed", waves * depth * values / width, waves * depth * indices / width)
    l2 = _l2_bytes(p, kernel, grid_m, grid_n)
    fall.resource("l2", total(l2) / (arch.memories.l2.bandwidth / clock))
    fall.plus("fill_drain", waves * arch.kernels.fill_cycles)
    dram = _dram_bytes(arch, p, grid_m, grid_n)
    per_cycle = arch.memories.dram.bandwidth * arch.memories.dram.efficiency / clock
    fall.resource("dram", (dram["a"] + dram["b"] + dram["c"]) / per_cycle, dram["metadata"] / per_cycle)
    padded = grid_m * kernel.tile_m * grid_n * kernel.tile_n * depth * kernel.split_k * p.count
    return fall, dram, l2, padded


def _shared_memory_bytes(arch: TensorCoreArch, p: Products, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of values and of indices that a tile moves through shared memory per element of k [ops].

    Each operand is written once and read once per warp tile across the other dimension.
    """
    warp_m, warp_n = arch.kernels.warp_tile
    a_times = 1 + np.maximum(kernel.tile_n / warp_n, 1.0)
    b_times = 1 + np.maximum(kernel.tile_m / warp_m, 1.0)
    values = kernel.tile_m * a_times * p.a.width * p.a.share + kernel.tile_n * b_times * p.b.width * p.b.share
    indices = kernel.tile_m * a_times * p.a.metadata + kernel.tile_n * b_times * p.b.metadata
    return values, indices


def _l2_bytes(p: Products, kernel: Kernel, grid_m: np.ndarray, grid_n: np.ndarray) -> dict[str, np.ndarray]:
    """Bytes between L2 and the cores per stream [ops]: each row of tiles reads A once per column of tiles."""
    a, b = p.m * p.k * p.count * grid_n, p.n * p.k * p.count * grid_m
    partial = np.where(np.asarray(kernel.split_k) > 1, 2.0 * kernel.split_k * PARTIAL_BYTES, 0.0)
    return {
        "a": a * p.a.width * p.a.share,
        "b": b * p.b.width * p.b.share,
        "c": p.c_bytes + p.m * p.n * p.count * partial,
        "metadata": a * p.a.metadata + b * p.b.metadata,
    }


def _dram_bytes(arch: TensorCoreArch, p: Products, grid_m: np.ndarray, grid_n: np.ndarray) -> dict[str, np.ndarray]:
    """DRAM bytes per stream [ops].

    Operands that L2 holds are read once. Otherwise the tiles running at a time cover a rectangle of the grid, shaped
    for the least traffic, and A is read once per rectangle across n, B once per rectangle across m. The products of
    a batch follow each other.
    """
    a = (p.a.dram_bytes + p.a.dram_metadata) / p.count
    b = (p.b.dram_bytes + p.b.dram_metadata) / p.count
    at_once = np.minimum(float(arch.cores.count), grid_m * grid_n)
    high = np.sqrt(at_once * b * grid_m / (np.maximum(a, 1.0) * grid_n))
    high = np.clip(high, np.maximum(at_once / grid_n, 1.0), np.minimum(grid_m, at_once))
    wide = np.minimum(at_once / high, grid_n)
    fits = a + b <= arch.memories.l2.size
    a_times = np.where(fits, 1.0, np.maximum(grid_n / wide, 1.0))
    b_times = np.where(fits, 1.0, np.maximum(grid_m / high, 1.0))
    return {
        "a": p.a.dram_bytes * a_times,
        "b": p.b.dram_bytes * b_times,
        "c": p.c_bytes,
        "metadata": p.a.dram_metadata * a_times + p.b.dram_metadata * b_times,
    }
