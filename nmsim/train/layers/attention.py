"""Scaled dot-product attention: softmax(Q·Kᵀ / sqrt(D))·V for each head."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nmsim.errors import ShapeError
from nmsim.train.layers.base import Array, Layer, Run
from nmsim.train.parallel import row_dot, rows_in_parallel
from nmsim.train.products import Operand


class Attention(Layer):
    """y[B, Tq, H·D] from q[B, Tq, H·D], k and v[B, Tk, H·D], and optionally keep[B, Tk], true for keys to attend to.

    Vaswani et al. 2017, equation 1. Products per head: QKᵀ (Tq, Tk, D) and PV (Tq, D, Tk), B·H of each; backward
    dP, dV, then dQ, dK. With `causal`, a query sees the keys up to its own position. A query that sees none gives zero.
    """

    def __init__(self, name: str, heads: int, causal: bool = False):
        super().__init__(name)
        self.heads, self.causal = heads, causal

    def forward(self, run: Run, *inputs: Array) -> Array:
        """Of the scores only the probabilities are kept; raises ShapeError if the heads do not divide the features."""
        q, k, v = (self._split(x) for x in inputs[:3])
        keep = inputs[3] if len(inputs) > 3 else None
        scores = np.empty((*q.shape[:3], k.shape[2]), q.dtype)
        self._product(run, "qk", "FF", q, k.swapaxes(2, 3), "activation activation activation", scores)
        softmax_rows(scores, 1.0 / math.sqrt(q.shape[-1]), self._bias(scores, keep))
        run.vector(f"{self.name}.softmax", "softmax", scores.shape)
        y = np.empty(inputs[0].shape, q.dtype)
        self._product(run, "pv", "FF", scores, v, "activation activation activation", self._split(y))
        if run.training:
            run.saved[self.name] = q, k, v, scores
        return y

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """All of dQ, dK and dV if any is needed; a mask has no gradient."""
        q, k, v, p = run.saved.pop(self.name)
        if not any(needs):
            return (None,) * len(needs)
        do = self._split(dy)
        dp = np.empty_like(p)
        self._product(run, "pv", "BP", do, v.swapaxes(2, 3), "gradient activation gradient", dp)
        dv = self._gradient(run, "pv", p.swapaxes(2, 3), do, "activation gradient gradient")
        softmax_rows_gradient(dp, p, 1.0 / math.sqrt(q.shape[-1]))
        run.vector(f"{self.name}.softmax", "softmax_backward", dp.shape)
        dq = self._gradient(run, "qk", dp, k, "gradient activation gradient")
        dk = self._gradient(run, "qk", dp.swapaxes(2, 3), q, "gradient activation gradient")
        return (dq, dk, dv, None)[: len(needs)]

    def _split(self, x: Array) -> Array:
        """x[B, T, H·D] as [B, H, T, D], not copied."""
        if x.shape[-1] % self.heads:
            raise ShapeError(f"layer {self.name!r}: {self.heads} heads do not divide {x.shape[-1]} features")
        return x.reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2)

    def _product(self, run: Run, part: str, stage: str, x: Array, y: Array, roles: str, out: Array) -> None:
        """out = x @ y for each head."""
        a_role, b_role, c_role = roles.split()
        a, b = Operand(a_role, x.size), Operand(b_role, y.size)
        run.products.matmul(f"{self.name}.{part}", stage, x, y, a, b, c_role, out)

    def _gradient(self, run: Run, part: str, x: Array, y: Array, roles: str) -> Array:
        """x @ y for each head as [B, T, H·D]."""
        batch, heads, tokens, dim = *x.shape[:3], y.shape[3]
        out = np.empty((batch, tokens, heads * dim), y.dtype)
        self._product(run, part, "BP", x, y, roles, self._split(out))
        return out

    def _bias(self, scores: Array, keep: Array | None) -> Callable[[Array], Array | float] | None:
        """What is added to the scores of the rows of these numbers: -inf where a query must not see a key."""
        _, heads, queries, keys = scores.shape
        if not self.causal and keep is None:
            return None
        later = np.triu(np.full((queries, keys), -np.inf, scores.dtype), 1) if self.causal else None
        absent = None if keep is None else np.where(keep, 0.0, -np.inf).astype(scores.dtype)

        def bias(rows: Array) -> Array | float:
            hidden = 0.0 if later is None else later[rows % queries]
            return hidden if absent is None else hidden + absent[rows // (heads * queries)]

        return bias


def softmax_rows(scores: Array, scale: float, bias: Callable[[Array], Array | float] | None = None) -> None:
    """Each last-axis row of contiguous scores becomes softmax(scale·row + bias(its number)), in place."""
    flat = scores.reshape(-1, scores.shape[-1])
    lowest, smallest = np.finfo(scores.dtype).min, np.finfo(scores.dtype).tiny
    ones = np.ones(flat.shape[1], flat.dtype)

    def softmax(rows: Array, numbers: Array) -> None:
        rows *= scale
        if bias is not None:
            rows += bias(numbers)
        # By argmax, several times as fast as max. The limits matter to a row that is -inf throughout: it becomes zero.
        greatest = np.take_along_axis(rows, rows.argmax(axis=1)[:, None], axis=1)
        rows -= np.maximum(greatest, lowest)
        np.exp(rows, out=rows)
        rows *= 1.0 / np.maximum(row_dot(rows, ones), smallest)

    rows_in_parallel(softmax, flat, np.arange(len(flat)))


def softmax_rows_gradient(dp: Array, p: Array, scale: float) -> None:
    """dp becomes the gradient of the unscaled scores, p·(dp - Σ p·dp)·scale, in place."""

    def gradient(dp: Array, p: Array) -> None:
        dp -= row_dot(dp, p)
        dp *= p
        dp *= scale

    rows_in_parallel(gradient, dp.reshape(-1, dp.shape[-1]), p.reshape(-1, p.shape[-1]))
