"""Statistics of the inputs of a layer, by which one-shot pruning weighs its weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nmsim.errors import PatternError, ShapeError
from nmsim.sparsity.groups import Array

CHUNK_TOKENS = 1024
"""Tokens widened to float64 at once."""


class InputStatistics:
    """Running sums over the inputs of a layer: of the squares of each input, and with `hessian` of X^T X.

    Memory is [inputs] or [inputs, inputs] float64, whatever was added; `samples` and `tokens` count that.
    """

    def __init__(self, inputs: int, hessian: bool = False):
        if inputs < 1:
            raise ShapeError(f"statistics need at least 1 input, not {inputs}")
        self.inputs, self.samples, self.tokens = inputs, 0, 0
        self._squares = np.zeros(inputs)
        self._gram = np.zeros((inputs, inputs)) if hessian else None

    def add(self, x: ArrayLike, samples: int | None = None) -> None:
        """Add inputs x [..., in], all leading axes counted as tokens.

        `samples` says how many samples they are: by default the length of the first axis of x [samples, ..., in],
        and 1 for x [tokens, in]. It scales scores and losses; masks and weights do not depend on it. Raises
        ShapeError for other sizes and PatternError for values that are not finite, and then adds nothing.
        """
        x = np.asarray(x)
        if x.ndim == 0 or x.shape[-1] != self.inputs or x.size == 0:
            raise ShapeError(f"inputs {list(x.shape)} for statistics of [..., {self.inputs}], at least one token")
        count = samples if samples is not None else len(x) if x.ndim > 2 else 1
        if count < 1:
            raise ShapeError(f"inputs are of at least 1 sample, not {count}")
        rows = finite(x, "inputs").reshape(-1, self.inputs)
        for start in range(0, len(rows), CHUNK_TOKENS):
            chunk = rows[start : start + CHUNK_TOKENS].astype(np.float64)
            self._squares += np.einsum("ti,ti->i", chunk, chunk)
            if self._gram is not None:
                self._gram += chunk.T @ chunk
        self.samples += count
        self.tokens += len(rows)

    @property
    def scaler(self) -> Array:
        """The mean over samples of the sum over tokens of x^2, [in] (Wanda's `scaler_row`)."""
        return self._squares / self._counted()

    @property
    def hessian(self) -> Array:
        """(2 / samples) X^T X, [in, in], without damping; raises ShapeError where it was not asked for."""
        if self._gram is None:
            raise ShapeError("these statistics hold squares only; make them with InputStatistics(inputs, hessian=True)")
        return self._gram * (2 / self._counted())

    def _counted(self) -> int:
        if self.samples:
            return self.samples
        raise ShapeError("no inputs were added to the statistics")


def finite(array: Array, what: str) -> Array:
    """The array; raises PatternError naming `what` unless it holds real, finite numbers."""
    if array.dtype.kind not in "biuf":
        raise PatternError(f"{what} are real numbers, not {array.dtype}")
    if not (finite := np.isfinite(array)).all():
        raise PatternError(f"{array.size - np.count_nonzero(finite)} of {array.size} {what} are NaN or infinite")
    return array
