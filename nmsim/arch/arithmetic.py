"""In which data type a machine multiplies: that of its operands, or the narrowest it has that holds them exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from nmsim.arch.schema import AnyArch, SystolicArch, TensorCoreArch
from nmsim.workloads.optable import DTYPE_BITS, DTYPES, QUANTIZED, Workload

_FLOATS = ("fp16", "bf16", "tf32", "fp32", "fp64")
HOLDERS = {"int4": ("int8", "fp8", *_FLOATS, "int32"), "int8": (*_FLOATS, "int32"), "fp8": _FLOATS}
"""The wider data types that represent every value of a quantised one, the preferred of equals first."""


def rates(arch: AnyArch) -> Mapping[str, float]:
    """Multiply-accumulates per unit and cycle by data type."""
    if isinstance(arch, SystolicArch):
        return arch.array.macs_per_cycle
    if isinstance(arch, TensorCoreArch) and arch.cores.accumulate == "fp16":
        return arch.cores.macs_per_cycle | arch.cores.half_sums
    return arch.cores.macs_per_cycle


def multiplies_in(arch: AnyArch, a: str, b: str) -> str:
    """The data type in which `arch` multiplies operands of types `a` and `b`.

    The wider of the two where one of them is no quantised type (weights of 4 bits and activations of fp16 are
    multiplied in fp16). Else the narrowest type of the machine that holds both, of equally narrow ones the fastest;
    the wider of the two where there is none, which the machine then lacks.
    """
    wider = a if DTYPE_BITS[a] >= DTYPE_BITS[b] else b
    if a not in QUANTIZED or b not in QUANTIZED:
        return wider
    able = rates(arch)
    holders = [x for x in (a, *HOLDERS[a]) if x in (b, *HOLDERS[b]) and x in able]
    return min(holders, key=lambda x: (DTYPE_BITS[x], -able[x]), default=wider)


def product_dtypes(arch: AnyArch, work: Workload) -> np.ndarray:
    """Code of the data type in which each op multiplies [ops]; found once for each pair of types."""
    pairs = _pairs(work)
    table = np.zeros(len(DTYPES) ** 2, dtype=np.uint8)
    for pair, (a, b) in _distinct(pairs):
        table[pair] = DTYPES.index(multiplies_in(arch, a, b))
    return table[pairs]


def widened(arch: AnyArch, work: Workload) -> tuple[str, ...]:
    """A line for each pair of operand types of the products that are not multiplied as they are stored."""
    lines = []
    for _, names in _distinct(_pairs(work)[work.gemms]):
        into = multiplies_in(arch, *names)
        if narrow := [x for x in dict.fromkeys(names) if x != into]:
            lacking = [] if into in names else [x for x in narrow if x not in rates(arch)]
            why = f", since {arch.name} does not multiply {' or '.join(lacking)}" if lacking else ""
            lines.append(
                f"data types: A in {names[0]} times B in {names[1]} runs in {into}{why}; the lanes of the vector unit "
                f"widen {' and '.join(narrow)} each time a value passes to the units, side by side with the products"
            )
    return tuple(lines)


def _pairs(work: Workload) -> np.ndarray:
    """The data types of both operands of each op as one number [ops]."""
    return work["a_dtype"].astype(np.intp) * len(DTYPES) + work["b_dtype"]


def _distinct(pairs: np.ndarray) -> Iterator[tuple[int, tuple[str, str]]]:
    """The pairs that occur, and the names of their types."""
    for pair in np.flatnonzero(np.bincount(pairs, minlength=len(DTYPES) ** 2)).tolist():
        yield pair, (DTYPES[pair // len(DTYPES)], DTYPES[pair % len(DTYPES)])
