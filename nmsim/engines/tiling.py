"""Tiling of a product over the on-chip buffers: candidates, and the DRAM traffic that each causes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nmsim.arch.schema import ACCUMULATOR_BYTES, SystolicArch, usable
from nmsim.engines.products import Operand, Products

ORDERS = ("mn", "nm")
"""Loop orders over output tiles, outermost first: `mn` walks along a stripe of rows, `nm` along one of columns."""


@dataclass(frozen=True)
class Turns:
    """How many outputs a unit takes in turn, along m and along n [ops]; 1 where it does not interleave."""

    m: np.ndarray
    n: np.ndarray


def ceil_div(a: np.ndarray, b: np.ndarray | float) -> np.ndarray:
    """ceil(a / b) of positive whole numbers held as floats; exact below 2**53."""
    return np.ceil(a / b)


def tile_rows(arch: SystolicArch, p: Products, turns: Turns) -> Iterator[np.ndarray]:
    """Candidate heights [ops] of the tile of outputs kept on chip: powers of two times the smallest."""
    rows, columns = arch.array.rows * turns.m, arch.array.columns * turns.n
    most = np.maximum(usable(arch.memories, arch.memories.c_buffer) // (columns * ACCUMULATOR_BYTES), rows)
    whole_m = ceil_div(p.m, rows) * rows
    factor = 1
    while True:
        yield np.where(rows * factor <= most, np.minimum(rows * factor, whole_m), rows)
        factor *= 2
        if not np.any((rows * factor <= most) & (rows * factor < 2 * whole_m)):
            return


def tile_columns(arch: SystolicArch, p: Products, turns: Turns, tile_m: np.ndarray, order: str) -> np.ndarray:
    """The widest tile [ops] of that height whose 32-bit sums fit the accumulators, in steps of the smallest.

    Walking along a stripe of columns (`nm`), it is also no wider than a stripe of B that fits its buffer; where all of
    A stays, which no width makes costlier, only as wide as gives each array a part of the stripe: B comes in short
    stripes then, and little of it has to be there before the work begins.
    """
    columns = arch.array.columns * turns.n
    widest = usable(arch.memories, arch.memories.c_buffer) / (ACCUMULATOR_BYTES * tile_m)
    if order == "nm":
        a_size, b_size = (footprint(x, p.count) for x in (p.a, p.b))
        least = columns * ceil_div(arch.array.count / p.count, ceil_div(p.m, tile_m))
        widest = np.minimum(np.minimum(widest, p.n * p.b.room / b_size), np.where(a_size <= p.a.room, least, np.inf))
    return np.clip(np.floor(widest / columns) * columns, columns, ceil_div(p.n, columns) * columns)


def fits(p: Products, tile_m: np.ndarray, tile_n: np.ndarray, order: str) -> tuple[np.ndarray, np.ndarray]:
    """Whether A and B stay in their buffers as long as they are needed (boolean [ops]).

    Walking along a stripe of rows (`mn`) that is the stripe of A and all of B; `nm` the other way round.
    """
    a_stripe, b_stripe = (tile_m / p.m, 1.0) if order == "mn" else (1.0, tile_n / p.n)
    a_fits = footprint(p.a, p.count) * np.minimum(a_stripe, 1.0) <= p.a.room
    b_fits = footprint(p.b, p.count) * np.minimum(b_stripe, 1.0) <= p.b.room
    return a_fits, b_fits


def refetches(
    p: Products, tile_m: np.ndarray, tile_n: np.ndarray, keep_a: np.ndarray, keep_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How often A and B are read from DRAM [ops] when output tiles are finished one after another.

    Once if the operand is kept on chip (boolean [ops]), else A once per tile of columns and B once per stripe of rows.
    C is written once.
    """
    return np.where(keep_a, 1.0, ceil_div(p.n, tile_n)), np.where(keep_b, 1.0, ceil_div(p.m, tile_m))


def side_by_side(
    arch: SystolicArch, turns: Turns, tile_m: np.ndarray, tile_n: np.ndarray, keep_b: np.ndarray, whole_stripes: bool
) -> np.ndarray:
    """How many tiles above each other several arrays work on at a time [ops], where one has not work for all of them.

    An array takes a fold of a tile, or with `whole_stripes` (stationary operands) all its rows; B must stay on chip to
    serve several stripes, and the sums of all have to fit.
    """
    ones = np.ones(len(tile_m))
    if arch.array.count == 1:
        return ones
    high = ones if whole_stripes else ceil_div(tile_m, arch.array.rows * turns.m)
    wanted = ceil_div(arch.array.count / (high * ceil_div(tile_n, arch.array.columns * turns.n)), 1.0)
    room = np.floor(usable(arch.memories, arch.memories.c_buffer) / (ACCUMULATOR_BYTES * tile_m * tile_n))
    return np.where(keep_b, np.clip(room, 1.0, wanted), ones)


def with_ends(
    p: Products, tile_m: np.ndarray, tile_n: np.ndarray, loads: tuple[np.ndarray, np.ndarray], order: str,
    cycles: np.ndarray, bytes_per_cycle: float,
) -> np.ndarray:  # fmt: skip
    """Cycles [ops] of the array (`cycles`) with the first loads and the last store, of `loads` bytes of A and B in all.

    What the first tile needs, and what the first stripe needs, must be there before the tiles after it begin, and the
    last tile is stored when all is computed: the longest path through a max-plus pipeline (as in
    `nmsim/engines/recurrence.py`) whose pieces are whole tiles.
    """
    rows, columns = ceil_div(p.m, tile_m), ceil_div(p.n, tile_n)
    stripes, tiles = (rows if order == "mn" else columns) * p.count, rows * columns * p.count
    a, b = footprint(p.a, p.count), footprint(p.b, p.count)
    stripe = loads[0] / stripes + b if order == "mn" else a + loads[1] / stripes
    of_stripe = stripe / bytes_per_cycle - cycles / stripes
    of_tile = (a / rows + b / columns) / bytes_per_cycle - cycles / tiles
    return cycles + np.maximum(np.maximum(of_stripe, of_tile), 0.0) + p.c_bytes / tiles / bytes_per_cycle


def footprint(operand: Operand, count: np.ndarray) -> np.ndarray:
    """Bytes on chip [ops] of the operand of one product, indices included."""
    return (operand.dram_bytes + operand.dram_metadata) / count
