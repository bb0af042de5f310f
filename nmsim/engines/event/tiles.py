"""The tiles of a product on a systolic array: the plan of the analytic engine, cut into pieces that fit the buffers.

The plan gives the tile of outputs that the accumulators keep, the order in which tiles are finished, and what is
fetched again (`tiling.refetches`). A tile is cut further where its operands exceed half a buffer (along k), or where
an op has fewer than PIECES tiles, along the dimension that leaves least to wait for: a cut along k ends with a whole
tile of C to store, one along n begins with a whole tile of A to load, one along m with one of B (not through a tile of
stationary operands, which are loaded once for it). Where a tile has not work for all of several arrays, those above
each other that they work on side by side are taken as one, and may be cut apart again. A tile takes the cycles that one
more of its kind adds to an op.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nmsim.arch.schema import SystolicArch
from nmsim.engines.dataflows import output_stationary, stationary_operand
from nmsim.engines.event.stream import Piece, Run, Stream, merged, shared
from nmsim.engines.products import Products, dense_where, take, transposed
from nmsim.engines.systolic import DATAFLOWS, Plan, on_chip
from nmsim.engines.tiling import ORDERS, Turns, ceil_div, footprint, refetches, side_by_side
from nmsim.errors import UnsupportedError

PIECES = 32
"""Pieces that an op is cut into where its tiles are fewer, so that the first load and the last store stay short."""
SHORTEST = 8
"""Cycles below which a piece is not cut on."""
FLAT = 4096
"""Pieces of one product that are listed as one block of the products of an op."""


@dataclass(frozen=True)
class Grid:
    """The tiles of each op [ops], seen so that what is stationary is B (m and n exchanged where A is).

    `beside` of the plan's tiles above each other are one here. `cycles` of a tile of full or last height and full or
    last width [2, 2, ops]; `fill` cycles before the first.
    """

    view: Products
    dataflow: str
    order: str
    tile_m: np.ndarray
    tile_n: np.ndarray
    beside: np.ndarray
    a_times: np.ndarray
    b_times: np.ndarray
    cycles: np.ndarray
    fill: np.ndarray
    turns: Turns


def streams(arch: SystolicArch, p: Products, plan: Plan, weights: np.ndarray, names: list[str]) -> list[Stream]:
    """The stream of each product; raises UnsupportedError for a tile that fits no buffer, by the name of its op.

    `weights` [ops] tells which operand holds weights, as an index of SIDES.
    """
    found: dict[int, Stream] = {}
    p = dense_where(p, plan.dense > 0)
    for dataflow, name in enumerate(DATAFLOWS):
        for order, letters in enumerate(ORDERS):
            rows = np.flatnonzero((plan.dataflow == dataflow) & (plan.order == order))
            if len(rows):
                part, choice, sides = take(p, rows), plan.take(rows), weights[rows]
                if name == "is":
                    part, choice, letters = transposed(part), choice.transposed(), letters[::-1]
                    sides = np.array([0, 2, 1])[sides]
                grid = _grid(arch, part, choice, name, letters)
                for i, row in enumerate(rows):
                    found[int(row)] = _stream(grid, i, names[row], int(sides[i]))
    return [found[row] for row in range(len(names))]


def _grid(arch: SystolicArch, p: Products, plan: Plan, name: str, order: str) -> Grid:
    turns = Turns(plan.turns_m, plan.turns_n)
    beside = side_by_side(arch, turns, plan.tile_m, plan.tile_n, plan.keep_b > 0, name != "os")
    tile_m, tile_n = np.minimum(plan.tile_m * beside, p.m), np.minimum(plan.tile_n, p.n)
    last_m = p.m - (ceil_div(p.m, tile_m) - 1) * tile_m
    last_n = p.n - (ceil_div(p.n, tile_n) - 1) * tile_n
    cycles = np.array(
        [[_marginal(arch, p, name, turns, plan.tile_m, m, n) for n in (tile_n, last_n)] for m in (tile_m, last_m)]
    )
    whole, fill = _on_chip(arch, p, name, turns, plan.tile_m)
    if arch.array.fold_overlap == "none":
        fill = np.zeros(len(p.m))
    if arch.array.count > 1 or arch.array.fold_overlap == "none":
        rows, columns = ceil_div(p.m, tile_m), ceil_div(p.n, tile_n)
        many = np.array([[(rows - 1) * (columns - 1), rows - 1], [columns - 1, np.ones(len(rows))]])
        cycles = cycles * (whole - fill) / (np.sum(many * cycles, axis=(0, 1)) * p.count)
    a_times, b_times = refetches(p, plan.tile_m, plan.tile_n, plan.keep_a > 0, plan.keep_b > 0)
    return Grid(p, name, order, tile_m, tile_n, beside, a_times, b_times, np.round(cycles), np.round(fill), turns)


def _marginal(
    arch: SystolicArch, p: Products, name: str, turns: Turns, stripe: np.ndarray, m: np.ndarray, n: np.ndarray
) -> np.ndarray:
    """Cycles that one more tile of m x n outputs adds to an op that has some [ops]."""
    few, more = (
        _on_chip(arch, _sized(p, m, n, number), name, turns, stripe)[0]
        for number in (arch.array.count, 2 * arch.array.count)
    )
    return (more - few) / arch.array.count


def _sized(p: Products, m: np.ndarray, n: np.ndarray, count: int) -> Products:
    counts = np.full(len(m), float(count))
    return replace(p, m=m, n=n, count=counts, useful=np.zeros(len(m)), executed=m * n * p.kept * counts)


def _on_chip(
    arch: SystolicArch, p: Products, name: str, turns: Turns, stripe: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cycles on chip of these products, and of them to fill and drain the array [ops]."""
    passes = output_stationary(arch, p, turns) if name == "os" else stationary_operand(arch, p, stripe)
    return on_chip(arch, p, passes).cycles, passes.fill


class _Op:
    """One op of a grid as plain numbers: tiles, slices, bytes per tile."""

    def __init__(self, grid: Grid, i: int, name: str):
        p = grid.view
        self.m, self.n, self.k, self.count = (int(x[i]) for x in (p.m, p.n, p.k, p.count))
        self.tile_m, self.tile_n = int(grid.tile_m[i]), int(grid.tile_n[i])
        self.rows, self.columns = -(-self.m // self.tile_m), -(-self.n // self.tile_n)
        self.a_again, self.b_again = (bool(times[i] > 1) for times in (grid.a_times, grid.b_times))
        self.cycles = grid.cycles[:, :, i]
        self.fill = int(grid.fill[i])
        self.kept = int(p.kept[i])
        self.a_total, self.b_total = (round(x.dram_bytes[i] + x.dram_metadata[i]) for x in (p.a, p.b))
        self.c_total = int(np.ceil(p.c_bytes[i]))
        self.along, self.slices = self._cut(grid, i, name)

    def _cut(self, grid: Grid, i: int, name: str) -> tuple[str, int]:
        """The dimension along which tiles are cut, and into how many slices."""
        p = grid.view
        a, b = footprint(p.a, p.count)[i] * self.tile_m / self.m, footprint(p.b, p.count)[i] * self.tile_n / self.n
        a_room, b_room = p.a.room[i], p.b.room[i]
        fits = int(np.ceil(max(a / a_room, b / b_room)))
        steps = -(-self.k // int(p.pattern_m[i]))
        self.fits = max(fits, 1)
        if fits > steps:
            _refuse(grid, i, name, (a / steps, a_room), (b / steps, b_room))
        wanted = max(
            fits, min(-(-PIECES // (self.rows * self.columns * self.count)), int(self.cycles.max()) // SHORTEST)
        )
        if fits > 1:
            return "k", min(wanted, steps)
        c = self.c_total / self.count * (self.tile_m / self.m) * (self.tile_n / self.n)
        rows = self.tile_m if grid.dataflow == "os" else int(grid.beside[i])
        together = {"k": (c, steps), "n": (a, self.tile_n), "m": (b, rows)}
        slices = {x: max(min(wanted, most), 1) for x, (_, most) in together.items()}
        along = min(slices, key=lambda x: together[x][0] + (a + b + c - together[x][0]) / slices[x])
        return along, slices[along]


def _refuse(grid: Grid, i: int, name: str, a: tuple[float, float], b: tuple[float, float]) -> None:
    (letter, (size, room)) = max((("A", a), ("B", b)), key=lambda x: x[1][0] / x[1][1])
    tile = grid.tile_m[i] if letter == "A" else grid.tile_n[i]
    if grid.dataflow == "is":
        letter = "B" if letter == "A" else "A"
    most = int(tile * room // size)
    what = "rows" if letter == "A" else "columns"
    fits = f"{most} {what} would" if most else "not even one would"
    raise UnsupportedError(
        f"{name}: a tile of {int(tile)} {what} of operand {letter}, one group of k deep, takes "
        f"{size:.0f} B, but the buffer has room for {room:.0f} B; {fits} fit (memories.{letter.lower()}_buffer, "
        "half of it when double_buffered)"
    )


def _product(op: _Op, order: str, a: int, b: int, c: int) -> list[Run]:
    """The runs of one product with so many bytes of each operand."""
    outer, inner = (op.rows, op.columns) if order == "mn" else (op.columns, op.rows)

    def tile(out: int, within: int) -> tuple[Piece, ...]:
        i, j = (out, within) if order == "mn" else (within, out)
        return _tile(op, i, j, _part(a, op.tile_m, op.m, i), _part(b, op.tile_n, op.n, j), c)

    def stripe(out: int) -> list[Run]:
        return [Run(tile(out, within), times) for within, times in _alike(inner)]

    stripes = [(stripe(out), times) for out, times in _alike(outer)]
    if outer < inner:
        return [run for runs, times in stripes for run in runs * times]
    return [Run(flat(runs), times) for runs, times in stripes]


def _alike(number: int) -> list[tuple[int, int]]:
    """The first, a middle one and the last of so many, and how many there are of each."""
    if number <= 2:
        return [(index, 1) for index in range(number)]
    return [(0, 1), (1, number - 2), (number - 1, 1)]


def flat(runs: list[Run]) -> tuple[Piece, ...]:
    """The pieces of these runs as one block."""
    return tuple(piece for run in runs for piece in run.pieces * run.times)


def _part(total: int, tile: int, size: int, index: int) -> int:
    """Bytes of a tile of an operand: all alike but for the last, which takes the rest."""
    each = total * tile // size
    return each if (index + 1) * tile < size else total - index * each


def _loads(op: _Op, a: int, b: int) -> tuple[list[int], list[int]]:
    """Bytes of each operand that the slices of a tile load; what all slices share comes with the first."""
    at_once = [0] * (op.slices - 1)
    return (
        [a, *at_once] if op.along == "n" else shared(a, op.slices),
        [b, *at_once] if op.along == "m" else shared(b, op.slices),
    )


def _tile(op: _Op, i: int, j: int, a: int, b: int, c: int) -> tuple[Piece, ...]:
    """The pieces of the tile in row i and column j, whose operands have a and b bytes; c are those of the product."""
    tall, wide = (i + 1) * op.tile_m < op.m, (j + 1) * op.tile_n < op.n
    high = op.tile_m if tall else op.m - i * op.tile_m
    broad = op.tile_n if wide else op.n - j * op.tile_n
    a = a if op.a_again or j == 0 else 0
    b = b if op.b_again or i == 0 else 0
    c = _part(_part(c, op.tile_m, op.m, i), op.tile_n, op.n, j)
    number = op.slices
    cycles = shared(int(op.cycles[1 - tall, 1 - wide]), number)
    work = shared(high * broad * op.kept, number)
    a_parts, b_parts = _loads(op, a, b)
    c_parts = [0] * (number - 1) + [c] if op.along == "k" else shared(c, number)
    return tuple(
        Piece(x + y, time, out, macs)
        for x, y, time, out, macs in zip(a_parts, b_parts, cycles, c_parts, work, strict=True)
    )


def _stream(grid: Grid, i: int, name: str, weight: int) -> Stream:
    """The pieces of one op, whose weights are operand A (1) or B (2) if it has any."""
    op = _Op(grid, i, name)
    sizes = [shared(total, op.count)[j] for j in (0, -1) for total in (op.a_total, op.b_total, op.c_total)]
    product, last = _product(op, grid.order, *sizes[:3]), _product(op, grid.order, *sizes[3:])
    if op.count == 1:
        runs = last
    elif sum(run.times * len(run.pieces) for run in product) <= FLAT:
        runs = [Run(flat(product), op.count - 1), *last]
    else:
        runs = product * (op.count - 1) + last
    weights, ready = _weights(grid, op, i, weight, sizes[:2])
    whole = merged(_with_fill(runs, op.fill))
    return Stream("array", whole, weights=weights, ready=ready, slices=_pieces_that_fit(grid, op, i))


def _weights(grid: Grid, op: _Op, i: int, weight: int, sizes: list[int]) -> tuple[tuple[int, ...], int]:
    """Bytes of weights that the slices of a tile load, and how many of them can be fetched ahead: those of the first
    tile, or of all tiles of the first stripe where each brings its own; no more than half of the buffer holds."""
    if not weight:
        return (), 0
    p = grid.view
    operand, tile, size = ((p.a, op.tile_m, op.m), (p.b, op.tile_n, op.n))[weight - 1]
    whole = sizes[weight - 1]
    first = _part(whole, tile, size, 0)
    each_tile = (grid.order == "mn") == (weight == 2)
    loads = _loads(op, *((first, 0) if weight == 1 else (0, first)))[weight - 1]
    return tuple(loads), min(whole if each_tile else first, int(operand.room[i]))


def _pieces_that_fit(grid: Grid, op: _Op, i: int) -> int:
    """Pieces that load something whose operands fit into half of the buffers, whichever operand fits fewer times.

    An operand that is fetched for each tile takes room for a tile; one that stays along a stripe, or for the whole
    product, takes room for that, and serves all pieces of it.
    """
    p, mn = grid.view, grid.order == "mn"
    inner, outer = (op.columns, op.rows) if mn else (op.rows, op.columns)
    again = (op.a_again, op.b_again) if mn else (op.b_again, op.a_again)
    stripe = op.slices * (inner if any(again) else 1)
    product = op.slices * inner + stripe * (outer - 1)
    shares = (op.tile_m / op.m, op.tile_n / op.n) if mn else (op.tile_n / op.n, op.tile_m / op.m)
    taken = ((op.slices if again[0] else stripe, shares[0]), (op.slices, shares[1]) if again[1] else (product, 1.0))
    fit = []
    for operand, (pieces, share) in zip((p.a, p.b) if mn else (p.b, p.a), taken, strict=True):
        size = footprint(operand, p.count)[i] * share
        fit.append(pieces * (operand.room[i] // size) if size <= operand.room[i] else op.slices // op.fits)
    return max(int(min(fit)), 1)


def _with_fill(runs: list[Run], fill: int) -> list[Run]:
    """The first piece also fills the array."""
    if not fill:
        return runs
    (first, *rest), times = runs[0]
    begun = Run((first._replace(cycles=first.cycles + fill), *rest), 1)
    return [begun, *([Run(runs[0].pieces, times - 1)] if times > 1 else []), *runs[1:]]
