"""The dataflows of a systolic array: output, weight and input stationary, dense or skipping n:m groups, plain or SAT.

Cycles of one array of R x C units, for C[m,n] = A[m,k]·B[k,n] with k' of k left (k' = floor(k/M) N + min(N, k mod M)):

    OS  folds = ceil(m/R) ceil(n/C), each k' cycles, fill and drain R + C - 2
    WS  folds = ceil(k'/R) ceil(n/C), each m cycles, fill and drain 2R + C - 2
    IS  as WS with m and n exchanged

`fold_overlap: none` pays the fill at every fold (SCALE-Sim's count), `pipelined` once per op; a stationary tile is
then loaded behind the one before, which shows only where a fold is shorter than its loading. An adder of latency L
makes every OS step take L cycles unless i outputs are interleaved: i k' max(1, L/i) per tile of iR rows (or iC
columns). In WS sums travel on, so that single values never wait; but a unit adds the N products of a group to one sum,
each after the one before: i <= L rows of A in turn take N - 1 rounds of L cycles and a last of i.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmsim.arch.capability import SIDES
from nmsim.arch.schema import SystolicArch, SystolicArray
from nmsim.engines.products import Products
from nmsim.engines.tiling import Turns, ceil_div


@dataclass(frozen=True)
class Passes:
    """What one dataflow costs on the array, in cycles [ops] unless said otherwise.

    `steps` with every unit busy or padded, `stall` waiting for the adder, `loading` waiting for the next stationary
    tile, `fill` filling and draining, `reduction` the least time in which the pruning lanes can supply the stream;
    `arrays` that have work; `a_times`, `b_times` how often each element of an operand passes the port, `c_times` how
    often each sum passes the accumulators; `padded` dense multiply-accumulates of the padded tiles.
    """

    steps: np.ndarray
    stall: np.ndarray
    loading: np.ndarray
    fill: np.ndarray
    reduction: np.ndarray
    arrays: np.ndarray
    a_times: np.ndarray
    b_times: np.ndarray
    c_times: np.ndarray
    padded: np.ndarray


def interleavings(array: SystolicArray) -> list[tuple[float, float]]:
    """How many outputs a unit can take in turn, along m or along n: what hides the adder, powers of two, the most."""
    most = array.interleave
    turns = {1, most, min(most, array.accumulator_latency), *(2**i for i in range(most.bit_length()))}
    return [(1.0, 1.0), *((float(t), 1.0) for t in sorted(turns)[1:]), *((1.0, float(t)) for t in sorted(turns)[1:])]


def output_stationary(arch: SystolicArch, p: Products, turns: Turns) -> Passes:
    """Each unit keeps an output (several in turn when interleaved) while A and B stream past along k.

    A group pruned in the stream that serves i outputs in turn is pruned, and passes the port, i times unless held.
    """
    array = arch.array
    again_a, again_b = _pruned_again(arch, p, turns)
    folds_m, folds_n = ceil_div(p.m, turns.m * array.rows), ceil_div(p.n, turns.n * array.columns)
    tiles = folds_m * folds_n * p.count
    waves, arrays = ceil_div(tiles, array.count), np.minimum(tiles, array.count)
    step, in_turn = ceil_div(p.kept, p.rate), turns.m * turns.n
    fill = np.full(len(p.m), array.rows + array.columns - 2.0)
    return Passes(
        steps=waves * step * in_turn,
        stall=waves * step * np.maximum(array.accumulator_latency - in_turn, 0.0),
        loading=np.zeros(len(p.m)),
        fill=waves * fill if array.fold_overlap == "none" else fill,
        reduction=waves * p.k * np.where(p.side == SIDES.index("A"), turns.m * again_a, turns.n * again_b)
        * _lane_turns(arch, p, arrays) * p.inline,
        arrays=arrays, a_times=folds_n * again_a, b_times=folds_m * again_b, c_times=np.ones(len(p.m)),
        padded=folds_m * turns.m * array.rows * folds_n * turns.n * array.columns * p.k * p.count,
    )  # fmt: skip


def _pruned_again(arch: SystolicArch, p: Products, turns: Turns) -> tuple[np.ndarray, np.ndarray]:
    """How often a group of A and of B is pruned and passed for the outputs that a unit takes in turn [ops]."""
    if not p.inline.any():
        return np.ones(len(p.m)), np.ones(len(p.m))
    anew = p.inline & (arch.reduction_engine is None or not arch.reduction_engine.holds_groups)
    side_a, side_b = (anew & (p.side == SIDES.index(x)) for x in "AB")
    return np.where(side_a, turns.n, 1.0), np.where(side_b, turns.m, 1.0)


def stationary_operand(arch: SystolicArch, p: Products, tile_m: np.ndarray) -> Passes:
    """Each unit keeps values of B (one, or a whole group when sparse) while the rows of A stream past.

    Units that hold a group take N cycles per row of A, if as many rows as hide the adder go in turn, and cover R M
    elements of k (of a sparse A the group of B is held whole); units that hold single kept values shorten k instead,
    which only a sparse B allows. Loading takes a cycle per value and column: R a fold for single values, what there is
    to load for groups. Where several arrays share the stripes of A, each takes whole stripes.
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
    latency = array.accumulator_latency
    pace = serial + (serial - 1) * (latency / min(array.interleave, latency) - 1)
    fill = load + array.rows * serial * latency + array.columns - 2
    classical = array.fold_overlap == "none"
    tile_m = p.m if classical else np.minimum(tile_m, p.m)
    stripes = ceil_div(p.m, tile_m)
    jobs = folds_n * stripes * p.count
    arrays = np.minimum(jobs, array.count)
    whole, last, last_m = ceil_div(jobs, array.count), np.zeros(len(p.m)), tile_m
    if array.count == 1:
        last = folds_n * p.count
        whole, last_m = jobs - last, p.m - (stripes - 1) * tile_m
    late = whole * np.maximum(load - tile_m * pace, 0.0) + last * np.maximum(load - last_m * pace, 0.0)
    pruned = array.rows * span * np.where(sparse_b, 1.0, tile_m)
    rows = folds_k * (whole * tile_m + last * last_m)
    return Passes(
        steps=rows * serial,
        stall=rows * (pace - serial),
        loading=np.zeros(len(p.m)) if classical else folds_k * late - np.maximum(load - last_m * pace, 0.0),
        fill=folds_k * (whole + last) * fill if classical else fill,
        reduction=folds_k * (whole + last) * pruned * _lane_turns(arch, p, arrays) * p.inline,
        arrays=arrays, a_times=folds_n, b_times=stripes, c_times=folds_k,
        padded=p.m * folds_n * array.columns * np.maximum(folds_k * array.rows * span, p.k) * p.count,
    )  # fmt: skip


def _lane_turns(arch: SystolicArch, p: Products, arrays: np.ndarray) -> np.ndarray:
    """Cycles in which the pruning lanes take one element of every row or column that is streamed sparse [ops]."""
    if arch.reduction_engine is None:
        return np.ones(len(p.m))
    streams = np.where(p.side == SIDES.index("A"), arch.array.rows, arch.array.columns) * arrays
    return ceil_div(streams, arch.reduction_engine.lanes)
