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

    Walking along a stripe of columns (`nm`), it is also no wider than a stripe of B that fits its buffer.
    """
    columns = arch.array.columns * turns.n
    widest = usable(arch.memories, arch.memories.c_buffer) / (ACCUMULATOR_BYTES * tile_m)
    if order == "nm":
        widest = np.minimum(widest, p.n * p.b.room / footprint(p.b, p.count))
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


def footprint(operand: Operand, count: np.ndarray) -> np.ndarray:
    """Bytes on chip [ops] of the operand of one product, indices included."""
    return (operand.dram_bytes + operand.dram_metadata) / count
