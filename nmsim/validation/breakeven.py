"""Why a sparse product gains what it gains: the ideal against what is left of it, and the sizes from which it pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nmsim.arch.schema import AnyArch
from nmsim.engines.run import simulate
from nmsim.errors import PatternError, ShapeError, UnsupportedError, unknown
from nmsim.results.result import Result
from nmsim.sparsity.pattern import Pattern
from nmsim.workloads.optable import DTYPES
from nmsim.workloads.products import CellError, gemms

THRESHOLDS = (1.1, 1.5)
SMALLEST, LARGEST, STEPS = 16, 65536, 8
"""The sizes that are tried: STEPS per doubling, each a multiple of SMALLEST."""
MAP_SMALLEST, MAP_LARGEST, MAP_STEPS = 64, 32768, 4
SHAPE = ("m", "n", "k")
TOGETHER = "m = n = k"


@dataclass(frozen=True)
class Question:
    """A product C[m,n] = A[m,k]·B[k,n] of data type `dtype`, one operand of which has `pattern` along k."""

    shape: tuple[int, int, int]
    pattern: Pattern
    operand: str = "B"
    dtype: str = "fp16"

    def __post_init__(self) -> None:
        if self.pattern.is_dense or not self.pattern.density:
            raise PatternError(f"the pattern must be n:m, V:n:m or unstructured, not {self.pattern}")
        if len(self.shape) != 3:
            raise ShapeError(f"a shape is m,n,k, not {self.shape!r}")
        if self.dtype not in DTYPES:
            raise UnsupportedError(unknown("dtype", self.dtype, DTYPES))

    @property
    def ideal(self) -> float:
        """The speed-up if the time fell with the multiply-accumulates."""
        return 1 / self.pattern.density


@dataclass(frozen=True)
class Waterfall:
    """Dense and sparse seconds by cause, and where the ideal gain goes.

    With density d the ideal sparse time is d x dense. What a cause takes beyond d times its dense share is lost:
    lost = sparse - d x dense, cause by cause, which sums to sparse time - ideal time. `because` says why nothing is
    skipped, if nothing is.
    """

    dense_s: Mapping[str, float]
    sparse_s: Mapping[str, float]
    density: float
    because: str

    @property
    def speedup(self) -> float:
        """Dense over sparse time."""
        return sum(self.dense_s.values()) / sum(self.sparse_s.values())

    @property
    def lost_s(self) -> dict[str, float]:
        """Seconds by cause that separate the sparse time from the ideal one; negative where a cause shrank more."""
        return {name: self.sparse_s[name] - self.density * self.dense_s[name] for name in self.sparse_s}


@dataclass(frozen=True)
class Threshold:
    """The smallest size along a dimension at which the speed-up exceeds `above`, and the one from which it does at
    every larger size tried; None where there is none."""

    dimension: str
    above: float
    first: int | None
    always: int | None


def waterfall(arch: AnyArch, question: Question) -> Waterfall:
    """Where the time of the dense and the sparse product goes."""
    m, n, k = question.shape
    result = _pairs(arch, question, np.array([[m, n, k]]))
    causes = {n.removeprefix("cause."): v / arch.clock for n, v in result.columns.items() if n.startswith("cause.")}
    dense, sparse = ({n: float(v[row]) for n, v in causes.items() if v.any()} for row in (0, 1))
    return Waterfall(dense, sparse, question.pattern.density, str(result.skipped_because[1]))


def speedups(arch: AnyArch, question: Question, shapes: np.ndarray) -> np.ndarray:
    """The speed-up of the pattern at each of the `shapes` [shapes, 3], as an array [shapes]."""
    dense, sparse = _pairs(arch, question, shapes).columns["cycles"].reshape(2, -1)
    return dense / sparse


def scan(arch: AnyArch, question: Question) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Sizes and speed-ups along each dimension with the other two as asked, and along all three together."""
    sizes = log_sizes(SMALLEST, LARGEST, STEPS)
    shapes = np.tile(np.array(question.shape), (len(SHAPE) + 1, len(sizes), 1))
    for i in range(len(SHAPE)):
        shapes[i, :, i] = sizes
    shapes[-1] = sizes[:, None]
    found = speedups(arch, question, shapes.reshape(-1, 3)).reshape(len(SHAPE) + 1, -1)
    return {name: (sizes, found[i]) for i, name in enumerate((*SHAPE, TOGETHER))}


def thresholds(
    scanned: Mapping[str, tuple[np.ndarray, np.ndarray]], levels: Sequence[float] = THRESHOLDS
) -> list[Threshold]:
    """From which size on each level is exceeded, along each dimension scanned."""
    return [
        Threshold(name, level, *_passes(sizes, found, level))
        for name, (sizes, found) in scanned.items()
        for level in levels
    ]


@dataclass(frozen=True)
class Plane:
    """Speed-ups [y, x] over two sizes, the third fixed."""

    x_name: str
    y_name: str
    fixed: str
    sizes: np.ndarray
    speedup: np.ndarray


def planes(arch: AnyArch, question: Question) -> list[Plane]:
    """Speed-ups over n and m at the k asked for, and over k and m at the n asked for."""
    sizes = log_sizes(MAP_SMALLEST, MAP_LARGEST, MAP_STEPS)
    y, x = np.meshgrid(sizes, sizes, indexing="ij")
    _, n, k = question.shape
    stacks = [np.stack([y, x, np.full_like(x, k)], axis=-1), np.stack([y, np.full_like(x, n), x], axis=-1)]
    found = speedups(arch, question, np.concatenate([s.reshape(-1, 3) for s in stacks])).reshape(2, *x.shape)
    return [Plane("n", "m", f"k = {k}", sizes, found[0]), Plane("k", "m", f"n = {n}", sizes, found[1])]


def log_sizes(smallest: int, largest: int, steps: int) -> np.ndarray:
    """Sizes from `smallest` to `largest`, about `steps` per doubling, each a multiple of `smallest`."""
    exponents = np.arange(0, np.log2(largest / smallest) * steps + 0.5) / steps
    return np.unique(np.round(2**exponents).astype(np.int64)) * smallest


def _pairs(arch: AnyArch, question: Question, shapes: np.ndarray) -> Result:
    """The dense products of the shapes, then the sparse ones, simulated together; ShapeError where one is too large."""
    m, n, k = np.concatenate([shapes, shapes]).T
    pattern = np.repeat(np.array(["dense", str(question.pattern)], dtype=object), len(shapes))
    columns = {"m": m, "n": n, "k": k, "pattern": pattern, "operand": np.full(len(m), question.operand, dtype=object)}
    try:
        work = gemms(columns, dtype=question.dtype)
    except CellError as error:
        size = " x ".join(f"{sizes[error.row]}" for sizes in (m, n, k))
        raise ShapeError(f"{size}, which is tried for this shape: {error.message}") from None
    return simulate(arch, work)


def _passes(sizes: np.ndarray, found: np.ndarray, level: float) -> tuple[int | None, int | None]:
    """The first size above the level, and the one from which all are."""
    above = found > level
    if not above.any():
        return None, None
    below = np.flatnonzero(~above)
    start = int(below[-1]) + 1 if len(below) else 0
    return int(sizes[np.argmax(above)]), int(sizes[start]) if start < len(sizes) else None
