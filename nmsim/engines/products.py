"""The matrix products of a workload as one machine sees them: sizes, what it skips, bytes, as float arrays [ops]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmsim.arch.capability import SIDES, Skips
from nmsim.arch.schema import AnyArch, SystolicArch
from nmsim.errors import UnsupportedError
from nmsim.sparsity.pattern import DENSE, Pattern
from nmsim.workloads.optable import AXES, DTYPE_BITS, DTYPES, FORMATS, Workload

BITS = np.array([DTYPE_BITS[name] for name in DTYPES], dtype=float)


@dataclass(frozen=True)
class Operand:
    """An operand in memory and at the ports, arrays [ops].

    `elements` distinct elements over all products of the op, `width` bytes of a value, `share` of the values that
    are stored and streamed, `metadata` index bytes per dense element. `packed` is false where the operand lies dense
    in DRAM and is packed on its way in.
    """

    elements: np.ndarray
    width: np.ndarray
    share: np.ndarray
    metadata: np.ndarray
    packed: np.ndarray

    @property
    def dram_bytes(self) -> np.ndarray:
        """Bytes of the values in DRAM, read once."""
        return np.ceil(self.elements * np.where(self.packed, self.share, 1.0) * self.width)

    @property
    def dram_metadata(self) -> np.ndarray:
        """Bytes of the indices in DRAM, read once."""
        return np.ceil(self.elements * self.metadata * self.packed)


@dataclass(frozen=True)
class Products:
    """Products C[m,n] = A[m,k]·B[k,n], `count` of each, as executed: `m` includes inserted zeros not skipped.

    `side` tells the sparse operand (index of SIDES), `pattern_n`:`pattern_m` the pattern it runs as (1:1 dense),
    `kept` the reduction elements that are left of k, `rate` the multiply-accumulates per unit and cycle, `useful`
    and `executed` multiply-accumulates of the op, `inline` whether the sparse operand is pruned while it streams in.
    """

    m: np.ndarray
    n: np.ndarray
    k: np.ndarray
    count: np.ndarray
    side: np.ndarray
    pattern_n: np.ndarray
    pattern_m: np.ndarray
    kept: np.ndarray
    rate: np.ndarray
    useful: np.ndarray
    executed: np.ndarray
    inline: np.ndarray
    a: Operand
    b: Operand
    c_bytes: np.ndarray


def gather(arch: AnyArch, work: Workload, skip: Skips, pruned_online: np.ndarray) -> Products:
    """The products of `work`, all of whose rows are of kind gemm.

    `skip` says what the machine skips of each row; `pruned_online` [ops] marks the rows whose sparse operand is
    pruned anew every step. Raises UnsupportedError for a data type that the machine cannot multiply.
    """
    m, n, k, count = (work[c].astype(float) for c in ("m", "n", "k", "count"))
    kept = kept_of(k, skip.n, skip.m)
    skip = skip.dense_where(kept == k)
    useful = m * n * k * count * _density(work, "a", m, n, k) * _density(work, "b", m, n, k)
    if isinstance(arch, SystolicArch) and not arch.array.skips_inserted_zeros:
        m = work["m_inserted"].astype(float)
    inline = pruned_online & (skip.side > 0) & (arch.sparsity.weights == "inline")
    a, b = (_operand(work, letter, skip, kept / k, inline) for letter in "ab")
    return Products(
        m=m, n=n, k=k, count=count, side=skip.side, pattern_n=skip.n.astype(float), pattern_m=skip.m.astype(float),
        kept=kept, rate=_rates(arch, work), useful=useful, executed=m * n * kept * count, inline=inline, a=a, b=b,
        c_bytes=work["c_elements"] * BITS[work["c_dtype"]] / 8,
    )  # fmt: skip


def kept_of(length: np.ndarray, n: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Elements left of `length` when n of every m are kept; a tail of r < m keeps min(n, r)."""
    full = np.floor(length / m)
    return full * n + np.minimum(n, length - full * m)


def _density(work: Workload, letter: str, m: np.ndarray, n: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Exact share of non-zeros of an operand, from its pattern and the length of the axis its groups run along."""
    codes, axis = work[f"{letter}_pattern"], work[f"{letter}_axis"]
    length = np.select([axis == AXES.index(x) for x in "mkn"], [m, k, n], 1.0)
    density = np.ones(len(work))
    for code in np.unique(codes):
        pattern = work.patterns[code]
        if pattern != DENSE:
            rows = codes == code
            density[rows] = _density_along(pattern, length[rows])
    return density


def _density_along(pattern: Pattern, length: np.ndarray) -> np.ndarray:
    if pattern.kind == "fan_in":
        return np.minimum(pattern.n, length) / length
    if pattern.kind == "unstructured":
        return np.full(len(length), pattern.density)
    return kept_of(length, np.asarray(pattern.n), np.asarray(pattern.m)) / length


def _operand(work: Workload, letter: str, skip: Skips, share: np.ndarray, inline: np.ndarray) -> Operand:
    sparse = skip.side == SIDES.index(letter.upper())
    per_element = _metadata_bits(skip.n, skip.m, work[f"{letter}_format"], share, work["k"]) / 8
    return Operand(
        elements=work[f"{letter}_elements"].astype(float),
        width=BITS[work[f"{letter}_dtype"]] / 8,
        share=np.where(sparse, share, 1.0),
        metadata=np.where(sparse, per_element, 0.0),
        packed=sparse & ~inline,
    )


def _metadata_bits(n: np.ndarray, m: np.ndarray, layout: np.ndarray, share: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Index bits per dense element of an n:m operand in each layout, arrays [ops].

    An index counts no more positions than the reduction axis has.
    """
    from scipy.special import gammaln

    index = share * np.ceil(np.log2(np.minimum(m, k)))
    choices = np.round((gammaln(m + 1) - gammaln(n + 1) - gammaln(m - n + 1)) / np.log(2), 9)
    column = np.select([k <= 2**8, k <= 2**16], [8, 16], 32)
    by_layout = {"packed": index, "bitmask": 1.0, "combinatorial": np.ceil(choices) / m, "csr": share * column + 32 / k}
    return np.select([layout == FORMATS.index(x) for x in by_layout], list(by_layout.values()), 0.0)


def _rates(arch: AnyArch, work: Workload) -> np.ndarray:
    """Multiply-accumulates per unit and cycle [ops], by the wider of the two operands' data types."""
    table = arch.array.macs_per_cycle if isinstance(arch, SystolicArch) else arch.cores.macs_per_cycle
    widest = np.where(BITS[work["a_dtype"]] >= BITS[work["b_dtype"]], work["a_dtype"], work["b_dtype"])
    rates = np.array([table.get(name, np.nan) for name in DTYPES])[widest]
    if len(bad := np.flatnonzero(np.isnan(rates))):
        layer = work.layers[work["layer"][bad[0]]]
        raise UnsupportedError(
            f"{arch.name} cannot multiply {DTYPES[widest[bad[0]]]} (layer {layer}); it has {', '.join(table)}"
        )
    return rates
