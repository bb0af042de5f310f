"""What a machine shows of itself in a notebook."""

from __future__ import annotations

from collections import Counter

from nmsim.arch.schema import AnyArch, SystolicArch
from nmsim.html import block, table
from nmsim.words import prefixed, quantity


def html(arch: AnyArch) -> str:
    """Its units, peaks by data type, what it skips, its DRAM, and how its numbers are known."""
    units = arch.array if isinstance(arch, SystolicArch) else arch.cores
    return block(
        arch.title or arch.name, f"{arch.name}, {arch.kind.replace('_', ' ')} at {quantity(arch.clock, 'Hz')}",
        table(_facts(arch), caption="Machine"),
        table([(d, prefixed(2 * r * _count(arch) * arch.clock, "FLOP/s", 3)) for d, r in units.macs_per_cycle.items()],
              align="lr", caption="Dense peak"),
        table(Counter(p.kind for p in arch.provenance.values()).most_common(), align="lr", caption="Numbers by origin"),
    )  # fmt: skip


def _count(arch: AnyArch) -> int:
    if isinstance(arch, SystolicArch):
        return arch.array.rows * arch.array.columns * arch.array.count
    return arch.cores.count


def _facts(arch: AnyArch) -> list[tuple[str, str]]:
    dram, sparsity = arch.memories.dram, arch.sparsity
    if isinstance(arch, SystolicArch):
        array = arch.array
        many = f"{array.count} arrays of " if array.count > 1 else ""
        units = f"{many}{array.rows} x {array.columns}, {', '.join(array.dataflows)}"
    else:
        units = f"{arch.cores.count} cores"
    patterns = f"n:m up to m = {sparsity.max_group}" if sparsity.patterns == "any" else ", ".join(sparsity.patterns)
    skips = f"{patterns} in {' or '.join(sparsity.operands)}" if patterns else "nothing"
    size = f", {quantity(dram.capacity, 'B')}" if dram.capacity is not None else ""
    return [
        ("units", units), ("skips", skips), ("vector lanes", f"{arch.vector.lanes:,}"),
        ("DRAM", f"{quantity(dram.bandwidth, 'B')}/s{size}"),
    ]  # fmt: skip
