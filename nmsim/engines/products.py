"""The matrix products of a workload as one machine sees them: sizes, what it skips, bytes, as float arrays [ops]."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from nmsim.arch.arithmetic import product_dtypes, rates
from nmsim.arch.capability import SIDES, Skips
from nmsim.arch.schema import AnyArch, Sparsity, SystolicArch, usable
from nmsim.errors import UnsupportedError
from nmsim.sparsity.pattern import DENSE, Pattern
from nmsim.workloads.optable import DTYPE_BITS, DTYPES, FORMATS, QUANTIZED, ROLES, SCALE_BITS, Workload

BITS = np.array([DTYPE_BITS[name] for name in DTYPES], dtype=float)


@dataclass(frozen=True)
class Operand:
    """An operand in memory and at the ports, arrays [ops].

    `elements` distinct elements over all products of the op, `width` bytes of a value as it is stored, `share` of
    the values that are streamed, `metadata` bytes of indices and scales per dense element that are streamed;
    `stored_share` and `stored_metadata` the same of its form in DRAM, which is dense where it is packed on its way
    in; `scales` the bytes of scales in both; `widening` operations on a value on its way to units that multiply a
    wider type; `room` bytes of its buffer that one tile may fill.
    """

    elements: np.ndarray
    width: np.ndarray
    share: np.ndarray
    metadata: np.ndarray
    stored_share: np.ndarray
    stored_metadata: np.ndarray
    scales: np.ndarray
    widening: np.ndarray
    room: np.ndarray

    @cached_property
    def dram_bytes(self) -> np.ndarray:
        """Bytes of the values in DRAM, read once."""
        return whole(self.elements * self.stored_share * self.width)

    @cached_property
    def dram_metadata(self) -> np.ndarray:
        """Bytes of the indices and scales in DRAM, read once."""
        return whole(self.elements * self.stored_metadata)


@dataclass(frozen=True)
class Products:
    """Products C[m,n] = A[m,k]·B[k,n], `count` of each, as executed: `m` includes inserted zeros not skipped.

    `side` tells the sparse operand (index of SIDES), `pattern_n`:`pattern_m` the pattern it runs as (1:1 dense),
    `kept` the reduction elements that are left of k, `rate` the multiply-accumulates per unit and cycle, `useful`
    and `executed` multiply-accumulates of the op, `inline` whether the sparse operand is pruned while it streams in,
    `dtype` the code of the type that is multiplied, `block` the rows that share columns of a V:n:m operand (else 0),
    `taps` the positions of a convolution's kernel, `map_h` and `map_w` the size of its output where a square kernel
    slides over every position and `overhang` by how much its padding exceeds what the kernel reaches (else 0),
    `inserted` m with inserted zeros, `stage` its code.
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
    dtype: np.ndarray
    block: np.ndarray
    taps: np.ndarray
    map_h: np.ndarray
    map_w: np.ndarray
    overhang: np.ndarray
    inserted: np.ndarray
    stage: np.ndarray
    a: Operand
    b: Operand
    c_bytes: np.ndarray

    @property
    def widens(self) -> bool:
        """Whether any operand is stored in a narrower type than is multiplied."""
        return bool(self.a.widening.any() or self.b.widening.any())


def gather(arch: AnyArch, work: Workload, skip: Skips, pruned_online: np.ndarray) -> Products:
    """The products of `work`, all of whose rows are of kind gemm.

    `skip` says what the machine skips of each row; `pruned_online` [ops] marks the rows whose sparse operand is
    pruned anew every step. Raises UnsupportedError for a data type that the machine cannot multiply.
    """
    m, n, k, count = (work[c].astype(float) for c in ("m", "n", "k", "count"))
    skip = _within_axis(skip, k, arch.sparsity)
    kept = kept_of(k, skip.n, skip.m)
    useful = m * n * k * count * _density(work, "a") * _density(work, "b")
    if isinstance(arch, SystolicArch) and not arch.array.skips_inserted_zeros:
        m = work["m_inserted"].astype(float)
    inline = pruned_online & (skip.side > 0) & (arch.sparsity.weights == "inline")
    dtype = product_dtypes(arch, work)
    a, b = (_operand(arch, work, letter, skip, inline, dtype) for letter in "ab")
    return Products(
        m=m, n=n, k=k, count=count, side=skip.side, pattern_n=skip.n.astype(float), pattern_m=skip.m.astype(float),
        kept=kept, rate=_rates(arch, work, dtype), useful=useful, executed=m * n * kept * count, inline=inline,
        dtype=dtype, block=_blocks(work, skip), taps=work["taps"].astype(float),
        map_h=work["map_h"].astype(float), map_w=work["map_w"].astype(float), overhang=work["overhang"].astype(float),
        inserted=work["m_inserted"].astype(float), stage=work["stage"], a=a, b=b,
        c_bytes=work["c_elements"] * BITS[work["c_dtype"]] / 8,
    )  # fmt: skip


def kept_of(length: np.ndarray, n: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Elements left of `length` when n of every m are kept; a tail of r < m keeps min(n, r)."""
    full = np.floor(length / m)
    return full * n + np.minimum(n, length - full * m)


def _density(work: Workload, letter: str) -> np.ndarray:
    """Exact share of non-zeros of an operand, from its pattern and the length of the rows its groups run along."""
    codes, length = work[f"{letter}_pattern"], work.row_lengths(letter)
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


def _blocks(work: Workload, skip: Skips) -> np.ndarray:
    """Rows that share the columns of an operand that runs as V:n:m [ops], 0 where none does."""
    v, m = (np.array([getattr(p, x) if p.kind == "vnm" else 0 for p in work.patterns]) for x in ("v", "m"))
    pattern = np.where(skip.side == SIDES.index("A"), work["a_pattern"], work["b_pattern"])
    return np.where((skip.side > 0) & (skip.m == m[pattern]), v[pattern], 0).astype(float)


def _within_axis(skip: Skips, k: np.ndarray, able: Sparsity) -> Skips:
    """A group longer than the axis is the axis: n:m runs as n:min(m, k), and dense where that keeps everything."""
    if able.patterns == "any":
        skip = replace(skip, m=np.minimum(skip.m, k).astype(np.int64))
    return skip.dense_where(kept_of(k, skip.n, skip.m) >= k)


def _operand(arch: AnyArch, work: Workload, letter: str, skip: Skips, inline: np.ndarray, dtype: np.ndarray) -> Operand:
    sparse = skip.side == SIDES.index(letter.upper())
    k, layout = work["k"].astype(float), work[f"{letter}_format"]
    share = np.where(sparse, kept_of(k, skip.n, skip.m) / k, 1.0)
    index = np.where(sparse, share * np.ceil(np.log2(skip.m)) / 8, 0.0)
    packed = sparse & ~inline & (layout != FORMATS.index("dense"))
    rows = work[f"{letter}_elements"] / k
    stored = _metadata_bits(skip, k, layout, rows / work["count"]) / k / 8
    per_row = _scales_per_row(work, letter, k)
    scales = per_row * SCALE_BITS / 8 / k
    return Operand(
        elements=work[f"{letter}_elements"].astype(float),
        width=BITS[work[f"{letter}_dtype"]] / 8,
        share=share,
        metadata=index + scales,
        stored_share=np.where(packed, share, 1.0),
        stored_metadata=np.where(packed, stored, 0.0) + scales,
        scales=scales,
        widening=np.where(work[f"{letter}_dtype"] == dtype, 0.0, np.where(per_row > 1, 2.0, 1.0)),
        room=np.full(len(work), _room(arch, letter)),
    )


def _scales_per_row(work: Workload, letter: str, k: np.ndarray) -> np.ndarray:
    """Scales stored for each row of k elements of a quantised weight [ops].

    The one scale of an output channel multiplies its sums; scales of groups multiply each value as it is widened.
    """
    if work.weight_group is None:
        return np.zeros(len(work))
    quantized = np.isin(work[f"{letter}_dtype"], [DTYPES.index(name) for name in QUANTIZED])
    weights = quantized & (work[f"{letter}_role"] == ROLES.index("weight"))
    return np.where(weights, np.ceil(k / work.weight_group) if work.weight_group else 1.0, 0.0)


def _room(arch: AnyArch, letter: str) -> float:
    if isinstance(arch, SystolicArch):
        return usable(arch.memories, getattr(arch.memories, f"{letter}_buffer"))
    return arch.memories.l2.size


def _metadata_bits(skip: Skips, k: np.ndarray, layout: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Index bits per row of k elements of an n:m operand in its layout [ops]; `rows` of one product share a CSR."""
    n, m = skip.n.astype(float), skip.m.astype(float)
    full = np.floor(k / m)
    tail = k - full * m
    by_layout = {
        "packed": kept_of(k, n, m) * np.ceil(np.log2(m)),
        "bitmask": k,
        "combinatorial": full * _choice_bits(m, n) + _choice_bits(tail, np.minimum(n, tail)),
        "csr": kept_of(k, n, m) * np.select([k <= 2**8, k <= 2**16], [8, 16], 32) + 32 * (rows + 1) / rows,
    }
    return np.select([layout == FORMATS.index(x) for x in by_layout], list(by_layout.values()), 0.0)


def _choice_bits(of: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """ceil(log2 C(of, keep)) [ops]."""
    from scipy.special import gammaln

    choices = (gammaln(of + 1) - gammaln(keep + 1) - gammaln(of - keep + 1)) / np.log(2)
    return np.ceil(np.round(choices, 9))


def whole(x: np.ndarray) -> np.ndarray:
    """x rounded up to whole bytes, but for the last bits of a division."""
    return np.ceil(np.round(x, 3))


def _rates(arch: AnyArch, work: Workload, dtype: np.ndarray) -> np.ndarray:
    """Multiply-accumulates per unit and cycle [ops] in these data types."""
    table = rates(arch)
    found = np.array([table.get(name, np.nan) for name in DTYPES])[dtype]
    if len(bad := np.flatnonzero(np.isnan(found))):
        layer = work.layers[work["layer"][bad[0]]]
        raise UnsupportedError(
            f"{arch.name} cannot multiply {DTYPES[dtype[bad[0]]]} (layer {layer}); it has {', '.join(table)}"
        )
    return found


def transposed(p: Products) -> Products:
    """The same products as C^T = B^T·A^T: m and n, A and B exchanged."""
    swapped = np.array([0, SIDES.index("B"), SIDES.index("A")], dtype=p.side.dtype)
    return replace(p, m=p.n, n=p.m, a=p.b, b=p.a, side=swapped[p.side])


def dense_where(p: Products, rows: np.ndarray) -> Products:
    """The same products with the zeros of these rows (boolean [ops]) multiplied instead of skipped."""
    a, b = (
        replace(
            x,
            share=np.where(rows, 1.0, x.share),
            metadata=np.where(rows, x.scales, x.metadata),
            stored_share=np.where(rows, 1.0, x.stored_share),
            stored_metadata=np.where(rows, x.scales, x.stored_metadata),
        )
        for x in (p.a, p.b)
    )
    return replace(
        p, a=a, b=b, side=np.where(rows, 0, p.side).astype(p.side.dtype), inline=p.inline & ~rows,
        pattern_n=np.where(rows, 1.0, p.pattern_n), pattern_m=np.where(rows, 1.0, p.pattern_m),
        block=np.where(rows, 0.0, p.block), kept=np.where(rows, p.k, p.kept),
        executed=np.where(rows, p.m * p.n * p.k * p.count, p.executed),
    )  # fmt: skip


def take(p: Products, rows: np.ndarray) -> Products:
    """The products of these rows."""
    taken: dict[str, Any] = {name: value[rows] for name, value in vars(p).items() if isinstance(value, np.ndarray)}
    a, b = (Operand(*(getattr(x, f.name)[rows] for f in fields(Operand))) for x in (p.a, p.b))
    return Products(**taken, a=a, b=b)


def put(p: Products, rows: np.ndarray, new: Products) -> Products:
    """The products with those of these rows (indices) replaced by `new`, in order."""
    own = {name: placed(old, rows, getattr(new, name)) for name, old in vars(p).items() if isinstance(old, np.ndarray)}
    a, b = (
        Operand(*(placed(getattr(old, f.name), rows, getattr(value, f.name)) for f in fields(Operand)))
        for old, value in ((p.a, new.a), (p.b, new.b))
    )
    return Products(**own, a=a, b=b)


def placed(old: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A copy of an array with these values in these rows (indices)."""
    array = old.copy()
    array[rows] = values
    return array
