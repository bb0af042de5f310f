"""Learned tables: rows looked up by token, and arrays added to every sample of the batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmsim.errors import ShapeError
from nmsim.train.layers.base import Array, Layer, Parameter, Run

INITIAL_SCALE = 0.02
"""Standard deviation of the initial values (Devlin et al. 2019 and Radford et al. 2018 use it throughout)."""

OFTEN = 16
"""Occurrences in a batch over which the gradients of an id are summed by themselves."""


class Embedding(Layer):
    """y[..., dim] = the rows of weight[vocabulary, dim] that the integers ids[...] name."""

    def __init__(
        self, name: str, vocabulary: int, dim: int, rng: np.random.Generator, scale: float = INITIAL_SCALE
    ):  # fmt: skip
        super().__init__(name)
        self.weight = Parameter(f"{name}.weight", _normal(rng, (vocabulary, dim), scale))

    def parameters(self) -> Iterator[Parameter]:
        """Weight [vocabulary, dim]."""
        yield self.weight

    def forward(self, run: Run, *inputs: Array) -> Array:
        """Raises ShapeError if an id is not a row of the table."""
        (ids,) = inputs
        vocabulary = len(self.weight.value)
        if ids.size and (ids.min() < 0 or ids.max() >= vocabulary):
            raise ShapeError(
                f"layer {self.name!r}: ids from {ids.min()} to {ids.max()} are not in 0 ... {vocabulary - 1}"
            )
        y = self.weight.value[ids]
        run.vector(self.name, "embedding", y.shape, a_role="weight")
        if run.training:
            run.saved[self.name] = ids
        return y

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """The gradients of the tokens of each row, added; ids have no gradient."""
        ids = run.saved.pop(self.name)
        run.vector(self.name, "embedding_backward", dy.shape, c_role="weight_gradient")
        self.weight.grad = _scattered(ids.reshape(-1), dy.reshape(-1, dy.shape[-1]), len(self.weight.value))
        return (None,)


class Learned(Layer):
    """y = x + value, the same for every sample: position embeddings, with a class token before them if it is named.

    Without an input y is the value itself, of any shape, for an `Add` that has it as its second input.

    x is [B, T, D] and value [T, D], or [T + r, D]: then its first r rows stand before x in y[B, T + r, D]. A class
    token is a parameter `token` of r = 1 rows added to the first. `op` names the addition, `<layer>.add` of the layer
    whose output x is.
    """

    def __init__(
        self, name: str, shape: tuple[int, ...], rng: np.random.Generator, op: str = "", token: str = "",
        scale: float = INITIAL_SCALE,
    ):  # fmt: skip
        super().__init__(name)
        self.op = op or name
        self.value = Parameter(name, _normal(rng, shape, scale))
        self.token = Parameter(token, _normal(rng, (1, *shape[1:]), scale)) if token else None

    def parameters(self) -> Iterator[Parameter]:
        """The class token if there is one, then the value."""
        if self.token is not None:
            yield self.token
        yield self.value

    def forward(self, run: Run, *inputs: Array) -> Array:
        """Raises ShapeError if value is shorter than the samples."""
        if not inputs:
            return self.value.value
        (x,) = inputs
        value = self.value.value
        before = len(value) - x.shape[1]
        if before < (self.token is not None) or x.shape[2:] != value.shape[1:]:
            raise ShapeError(f"layer {self.name!r}: {value.shape} cannot be added to samples of {x.shape[1:]}")
        y = np.empty((len(x), *value.shape), x.dtype)
        y[:, :before] = value[:before]
        if self.token is not None:
            y[:, 0] += self.token.value[0]
        np.add(x, value[before:], out=y[:, before:])
        run.vector(self.op, "add", x.shape)
        if run.training:
            run.saved[self.name] = before
        return y

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """Value gets the sum over the batch, x what stands at its own rows."""
        if not needs:
            self.value.grad = dy
            return ()
        dx = dy[:, run.saved.pop(self.name) :]
        run.vector(self.op, "add_backward", dx.shape)
        self.value.grad = dy.sum(axis=0)
        if self.token is not None:
            self.token.grad = self.value.grad[:1].copy()
        return (dx if needs[0] else None,)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Array:
    return rng.standard_normal(shape, np.float32) * np.float32(scale)


def _scattered(ids: Array, rows: Array, length: int) -> Array:
    """[length, dim] with each row added at its id.

    Ids that occur often are summed one by one; of the others, all the first occurrences are added at once, then all
    the second ones, and so on. Both are several times as fast as `np.add.at` and `np.add.reduceat`.
    """
    out = np.zeros((length, rows.shape[1]), rows.dtype)
    order = np.argsort(ids, kind="stable")
    present, starts, counts = np.unique(ids[order], return_index=True, return_counts=True)
    for i in np.flatnonzero(counts > OFTEN):
        out[present[i]] = rows[order[starts[i] : starts[i] + counts[i]]].sum(axis=0)
    for occurrence in range(OFTEN):
        more = (counts > occurrence) & (counts <= OFTEN)
        if not more.any():
            break
        out[present[more]] += rows[order[starts[more] + occurrence]]
    return out
