"""Kernels for operands that keep weights at any place: rows of one length (constant fan-in, SRigL) and CSR.

Every kept weight of the sparse operand meets the t elements that lie at its place along k of the other operand. With
E kept weights on P cores, r elements gathered and multiplied per cycle and e cycles for an index, a value and a turn
of the loop, all per core,

    cycles = E/P max(e, t/r)      in one loop, in which the next entry waits for nothing of the one before
    cycles = E/P (e + t/r)        where a copy comes first and a product after it

A single vector (t = 1) has a rate of its own. The rows of the sparse operand are shared out whole. Gathered elements
come from the innermost level of memory that holds the whole other operand, or the block of its columns that the
kernel takes at a time; where t > 1 it may be transposed first. DRAM serves each kept value and its index once, a CSR
a pointer per row too.

By hand: 768 neurons of fan-in 4 on a vector, 2 cores, 3 cycles an entry: 768 * 4 / 2 * 3 = 4608 cycles; for 8 vectors
at 2 elements a cycle max(3, 8/2) = 4 cycles an entry: 6144.

Constant fan-in: arXiv 2305.02299 (SRigL). On a GPU the rate of gathering is that through its caches, and
they are taken to serve the other operand again as often as it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmsim.arch.capability import SIDES, gathered, skips
from nmsim.arch.gathering import GatherKernel, Gathers
from nmsim.arch.schema import AnyArch, CpuArch, SystolicArch, TensorCoreArch
from nmsim.engines.products import Products, whole
from nmsim.engines.products import gather as products
from nmsim.engines.tiling import ceil_div
from nmsim.engines.timing import Timing, Waterfall
from nmsim.errors import UnsupportedError
from nmsim.workloads.optable import AXES, Workload


@dataclass(frozen=True)
class Entries:
    """The operand of each product whose kept weights a kernel can take one by one [ops].

    `side` is an index of SIDES (0: none), `share` the part of its elements that is kept, `constant` whether each row
    along k keeps the same number.
    """

    side: np.ndarray
    share: np.ndarray
    constant: np.ndarray


def entries(arch: AnyArch, work: Workload) -> Entries:
    """What the kernels of `arch` can gather of each product of `work`; the sparser operand where both would do."""
    (a_share, a_constant), (b_share, b_constant) = (_kept(arch, work, letter) for letter in "ab")
    use_b = (b_share < 1) & (b_share <= a_share)
    use_a = (a_share < 1) & ~use_b
    side = np.select([use_a, use_b], [SIDES.index("A"), SIDES.index("B")], 0).astype(np.uint8)
    return Entries(side, np.where(use_b, b_share, a_share), np.where(use_b, b_constant, a_constant))


def _kept(arch: AnyArch, work: Workload, letter: str) -> tuple[np.ndarray, np.ndarray]:
    """The share of an operand that is kept, 1 where it is not gathered, and whether in rows of one length along k."""
    codes, axis, length = work[f"{letter}_pattern"], work[f"{letter}_axis"], work.row_lengths(letter)
    share, constant = np.ones(len(work)), np.zeros(len(work), dtype=bool)
    for code in np.unique(codes):
        if gathered(arch, pattern := work.patterns[code]):
            rows = codes == code
            fixed = pattern.kind == "fan_in"
            share[rows] = np.minimum(pattern.n, length[rows]) / length[rows] if fixed else pattern.density
            constant[rows] = fixed & (axis[rows] == AXES.index("k"))
    return share, constant


def fastest(arch: AnyArch, p: Products, e: Entries, dense: Timing) -> Timing:
    """`dense`, with the products that a gathering kernel finishes earlier replaced; the plan names the `kernel`.

    `dense` is what the products cost with their zeros multiplied, launch included. Unchanged if the machine has no
    kernels that gather.
    """
    if isinstance(arch, SystolicArch) or (g := arch.gathers) is None:
        return dense
    able = {"csr": (g.csr, e.side > 0)}
    if g.condensed is not None:
        able["condensed"] = (g.condensed, (e.side > 0) & e.constant)
    able = {name: (kernel, rows) for name, (kernel, rows) in able.items() if rows.any()}
    timings = [dense, *(gather(arch, g, kernel, p, e) for kernel, _ in able.values())]
    cycles = [_cycles(dense)]
    cycles += [np.where(rows, _cycles(t), np.inf) for t, (_, rows) in zip(timings[1:], able.values(), strict=True)]
    chosen = np.argmin(cycles, axis=0)
    kernel = np.array(["dense", *able], dtype=object)[chosen]
    idle = (chosen == 0) & ((e.side > 0) | np.asarray(dense.plan.get("ran_dense", False)))
    return _merged(timings, chosen, {"kernel": kernel, "ran_dense": idle})


def gather(arch: TensorCoreArch | CpuArch, g: Gathers, kernel: GatherKernel, p: Products, e: Entries) -> Timing:
    """What each product costs with a kernel of `g`; of no meaning where the side is 0."""
    v = _View.of(p, e)
    cores, clock = float(arch.cores.count), arch.clock
    share = v.kept * ceil_div(v.rows * p.count, cores) / (v.rows * p.count)
    peak = cores * p.rate
    fall = Waterfall(p.useful / peak)
    fall.at_least("unskipped", v.kept * v.t / peak)
    fall.at_least("granularity", share * v.t / p.rate)
    feed, entry = _per_entry(kernel, v.t)
    fall.at_least("operand_feed", share * feed)
    fall.at_least("metadata", share * entry)
    if g.transposing is not None:
        fall.plus("operand_feed", np.where(v.t > 1, p.k * v.t * p.count * g.transposing / cores, 0.0))
    stored, indices = v.entry_bytes, whole(v.index_count(kernel is g.csr) * kernel.index_bytes)
    panel = p.k * np.minimum(v.t, kernel.block or np.inf) * v.width
    gathered_bytes, streamed = v.kept * v.t * v.width, p.k * v.t * p.count * v.width
    into = []
    for inner, per_cycle in _levels(arch):
        into.append(np.where(panel > inner, gathered_bytes, streamed))
        fall.resource("l2", (into[-1] + stored + p.c_bytes) / per_cycle, indices / per_cycle)
    last = _last_size(arch)
    other = np.where(panel > last, np.maximum(gathered_bytes, v.other_bytes), v.other_bytes)
    per_cycle = arch.memories.dram.bandwidth * arch.memories.dram.efficiency / clock
    fall.resource("dram", (other + stored + p.c_bytes) / per_cycle, (indices + v.scales) / per_cycle)
    fall.plus("launch", np.full(len(v.t), (arch.launch.seconds + kernel.start) * clock))
    dram = _by_letter(v, other, stored) | {"c": p.c_bytes, "metadata": indices + v.scales}
    port = _by_letter(v, into[0], stored) | {"c": p.c_bytes, "metadata": indices}
    return Timing(
        fall.causes, dram, port, executed=v.kept * v.t, useful=p.useful, padded=v.kept * v.t, peak=peak
    )  # fmt: skip


def by_kernel(arch: AnyArch, work: Workload, name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Seconds of each op of `work` by cause with the gathering kernel of that name, `csr` or `condensed`, whether it is
    the fastest or not; and False for each, since none multiplies a zero.

    Raises UnsupportedError where the machine has no such kernel, or an op no weights that it could gather.
    """
    g = None if isinstance(arch, SystolicArch) else arch.gathers
    kernel = getattr(g, name, None)
    e = entries(arch, work)
    if isinstance(arch, SystolicArch) or g is None or kernel is None:
        raise UnsupportedError(f"{arch.name} has no kernel {name!r} that gathers")
    if not ((e.side > 0) & (e.constant | (name == "csr"))).all():
        raise UnsupportedError(f"{name!r} takes weights that nothing but their place is known of")
    p = products(arch, work, skips(arch, work), np.zeros(len(work), dtype=bool))
    timing = gather(arch, g, kernel, p, e)
    return {cause: cycles / arch.clock for cause, cycles in timing.causes.items()}, np.zeros(len(work), dtype=bool)


@dataclass(frozen=True)
class _View:
    """A product seen from its sparse operand [ops]: its `rows`, the `t` elements each place along k of the other
    has, the weights `kept` by all products, bytes of an element of the other, and the bytes of both in DRAM."""

    of_a: np.ndarray
    rows: np.ndarray
    t: np.ndarray
    kept: np.ndarray
    width: np.ndarray
    entry_bytes: np.ndarray
    other_bytes: np.ndarray
    scales: np.ndarray
    stored: np.ndarray
    stored_rows: np.ndarray

    @classmethod
    def of(cls, p: Products, e: Entries) -> _View:
        a = e.side == SIDES.index("A")

        def pick(of_a: np.ndarray, of_b: np.ndarray) -> np.ndarray:
            return np.where(a, of_a, of_b)

        rows = pick(p.m, p.n)
        stored = pick(p.a.elements, p.b.elements) * e.share
        return cls(
            of_a=a, rows=rows, t=pick(p.n, p.m), kept=rows * p.k * p.count * e.share, width=pick(p.b.width, p.a.width),
            entry_bytes=whole(stored * pick(p.a.width, p.b.width)), other_bytes=pick(p.b.dram_bytes, p.a.dram_bytes),
            scales=p.a.dram_metadata + p.b.dram_metadata, stored=stored,
            stored_rows=pick(p.a.elements, p.b.elements) / p.k,
        )  # fmt: skip

    def index_count(self, pointers: bool) -> np.ndarray:
        """Indices of the sparse operand in DRAM: one per kept weight, and a pointer per row and one more."""
        return self.stored + (self.stored_rows + 1 if pointers else 0.0)


def _per_entry(kernel: GatherKernel, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cycles of a core per kept weight: those of the elements alone, and all."""
    feed = t / kernel.elements
    every = np.maximum(kernel.entry, feed) if kernel.overlap else kernel.entry + feed
    if kernel.single is None:
        return feed, every
    return np.where(t == 1, 0.0, feed), np.where(t == 1, kernel.single, every)


def _levels(arch: TensorCoreArch | CpuArch) -> Iterator[tuple[float, float]]:
    """For each cache beyond the innermost, the bytes that lie nearer to a core, and its bytes per cycle to all."""
    if not isinstance(arch, CpuArch):
        yield np.inf, arch.memories.l2.bandwidth / arch.clock
        return
    m, cores = arch.memories, arch.cores.count
    yield m.l1.size, m.l2.bandwidth * cores
    if m.l3 is not None:
        yield m.l2.size, m.l3.bandwidth * cores


def _last_size(arch: TensorCoreArch | CpuArch) -> float:
    """Bytes that need not come from DRAM twice."""
    if not isinstance(arch, CpuArch):
        return np.inf
    return (arch.memories.l3 or arch.memories.l2).size


def _by_letter(v: _View, other: np.ndarray, sparse: np.ndarray) -> dict[str, np.ndarray]:
    return {"a": np.where(v.of_a, sparse, other), "b": np.where(v.of_a, other, sparse)}


def _cycles(timing: Timing) -> np.ndarray:
    return np.sum(list(timing.causes.values()), axis=0)


def _merged(timings: Sequence[Timing], chosen: np.ndarray, plan: Mapping[str, np.ndarray]) -> Timing:
    """For each product the timing that was chosen; its tiling only where that is the first, the dense one."""
    groups: dict[str, Any] = {}
    for group in ("causes", "dram", "port"):
        names = dict.fromkeys(name for t in timings for name in getattr(t, group))
        groups[group] = {x: _choice([getattr(t, group).get(x, 0.0) for t in timings], chosen) for x in names}
    figures: dict[str, Any] = {
        name: _choice([getattr(t, name) for t in timings], chosen)
        for name in ("executed", "useful", "padded", "peak", "multiplied", "lane_ops", "busy", "voltage")
    }
    tiling = {
        name: np.where(chosen == 0, x, "" if x.dtype == object else np.zeros(1, x.dtype))
        for name, x in timings[0].plan.items()
    }
    return Timing(**groups, **figures, plan={**tiling, **plan})


def _choice(values: Sequence[Any], chosen: np.ndarray) -> np.ndarray:
    return np.choose(chosen, [np.broadcast_to(x, chosen.shape) for x in values])
