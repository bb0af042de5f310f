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
        rows = run.sparsifier.forward_input(self.name, x.reshape(-1, x.shape[-1]))
        weight, pattern = run.sparsifier.forward_weight(self.name, self.weight.value)
        b = weight_operand(run, self.name, "FF", weight, pattern, -2)
        run.sparsifier.see_input(self.name, rows)
        y = run.products.matmul(self.name, "FF", rows, weight, activation(rows), b, "activation")
        if (adapter := run.sparsifier.adapter(self.name)) is not None:
            y += adapter.forward(run, rows)
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
        if (adapter := run.sparsifier.adapter(self.name)) is not None:
            (part,) = adapter.backward(run, flat, needs)
            dx = part if dx is None or part is None else dx + part.reshape(dx.shape)
        if self.bias is not None:
            self.bias.grad = flat.sum(axis=0)
        return (dx,)

    def _input_gradient(self, run: Run, dy: Array) -> Array:
        pruned, gradient_pattern = run.sparsifier.backward_gradient(self.name, dy)
        weight, pattern, along = run.sparsifier.backward_weight(self.name, self.weight.value)
        a = gradient_operand(pruned, gradient_pattern)
        b = weight_operand(run, self.name, "BP", weight, pattern, along)
        return run.products.matmul(self.name, "BP", pruned, weight.T, a, b, "gradient")


class Adapter(Layer):
    """x[T, in] · L · R / rank, L random and R zero at first (SLoPe)."""

    def __init__(self, layer: str, inputs: int, outputs: int, rank: int, rng: np.random.Generator):
        super().__init__(f"{layer}.adapter")
        self.down = Linear(f"{self.name}.down", inputs, rank, rng, bias=False)
        self.up = Linear(f"{self.name}.up", rank, outputs, rng, bias=False)
        self.up.weight.value[...] = 0
        self.rank = rank

    def parameters(self) -> Iterator[Parameter]:
        """L, then R."""
        yield from self.down.parameters()
        yield from self.up.parameters()

    def forward(self, run: Run, *inputs: Array) -> Array:
        """Both products."""
        return self.up.forward(run, self.down.forward(run, *inputs)) / self.rank

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """BP and WU of both."""
        (between,) = self.up.backward(run, dy / self.rank, (True,))
        assert between is not None
        return self.down.backward(run, between, needs)


def weight_operand(run: Run, layer: str, stage: str, weight: Array, pattern: Pattern | None, along: int) -> Operand:
    """The weight of a layer as operand B of FF or BP, with groups along axis -2 (in) or -1 (out) of it.

    Groups along `in` run along k of FF and n of BP, those along `out` the other way round.
    """
    dtype = run.sparsifier.weight_dtype(layer)
    if pattern is None:
        return Operand("weight", weight.size, dtype=dtype)
    order = run.sparsifier.order(layer, stage)
    values = weight if order is None else np.take(weight, order, along)
    axis = "k" if (stage == "FF") == (along == -2) else "n"
    return Operand("weight", weight.size, pattern, axis, values, along, dtype)


def gradient_operand(dy: Array, pattern: Pattern | None) -> Operand:
    """An output gradient as operand A of BP, groups along its last axis."""
    if pattern is None:
        return Operand("gradient", dy.size)
    return Operand("gradient", dy.size, pattern, "k", dy, -1)
