"""The one door through which every matrix product of training passes: recipes act here, the recorder listens here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from nmsim.errors import ShapeError
from nmsim.sparsity.pattern import DENSE, Pattern
from nmsim.train.parallel import matmul
from nmsim.train.precision import FULL, Precision

Multiply = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Operand:
    """An operand of a product: what it is (`role`), its distinct `elements`, and the zeros it may have.

    `pattern` groups run along `axis` (m, k or n) of the product; `values`, needed where the pattern is not dense, is
    the operand as the groups lie in it: any array whose axis `along` holds them. `dtype` is that of the operand where
    it is not the one of the others.
    """

    role: str
    elements: int
    pattern: Pattern = DENSE
    axis: str = ""
    values: np.ndarray | None = None
    along: int = -1
    dtype: str = ""


class Listener(Protocol):
    """What hears of every op that is executed."""

    def op(self, layer: str, stage: str, kind: str = "gemm", **values: Any) -> None:
        """One op with its row of the op table; `a` and `b` are operands to be checked."""

    def pruned(self, layer: str, stage: str, operand: str, array: Any, pattern: Pattern, axis: int) -> None:
        """An operand that was pruned beside the products, with the pattern along an axis that it has to have."""


@dataclass
class Products:
    """Carries out products in the precision that training emulates, and tells the listener of each."""

    precision: Precision = FULL
    listener: Listener | None = None
    macs: int = field(default=0, init=False)
    _counting: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @contextmanager
    def op(
        self, layer: str, stage: str, m: int, n: int, k: int, a: Operand, b: Operand, c: Operand, **more: Any
    ) -> Iterator[Multiply]:
        """`count` products C[m,n] = A[m,k]·B[k,n], carried out in pieces with the function that is yielded.

        Threads may share that function.
        Raises ShapeError if the pieces do not add up to the multiply-accumulates of the op.
        """
        before = self.macs
        yield self._multiply
        if self.macs - before != m * n * k * more.get("count", 1):
            raise ShapeError(f"{layer} {stage}: {self.macs - before} multiply-accumulates are not those of {m}x{n}x{k}")
        if self.listener is not None:
            self.listener.op(layer, stage, **_row(m, n, k, a, b, c), **more)

    def matmul(
        self, layer: str, stage: str, x: np.ndarray, y: np.ndarray, a: Operand, b: Operand, c_role: str,
        out: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """x[m,k] @ y[k,n], or a stack of such products, as one op of its own."""
        m, k, n = x.shape[-2], x.shape[-1], y.shape[-1]
        count = int(np.prod(x.shape[:-2], dtype=int))
        with self.op(layer, stage, m, n, k, a, b, Operand(c_role, m * n * count), count=count):
            self._count(m * n * k * count)
            return matmul(self.precision.operand(x), self.precision.operand(y), out)

    def _multiply(
        self, x: np.ndarray, y: np.ndarray, out: np.ndarray | None = None, macs: int | None = None
    ) -> np.ndarray:
        """x @ y; `macs` is the piece of the op it stands for, where the operands hold zeros put in for convenience."""
        self._count(x.size * y.shape[-1] if macs is None else macs)
        return np.matmul(self.precision.operand(x), self.precision.operand(y), out=out)

    def _count(self, macs: int) -> None:
        with self._counting:
            self.macs += macs


def _row(m: int, n: int, k: int, a: Operand, b: Operand, c: Operand) -> dict[str, Any]:
    row: dict[str, Any] = {"m": m, "n": n, "k": k, "c_elements": c.elements, "c_role": c.role}
    for letter, operand in (("a", a), ("b", b)):
        row |= {f"{letter}_elements": operand.elements, f"{letter}_role": operand.role}
        row |= {f"{letter}_dtype": operand.dtype} if operand.dtype else {}
        if operand.pattern != DENSE:
            row |= {
                f"{letter}_pattern": operand.pattern, f"{letter}_axis": operand.axis,
                letter: operand.values, f"{letter}_along": operand.along,
            }  # fmt: skip
    return row
