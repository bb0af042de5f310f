"""Element-wise layers: ReLU, GELU, addition of two branches, dropout."""

from __future__ import annotations

import math

import numpy as np

from nmsim.errors import ShapeError
from nmsim.train.layers.base import Array, Layer, Run
from nmsim.train.parallel import BLOCK_ELEMENTS, elementwise, in_parallel

GELU_SLOPE = math.sqrt(2.0 / math.pi)
GELU_CUBIC = 0.044715
"""Hendrycks and Gimpel 2016, section 2: x/2·(1 + tanh(slope·(x + cubic·x³)))."""

STEPS = 1 << 16
"""Dropout rates are rounded to multiples of 1 / STEPS."""


class ReLU(Layer):
    """y = max(x, 0)."""

    def forward(self, run: Run, *inputs: Array) -> Array:
        """The output is what is kept: the layer that reads it keeps it as well."""
        (x,) = inputs
        # NumPy takes the maximum with an array several times as fast as with a number.
        zeros = np.zeros(min(x.size, BLOCK_ELEMENTS), x.dtype)
        y = elementwise(lambda y, x: np.maximum(x, zeros[: len(x)], out=y), x)
        run.vector(self.name, "relu", x.shape)
        if run.training:
            run.saved[self.name] = y
        return y

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """dy where y > 0."""
        y = run.saved.pop(self.name)
        run.vector(self.name, "relu_backward", dy.shape)
        return (elementwise(lambda dx, dy, y: np.multiply(dy, y > 0, out=dx), dy, y) if needs[0] else None,)


class GELU(Layer):
    """y = x/2·(1 + tanh(slope·(x + cubic·x³)))."""

    def forward(self, run: Run, *inputs: Array) -> Array:
        """The input is kept."""
        (x,) = inputs
        run.vector(self.name, "gelu", x.shape)
        if run.training:
            run.saved[self.name] = x
        return elementwise(_gelu, x)

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """The hyperbolic tangent is computed again."""
        x = run.saved.pop(self.name)
        run.vector(self.name, "gelu_backward", dy.shape)
        return (elementwise(_gelu_gradient, dy, x) if needs[0] else None,)


class Add(Layer):
    """y = a + b, of one shape, or b without the first axis: added to every sample.

    The gradient of an input of y's shape is dy itself, not a copy: whoever gets it must not write to it.
    """

    def forward(self, run: Run, *inputs: Array) -> Array:
        """Raises ShapeError if the shapes do not fit."""
        a, b = inputs
        if b.shape not in (a.shape, a.shape[1:]):
            raise ShapeError(f"layer {self.name!r} adds arrays of {a.shape} and {b.shape}")
        run.vector(self.name, "add", a.shape)
        if run.training:
            run.saved[self.name] = b.ndim < a.ndim
        return a + b if b.ndim < a.ndim else elementwise(lambda y, a, b: np.add(a, b, out=y), a, b)

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """The op of the backward pass is the joining of the gradients where the branches parted."""
        shared = run.saved.pop(self.name)
        run.vector(self.name, "add_backward", dy.shape)
        to_b = dy.sum(axis=0) if shared and needs[1] else dy
        return (dy if needs[0] else None, to_b if needs[1] else None)


class Dropout(Layer):
    """y = x / (1 - rate) where a draw keeps the element, else 0; nothing in inference (Srivastava et al. 2014)."""

    def __init__(self, name: str, rate: float = 0.1):
        super().__init__(name)
        if not 0.0 <= rate < 1.0:
            raise ShapeError(f"layer {name!r}: a dropout rate of {rate} is not in [0, 1)")
        self.dropped = min(round(rate * STEPS), STEPS - 1)
        self.gain = STEPS / (STEPS - self.dropped)

    def forward(self, run: Run, *inputs: Array) -> Array:
        """What was kept is stored, one byte an element."""
        (x,) = inputs
        if not run.training:
            return x
        kept = _draw(int(run.rng.integers(1 << 63)), x.size, self.dropped)
        run.saved[self.name] = kept
        run.vector(self.name, "dropout", x.shape)
        return self._masked(x, kept)

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """The same elements of dy are kept."""
        kept = run.saved.pop(self.name)
        run.vector(self.name, "dropout_backward", dy.shape)
        return (self._masked(dy, kept) if needs[0] else None,)

    def _masked(self, x: Array, kept: Array) -> Array:
        def mask(y: Array, x: Array, kept: Array) -> None:
            np.multiply(x, self.gain, out=y)
            y *= kept

        return elementwise(mask, x, kept)


def _gelu(y: Array, x: Array) -> None:
    _gelu_tanh(y, x, np.square(x, out=y))
    y += 1.0
    y *= x
    y *= 0.5


def _gelu_tanh(t: Array, x: Array, square: Array) -> None:
    """t = tanh(x·slope·(1 + cubic·x²)), of x²."""
    np.multiply(square, GELU_SLOPE * GELU_CUBIC, out=t)
    t += GELU_SLOPE
    t *= x
    np.tanh(t, out=t)


def _gelu_gradient(dx: Array, dy: Array, x: Array) -> None:
    """dx = dy·(1 + t)/2·(1 + x·(1 - t)·slope·(1 + 3·cubic·x²))."""
    inner = np.square(x)
    _gelu_tanh(dx, x, inner)
    inner *= 3 * GELU_SLOPE * GELU_CUBIC
    inner += GELU_SLOPE
    inner *= x
    inner *= 1.0 - dx
    inner += 1.0
    dx += 1.0
    dx *= inner
    dx *= dy
    dx *= 0.5


def _draw(seed: int, size: int, dropped: int) -> Array:
    """bool[size], false with probability dropped / STEPS; each block from a generator of its own."""
    kept = np.empty(size, np.bool_)

    def fill(block: int) -> None:
        target = kept[block * BLOCK_ELEMENTS : (block + 1) * BLOCK_ELEMENTS]
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(block,))))
        words = rng.integers(0, (1 << 64) - 1, -(-len(target) // 4), dtype=np.uint64, endpoint=True)
        np.greater_equal(words.view(np.uint16)[: len(target)], dropped, out=target)

    in_parallel(fill, -(-size // BLOCK_ELEMENTS))
    return kept
