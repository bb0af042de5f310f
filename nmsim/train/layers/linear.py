"""Linear: y = x W + b over the last axis."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmsim.sparsity.pattern import Pattern
from nmsim.train.layers.base import Array, Layer, Parameter, Run, activation
from nmsim.train.products import Operand


class Weighted(Layer):
    """A layer with a weight [..., in, out] and, if wanted, a bias [out] that starts at zero."""

    def __init__(self, name: str, weight: Array, bias: bool):
        super().__init__(name)
        self.weight = Parameter(f"{name}.weight", weight.astype(np.float32))
        self.bias = Parameter(f"{name}.bias", np.zeros(weight.shape[-1], np.float32), decays=False) if bias else None

    def parameters(self) -> Iterator[Parameter]:
        """Weight, then bias."""
        yield self.weight
        if self.bias is not None:
            yield self.bias


class Linear(Weighted):
    """y[..., out] = x[..., in] · W[in, out] + b.

    FF (T, out, in), BP dx = dy · Wᵀ (T, in, out), WU dW = xᵀ · dy (in, out, T), with T the product of the other axes.
    """

    def __init__(
        self, name: str, inputs: int, outputs: int, rng: np.random.Generator, bias: bool = True, gain: float = 1.0
    ):
        scale = gain / np.sqrt(inputs)
        super().__init__(name, rng.standard_normal((inputs, outputs)) * scale, bias)

    def forward(self, run: Run, *inputs: Array) -> Array:
        """FF."""
        (x,) = inputs
        rows = x.reshape(-1, x.shape[-1])
        weight, pattern = run.sparsifier.forward_weight(self.name, self.weight.value)
        b = weight_operand(weight, pattern, "k", -2)
        y = run.products.matmul(self.name, "FF", rows, weight, activation(rows), b, "activation")
        if self.bias is not None:
            y += self.bias.value
        if run.training:
            run.saved[self.name] = rows
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """BP if the input needs it, then WU."""
        rows = run.saved.pop(self.name)
        flat = dy.reshape(-1, dy.shape[-1])
        dx = self._input_gradient(run, flat).reshape(*dy.shape[:-1], rows.shape[-1]) if needs[0] else None
        gradient = Operand("gradient", flat.size)
        dw = run.products.matmul(self.name, "WU", rows.T, flat, activation(rows), gradient, "weight_gradient")
        self.weight.grad = run.sparsifier.weight_gradient(self.name, self.weight.value, dw)
        if self.bias is not None:
            self.bias.grad = flat.sum(axis=0)
        return (dx,)

    def _input_gradient(self, run: Run, dy: Array) -> Array:
        pruned, gradient_pattern = run.sparsifier.backward_gradient(self.name, dy)
        weight, pattern, along = run.sparsifier.backward_weight(self.name, self.weight.value)
        a = gradient_operand(pruned, gradient_pattern)
        b = weight_operand(weight, pattern, "k" if along == -1 else "n", along)
        return run.products.matmul(self.name, "BP", pruned, weight.T, a, b, "gradient")


def weight_operand(weight: Array, pattern: Pattern | None, axis: str, along: int) -> Operand:
    """A weight as an operand whose groups run along `along` of it and `axis` of the product."""
    if pattern is None:
        return Operand("weight", weight.size)
    return Operand("weight", weight.size, pattern, axis, weight, along)


def gradient_operand(dy: Array, pattern: Pattern | None) -> Operand:
    """An output gradient as operand A of BP, groups along its last axis."""
    if pattern is None:
        return Operand("gradient", dy.size)
    return Operand("gradient", dy.size, pattern, "k", dy, -1)
