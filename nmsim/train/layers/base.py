"""What a layer is: a named forward and backward pair with parameters, run in the context of one step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nmsim.sparsity.pattern import Pattern
from nmsim.train.products import Operand, Products
from nmsim.workloads.vector_ops import BACKWARD, FORWARD, INFERENCE, Cost

Array = np.ndarray


@dataclass(eq=False)
class Parameter:
    """A learned array and its gradient, set by the backward pass.

    `decays`: whether weight decay applies (weights and embeddings, not scales, shifts and biases). `rate` is a factor
    on the learning rate.
    """

    name: str
    value: Array
    decays: bool = True
    grad: Array | None = None
    rate: float = 1.0


class Sparsifier:
    """How a recipe acts on the products of a layer; this one leaves everything dense.

    Weights are stored [..., in, out]; `in` is the reduction axis of FF, `out` that of BP.
    """

    def forward_weight(self, layer: str, weight: Array) -> tuple[Array, Pattern | None]:
        """The weight that FF uses, and its pattern along `in` (None: dense)."""
        return weight, None

    def backward_weight(self, layer: str, weight: Array) -> tuple[Array, Pattern | None, int]:
        """The weight that BP uses, its pattern (None: dense) and the axis of its groups, -2 for in, -1 for out."""
        return weight, None, -1

    def backward_gradient(self, layer: str, gradient: Array) -> tuple[Array, Pattern | None]:
        """The output gradient [..., out] that BP uses, and its pattern along `out`."""
        return gradient, None

    def weight_gradient(self, layer: str, weight: Array, gradient: Array) -> Array:
        """The gradient that the optimizer gets for the weight."""
        return gradient

    def adapter(self, layer: str) -> Any:
        """What is added to the product of a linear layer, with a `forward` and a `backward`; None: nothing."""
        return None

    def forward_input(self, layer: str, x: Array) -> Array:
        """What FF reads in place of the input x [..., in] of a layer with a weight; of evaluations alone."""
        return x

    def see_input(self, layer: str, x: Array) -> None:
        """The input of a layer with a weight, as its forward product reads it."""

    def order(self, layer: str, stage: str) -> Array | None:
        """The order of channels along which the groups of a weight run, None where it is their own."""
        return None

    def weight_dtype(self, layer: str) -> str:
        """The type that the weight of the layer's products is rounded to, empty where it is that of all operands."""
        return ""


@dataclass
class Run:
    """The context of one pass: the door for products, the recipe, whether it trains, and what layers saved.

    `saved` holds what the forward pass of a layer keeps for its backward pass, by the layer's name.
    """

    products: Products = field(default_factory=Products)
    sparsifier: Sparsifier = field(default_factory=Sparsifier)
    training: bool = True
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    saved: dict[str, Any] = field(default_factory=dict)

    def vector(self, layer: str, kind: str, shape: tuple[int, ...], cost: Cost | None = None, **more: Any) -> None:
        """Tell the listener of an element-wise or row-wise op over an array of this shape, rows last."""
        if self.products.listener is None:
            return
        backward = kind.endswith("_backward")
        table = BACKWARD if backward else FORWARD if self.training else INFERENCE
        cost = cost or table.get(kind.removesuffix("_backward"))
        if cost is None:
            return
        m, n = int(np.prod(shape[:-1], dtype=int)), shape[-1]
        row: dict[str, Any] = {"m": m, "n": n, "ops_per_element": cost.ops}
        roles = ("gradient", "activation", "gradient") if backward else ("activation",) * 3
        for letter, per_element, role in zip("abc", (cost.a, cost.b, cost.c), roles, strict=True):
            row |= {f"{letter}_elements": per_element * m * n, f"{letter}_role": role if per_element else "none"}
        self.products.listener.op(layer, "VECTOR", kind, **row | more)


class Layer:
    """An operation with a name; `forward` takes and returns arrays, `backward` returns a gradient for each input."""

    def __init__(self, name: str):
        self.name = name

    def parameters(self) -> Iterator[Parameter]:
        """The learned arrays, in a fixed order."""
        return iter(())

    def buffers(self) -> dict[str, Array]:
        """Arrays that are state but not learned (running statistics), by name."""
        return {}

    def cast(self, dtype: type[np.floating]) -> None:
        """Hold the buffers in another floating type."""

    def forward(self, run: Run, *inputs: Array) -> Array:
        """The output; what `backward` needs goes to `run.saved[self.name]` when training."""
        raise NotImplementedError

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """The gradient for each input (None where `needs` is false); parameter gradients are set on the way."""
        raise NotImplementedError


def activation(x: Array, elements: int | None = None) -> Operand:
    """An activation as a dense operand."""
    return Operand("activation", x.size if elements is None else elements)
