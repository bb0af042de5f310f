"""The CPU model: the dense kernel of a library on SIMD cores, under the bandwidth of every level of memory.

C[m,n] = A[m,k]·B[k,n] is cut into tiles of outputs that stay in registers, R0 rows of R1 sums in SIMD vectors, which
lie along m or n, whichever wastes less; the tiles are shared among P cores of r multiply-accumulates per cycle:

    fma = ceil(tiles/P) R0 R1 k / r             packing = (m k + k n) c/P cycles, before the products begin

`packing` copies both operands into the order of the blocks (Goto and van de Geijn, ACM TOMS 34(3), 2008). A product
with a vector (m or n = 1) is neither tiled nor packed; its lanes run along the other dimension or along k.

Each level serves the one within: registers take A once per R1 columns and B once per R0 rows from L1. A cache of Z
bytes that holds all three operands takes each once; else it keeps tm x tn outputs, tm tn = Z/4, as near to a square
as the product lets it, and takes A n/tn times and B m/tm times. The last level takes these from DRAM. The slowest of
fma and the caches binds; beside these and the packing work DRAM and the lanes that widen operands of a narrower type.
Where n:m is a mode of the machine, n/m of the multiply-accumulates and of the values are left.

By hand: m = n = k = 64 in fp32 on one core with r = 16, tiles of 4 x 16 and c = 1: 16 * 4 tiles * 64 outputs * 64 / 16
= 16384 cycles and 2 * 64 * 64 = 8192 for packing. From L1 64*64*4 B * (64/16 + 64/4) and 16384 B of C, 344064 B: at 64
a cycle 5376 cycles, which hide behind the products.

Kernels that gather, for operands with weights kept at any place, are in `gathers`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmsim.arch.schema import ACCUMULATOR_BYTES, CpuArch
from nmsim.engines.products import Products
from nmsim.engines.tiling import ceil_div
from nmsim.engines.timing import Timing, Waterfall

Traffic = dict[str, np.ndarray]
"""Bytes per stream (a, b, c, metadata) [ops]."""


def evaluate(arch: CpuArch, p: Products) -> Timing:
    """Time and traffic of each product with the dense kernel, zeros that the machine has no mode for multiplied."""
    cores, clock = arch.cores, arch.clock
    vector = np.minimum(p.m, p.n) == 1
    high, wide = _register_tile(arch, p)
    high, wide = np.where(vector, np.minimum(p.m, high), high), np.where(vector, np.minimum(p.n, wide), wide)
    tiles = ceil_div(p.m, high) * ceil_div(p.n, wide) * p.count
    peak = cores.count * p.rate

    fall = Waterfall(p.useful / peak)
    fall.at_least("unskipped", p.executed / peak)
    fall.at_least("granularity", ceil_div(tiles, cores.count) * high * wide * p.kept / p.rate)
    fall.at_least("issue", ceil_div(tiles, cores.count) * high * wide * p.kept / p.rate / cores.fma_efficiency)
    *near, (_, dram, dram_rate) = _levels(arch, p, high, wide)
    for cause, traffic, per_cycle in near:
        fall.resource(cause, _values(traffic) / per_cycle, traffic["metadata"] / per_cycle)
    copied = (p.m * p.k * p.a.share + p.k * p.n * p.b.share) * p.count
    widening = (p.m * p.k * p.a.share * p.a.widening + p.k * p.n * p.b.share * p.b.widening) * p.count
    fall.plus("operand_feed", np.where(vector, 0.0, copied * cores.packing / cores.count))
    if p.widens:
        fall.resource("operand_feed", widening / arch.vector.lanes)
    fall.resource("dram", _values(dram) / dram_rate, dram["metadata"] / dram_rate)
    fall.plus("launch", np.full(len(p.m), arch.launch.seconds * clock))
    plan = {"tile_m": high, "tile_n": wide}
    return Timing(
        fall.causes, dram, near[1][1], plan, executed=p.executed, useful=p.useful,
        padded=tiles * high * wide * p.k, peak=peak, lane_ops=widening,
    )  # fmt: skip


def _values(traffic: Traffic) -> np.ndarray:
    return np.asarray(traffic["a"] + traffic["b"] + traffic["c"])


def _register_tile(arch: CpuArch, p: Products) -> tuple[np.ndarray, np.ndarray]:
    """The tile along m and n that pads fewer outputs: rows, and the sums that vectors hold."""
    rows, vectors = map(float, arch.cores.register_tile)
    width = np.maximum(np.maximum(p.a.width, p.b.width), ACCUMULATOR_BYTES)
    r0, r1 = rows, np.maximum(np.floor(arch.cores.simd / width), 1.0) * vectors
    upright = ceil_div(p.m, r0) * ceil_div(p.n, r1) <= ceil_div(p.m, r1) * ceil_div(p.n, r0)
    return np.where(upright, r0, r1), np.where(upright, r1, r0)


def _levels(arch: CpuArch, p: Products, high: np.ndarray, wide: np.ndarray) -> Iterator[tuple[str, Traffic, float]]:
    """For each level from L1 outwards: the cause of its waits, what it serves, and its bytes per cycle to all cores."""
    m, cores = arch.memories, arch.cores.count
    yield "operand_feed", _streamed(p, ceil_div(p.n, wide), ceil_div(p.m, high)), m.l1.bandwidth * cores
    yield "l2", _blocked(p, m.l1.size), m.l2.bandwidth * cores
    last = m.l2
    if m.l3 is not None:
        yield "l2", _blocked(p, m.l2.size), m.l3.bandwidth * cores
        last = m.l3
    yield "dram", _from_dram(p, last.size), m.dram.bandwidth * m.dram.efficiency / arch.clock


def _times(p: Products, size: float) -> tuple[np.ndarray, np.ndarray]:
    """How often a cache of `size` bytes takes A and B of each product."""
    values = p.m * p.k * p.a.share * p.a.width + p.k * p.n * p.b.share * p.b.width
    fits = values + p.m * p.n * ACCUMULATOR_BYTES <= size
    outputs = max(size / ACCUMULATOR_BYTES, 1.0)
    side = np.sqrt(outputs)
    tile_m = np.minimum(p.m, np.maximum(side, outputs / np.minimum(p.n, side)))
    tile_n = np.minimum(p.n, np.maximum(side, outputs / np.minimum(p.m, side)))
    return np.where(fits, 1.0, np.maximum(p.n / tile_n, 1.0)), np.where(fits, 1.0, np.maximum(p.m / tile_m, 1.0))


def _blocked(p: Products, size: float) -> Traffic:
    return _streamed(p, *_times(p, size))


def _streamed(p: Products, a_times: np.ndarray, b_times: np.ndarray) -> Traffic:
    """Bytes of each stream when A and B pass so often; copies that a convolution makes of its input pass too."""
    a, b = p.m * p.k * p.count * a_times, p.k * p.n * p.count * b_times
    return {
        "a": a * p.a.share * p.a.width,
        "b": b * p.b.share * p.b.width,
        "c": p.c_bytes,
        "metadata": a * p.a.metadata + b * p.b.metadata,
    }


def _from_dram(p: Products, size: float) -> Traffic:
    a_times, b_times = _times(p, size)
    return {
        "a": p.a.dram_bytes * a_times,
        "b": p.b.dram_bytes * b_times,
        "c": p.c_bytes,
        "metadata": p.a.dram_metadata * a_times + p.b.dram_metadata * b_times,
    }
