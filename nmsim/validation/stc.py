"""A tensor core of the Sparseloop artifact, dense or 2:4: its energy by the artifact's own 45 nm energies per action.

Model against model. For C[m,n] = A[m,k]·B[k,n] in 8 bits, A the weights, d of them kept and moved with 2-bit indices:

    E = m n k d (mac + latch + 2 sum/depth) + (m k d n/T + k n m/T)/line read + (m k d + k n)/line write
        + 8 x 8 (m k d + k n + m n) pJ from LPDDR4 and 8 x 2 m k d for the indices

`depth` products are added before a sum is read and written; a tile of T x T outputs reads its operands once; a line
of shared memory holds 32 values. Depth and T were read off the artifact's split of one layer (calibrated).
"""

from __future__ import annotations

from dataclasses import dataclass

PJ = 1e-12
MAC, LATCH, SUM, READ, WRITE, DRAM_BIT = 0.5608 * PJ, 0.072 * PJ, 1.67 * PJ, 285.7 * PJ, 317 * PJ, 8 * PJ
"""Energy per action: Accelergy-Project/micro22-sparseloop-artifact STC energy reference table @de0374a; LPDDR4."""
LINE = 32
BITS, INDEX_BITS = 8, 2


@dataclass(frozen=True)
class Core:
    """A design: how many products it adds before a sum is stored, and the side of its tile of outputs."""

    depth: int
    tile: int


DENSE, SPARSE = Core(8, 64), Core(16, 128)


def energy_j(core: Core, m: int, n: int, k: int, density: float = 1.0) -> float:
    """Joules of the product with this share of the weights kept."""
    weights, inputs, outputs = m * k * density, k * n, m * n
    compute = m * n * k * density * (MAC + LATCH + 2 * SUM / core.depth)
    reads = (weights * n / core.tile + inputs * m / core.tile) / LINE * READ
    writes = (weights + inputs) / LINE * WRITE
    indices = INDEX_BITS * weights if density < 1 else 0.0
    return compute + reads + writes + DRAM_BIT * (BITS * (weights + inputs + outputs) + indices)


def ratio_2_4(m: int, n: int, k: int) -> float:
    """Energy of the 2:4 design with half of the weights over that of the dense design."""
    return energy_j(SPARSE, m, n, k, 0.5) / energy_j(DENSE, m, n, k)
