"""What the kernels of a GPU move: through shared memory per core, between L2 and the cores, and from DRAM.

Only the kept values of an n:m operand move, with their indices. Where a V:n:m operand shares 4 columns of every m
among V rows, only the rows of the other operand that go with these columns are read by the cores (`condensed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nmsim.arch.capability import SIDES
from nmsim.arch.gpu import Kernels
from nmsim.arch.schema import ACCUMULATOR_BYTES, TensorCoreArch
from nmsim.engines.products import Products
from nmsim.engines.tiling import ceil_div

PARTIAL_BYTES = 4
"""Partial sums of a split reduction are exchanged in 32 bits."""

COLUMNS_KEPT = 4
"""Columns of every m that a block of V rows of a V:n:m operand shares."""


@dataclass(frozen=True)
class Kernel:
    """A tiling: output tile of a thread block, into how many parts its reduction is split, and whether tiles are
    shared evenly among the cores (stream-K); numbers or [ops]."""

    tile_m: np.ndarray | float
    tile_n: np.ndarray | float
    split_k: np.ndarray | float
    stream_k: np.ndarray | float


def condensed(p: Products) -> tuple[np.ndarray | float, np.ndarray | float]:
    """The shares of k along which the cores read A and B [ops]; 1 but for the operand opposite a V:n:m one."""
    if not p.block.any():
        return 1.0, 1.0
    share = np.where(p.block > 0, np.minimum(COLUMNS_KEPT / p.pattern_m, 1.0), 1.0)
    return np.where(p.side == 2, share, 1.0), np.where(p.side == 1, share, 1.0)


def shared_memory_bytes(arch: TensorCoreArch, p: Products, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of values and of indices that a tile moves through shared memory per element of k [ops].

    Each operand is written once and read once per warp tile across the other dimension.
    """
    a_read, b_read = condensed(p)
    a_times, b_times = (1.0 + times for times in _reads(arch.kernels, p, kernel))
    a = kernel.tile_m * a_times * p.a.width * p.a.share * a_read
    b = kernel.tile_n * b_times * p.b.width * p.b.share * b_read
    indices = kernel.tile_m * a_times * p.a.metadata + kernel.tile_n * b_times * p.b.metadata
    return a + b, indices


def _reads(kernels: Kernels, p: Products, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """How often a tile reads its part of A and of B from shared memory [ops]: once per warp tile across the other.

    With n:m in B the product runs transposed, warp tiles included.
    """
    transposed = p.side == SIDES.index("B")
    high, wide = (float(size) for size in kernels.warp_tile)
    warp_m, warp_n = np.where(transposed, wide, high), np.where(transposed, high, wide)
    across = np.sqrt(kernels.warps)
    return np.maximum(kernel.tile_n / warp_n, across), np.maximum(kernel.tile_m / warp_m, across)


def widening(arch: TensorCoreArch, p: Products, kernel: Kernel) -> np.ndarray:
    """Operations that widen operands [ops]: each value that a warp tile reads, spread evenly over all lanes."""
    a_read, b_read = condensed(p)
    a_times, b_times = _reads(arch.kernels, p, kernel)
    a = kernel.tile_m * a_times * p.a.share * a_read * p.a.widening
    b = kernel.tile_n * b_times * p.b.share * b_read * p.b.widening
    return ceil_div(p.m, kernel.tile_m) * ceil_div(p.n, kernel.tile_n) * p.k * p.count * (a + b)


def l2_bytes(arch: TensorCoreArch, p: Products, kernel: Kernel) -> dict[str, np.ndarray]:
    """Bytes between L2 and the cores per stream [ops]: each row of tiles reads A once per column of tiles.

    Thread blocks of a cluster lie next to each other along m or n, whichever saves more, and get the operand that
    they share by one read. Parts of a split reduction write and read their sums once.
    """
    grid_m, grid_n = ceil_div(p.m, kernel.tile_m), ceil_div(p.n, kernel.tile_n)
    a_read, b_read = condensed(p)
    a, b = p.m * p.k * p.count * grid_n, p.n * p.k * p.count * grid_m
    a_bytes, b_bytes = a * a_read * p.a.width * p.a.share, b * b_read * p.b.width * p.b.share
    a_shared, b_shared = (np.minimum(float(arch.kernels.multicast), grid) for grid in (grid_n, grid_m))
    along_m = b_bytes * (1.0 - 1.0 / b_shared) > a_bytes * (1.0 - 1.0 / a_shared)
    a_shared, b_shared = np.where(along_m, 1.0, a_shared), np.where(along_m, b_shared, 1.0)
    return {
        "a": a_bytes / a_shared,
        "b": b_bytes / b_shared,
        "c": p.c_bytes + 2.0 * partial_bytes(p, kernel),
        "metadata": a * p.a.metadata / a_shared + b * p.b.metadata / b_shared,
    }


def partial_bytes(p: Products, kernel: Kernel) -> np.ndarray:
    """Bytes of partial sums [ops], 0 where no reduction is split; with stream-K a tile has at most two parts."""
    split = np.maximum(np.asarray(kernel.split_k), 1.0 + np.asarray(kernel.stream_k))
    return p.m * p.n * p.count * np.where(split > 1, split * PARTIAL_BYTES, 0.0)


def dram_bandwidth(arch: TensorCoreArch) -> float:
    """Bytes per second that kernels of products get of DRAM."""
    return arch.memories.dram.bandwidth * arch.memories.dram.efficiency * arch.kernels.dram_efficiency


def dram_bytes(arch: TensorCoreArch, p: Products, kernel: Kernel, order: np.ndarray) -> dict[str, np.ndarray]:
    """DRAM bytes per stream [ops].

    Operands that L2 holds are read once. Otherwise the tiles running at a time cover a rectangle of the grid, and A
    is read once per rectangle across n, B once per rectangle across m. The rectangle has the shape of least traffic;
    where the `order` [ops] of thread blocks is to follow m (1) or n (-1), it is as high or as wide as the grid, or as
    the tiles reach.
    The products of a batch follow each other. Opposite a V:n:m operand only what its blocks keep is read.
    """
    grid_m, grid_n = ceil_div(p.m, kernel.tile_m), ceil_div(p.n, kernel.tile_n)
    a_share, b_share = _touched(p)
    a = (p.a.dram_bytes * a_share + p.a.dram_metadata) / p.count
    b = (p.b.dram_bytes * b_share + p.b.dram_metadata) / p.count
    at_once = np.minimum(float(arch.cores.count), grid_m * grid_n)
    high = np.sqrt(at_once * b * grid_m / (np.maximum(a, 1.0) * grid_n))
    high = np.select([order > 0, order < 0], [grid_m, np.ones_like(high)], high)
    high = np.clip(high, np.maximum(at_once / grid_n, 1.0), np.minimum(grid_m, at_once))
    wide = np.minimum(at_once / high, grid_n)
    fits = a + b <= arch.memories.l2.size
    a_times = np.where(fits, 1.0, np.maximum(grid_n / wide, 1.0))
    b_times = np.where(fits, 1.0, np.maximum(grid_m / high, 1.0))
    return {
        "a": p.a.dram_bytes * a_share * a_times,
        "b": p.b.dram_bytes * b_share * b_times,
        "c": p.c_bytes,
        "metadata": p.a.dram_metadata * a_times + p.b.dram_metadata * b_times,
    }


def joining_cycles(arch: TensorCoreArch, p: Products, kernel: Kernel) -> np.ndarray:
    """Cycles after the last part of a split reduction [ops]: partial sums are written and read, then added.

    They pass through L2 where it holds them, else at the speed of DRAM (but are not counted among its bytes).
    """
    partial, memories = partial_bytes(p, kernel), arch.memories
    held = partial <= memories.l2.size
    bandwidth = np.where(held, memories.l2.bandwidth, dram_bandwidth(arch))
    return np.where(partial > 0, 2.0 * partial / (bandwidth / arch.clock) + arch.kernels.fill_cycles, 0.0)


def fetching(
    arch: TensorCoreArch,
    p: Products,
    kernel: Kernel,
    waves: np.ndarray,
    steps: np.ndarray,
    each: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Cycles in which a core gets the operands that L2 does not hold [ops]; `waves` of thread blocks follow each other
    on it, each of `steps` steps, for which it fetches the bytes `each` of A and B.

    Kernels that ask one step ahead wait for DRAM in every step, those side by side at the same time; what lies along k
    has a rate of its own.
    """
    waiting = np.ceil(waves / side_by_side(arch.kernels, kernel)) * steps * (arch.kernels.latency or 0)
    moving = sum((waves * each[name] / rate for name, rate in arch.kernels.along_k.items()), np.zeros(len(p.m)))
    outgrown = (p.a.dram_bytes + p.b.dram_bytes) / p.count > arch.memories.l2.size
    return np.where(outgrown, np.maximum(waiting, moving), 0.0)


def side_by_side(kernels: Kernels, kernel: Kernel) -> np.ndarray:
    """Thread blocks whose sums the registers of a core hold [ops], but at least one."""
    tile = np.asarray(kernel.tile_m * kernel.tile_n) * ACCUMULATOR_BYTES
    return np.maximum(np.floor(kernels.accumulators / tile), 1.0)


def _touched(p: Products) -> tuple[np.ndarray | float, np.ndarray | float]:
    """The shares of A and B that are read at all [ops], expected where blocks keep their columns independently.

    With b blocks that keep a share c of the columns each, 1 - (1 - c)^b of them are kept by some block.
    """
    read = condensed(p)
    if not p.block.any():
        return read
    lengths = (p.n, p.m)
    blocks = (np.ceil(length / np.maximum(p.block, 1.0)) for length in lengths)
    a, b = (1.0 - (1.0 - share) ** number for share, number in zip(read, blocks, strict=True))
    return a, b
