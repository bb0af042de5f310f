"""Reshape: the same elements in another shape, as when a map becomes a sequence of tokens."""

from __future__ import annotations

from nmsim.train.layers.base import Array, Layer, Run


class Reshape(Layer):
    """y[B, *shape] = x[B, ...]; no operation on a machine."""

    def __init__(self, name: str, *shape: int):
        super().__init__(name)
        self.shape = shape

    def forward(self, run: Run, *inputs: Array) -> Array:
        """The shape of the input is kept."""
        (x,) = inputs
        if run.training:
            run.saved[self.name] = x.shape
        return x.reshape(len(x), *self.shape)

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """dy in the shape of the input."""
        return (dy.reshape(run.saved.pop(self.name)),)
