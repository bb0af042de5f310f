"""A tensor core of the Sparseloop artifact, dense or n:m: its energy by the artifact's own 45 nm energies per action.

Model against model, by a closed form of its own: no engine of nmsim is in it. For C[m,n] = A[m,k]·B[k,n] in 8 bits, A
the weights, d of them kept and moved with indices of i bits:

    E = m n k d (mac + latch + 2 sum/depth) + (m k d n/T + k n m/T)/line read + (m k d + k n)/line write
        + dram (8 (m k d + k n + m n) + i m k d)

`depth` products are added before a sum is read and written, so that k is filled up to whole groups with `depth` kept
values; a tile of T x T outputs reads its operands once; a line of shared memory holds `line` values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil, log2
from typing import Any

from nmsim.arch.provenance import split
from nmsim.errors import SpecError
from nmsim.sparsity.pattern import Pattern
from nmsim.specfile import read
from nmsim.units import parse_quantity
from nmsim.validation.settings import DATA

FILE = "stc_energy.yaml"


@dataclass(frozen=True)
class Core:
    """A design: how many products it adds before a sum is stored, and the side of its tile of outputs."""

    depth: int
    tile: int


@cache
def figures() -> Any:
    """The figures of FILE without their marks, energies in joules."""
    document, _, problems = split(read(DATA / FILE))
    if problems:
        raise SpecError(problems)
    data: Any = document.data
    return data | {"energies": {name: parse_quantity(text, "energy") for name, text in data["energies"].items()}}


def core(name: str) -> Core:
    """The design `dense` or `sparse`."""
    return Core(**figures()["designs"][name])


def energy_j(design: Core, m: int, n: int, k: float, density: float = 1.0, index_bits: int = 0) -> float:
    """Joules of the product with this share of the weights kept, each with an index of `index_bits`."""
    e, bits, line = figures()["energies"], figures()["bits"], figures()["line"]
    weights, inputs, outputs = m * k * density, k * n, m * n
    compute = m * n * k * density * (e["mac"] + e["latch"] + 2 * e["sum"] / design.depth)
    reads = (weights * n / design.tile + inputs * m / design.tile) / line * e["read"]
    writes = (weights + inputs) / line * e["write"]
    return compute + reads + writes + e["dram_bit"] * (bits * (weights + inputs + outputs) + index_bits * weights)


def ratio(m: int, n: int, k: int, pattern: Pattern) -> float:
    """Energy of the sparse design with n:m weights over that of the dense design."""
    design = core("sparse")
    block = design.depth * pattern.m // pattern.n
    filled = ceil(k / block) * block
    sparse = energy_j(design, m, n, filled, pattern.n / pattern.m, ceil(log2(pattern.m)))
    return sparse / energy_j(core("dense"), m, n, k)
