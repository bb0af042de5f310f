"""The condensed form of a layer with constant fan-in: the weights of its active neurons and the inputs they read.

y[t, j] = sum over i of values[j, i] * x[t, indices[j, i]] for the active neurons j (SRigL, arXiv 2305.02299;
calgaryml/condensed-sparsity, src/condensed_sparsity/condensed_linear.py). Each product has three kernels of one
result: `gather` in NumPy, which reads only the inputs that are used; `csr`, a sparse matrix of SciPy; `structured`, a
dense product without the ablated neurons.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmsim.errors import PatternError, ShapeError, UnsupportedError, unknown
from nmsim.sparsity.groups import Array, blocks

Kernel = Literal["gather", "csr", "structured"]
Places = NDArray[np.intp]

KERNELS = ("gather", "csr", "structured")
TOKENS = 256
"""Rows of an operand that a gathering kernel takes at a time, which bounds its scratch memory."""


@dataclass(frozen=True, eq=False)
class Condensed:
    """A weight [out, inputs] with k weights in every active neuron and none in the others.

    `values` and `indices` are [active, k], the indices of a row without repetition (`condense` gives them ascending);
    `active` holds the numbers of the active neurons, ascending. The arrays are copied and read-only: for other values
    in the same places take `dataclasses.replace`. Raises ShapeError for arrays that do not go together, PatternError
    for places that the weight does not have.

    In the products x is [..., inputs]. A gradient dy, like a bias, holds the active neurons or all `out`, of which
    those of ablated neurons are not used.
    """

    values: Array
    indices: Places
    active: Places
    out: int
    inputs: int

    def __post_init__(self) -> None:
        for name, dtype in (("values", None), ("indices", np.intp), ("active", np.intp)):
            array = np.array(getattr(self, name), dtype=dtype, order="C")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.out < 1 or self.inputs < 1:
            raise ShapeError(f"a weight has at least one neuron and one input, not [{self.out}, {self.inputs}]")
        if self.values.ndim != 2 or self.indices.shape != self.values.shape or self.active.shape != (len(self.values),):
            shapes = [list(a.shape) for a in (self.values, self.indices, self.active)]
            raise ShapeError(f"values and indices are [active, k] and active [active], not {shapes}")
        if not _within(self.indices, self.inputs) or not _within(self.active, self.out):
            raise PatternError(f"indices and active neurons lie in a weight [{self.out}, {self.inputs}]; some do not")
        if (np.diff(self.active) < 1).any() or (np.diff(np.sort(self.indices, axis=1), axis=1) == 0).any():
            raise PatternError("active neurons are ascending, and no index occurs twice in a row")

    @property
    def fan_in(self) -> int:
        """The weights of each active neuron."""
        return self.values.shape[1]

    @property
    def density(self) -> float:
        """The weights over those of the dense weight [out, inputs]."""
        return self.values.size / (self.out * self.inputs)

    def dense(self) -> Array:
        """The weight [out, inputs], ablated neurons as rows of 0."""
        weight = np.zeros((self.out, self.inputs), dtype=self.values.dtype)
        weight[self.active[:, None], self.indices] = self.values
        return weight

    def matmul(
        self, x: ArrayLike, bias: ArrayLike | None = None, *, scatter: bool = False, kernel: Kernel = "gather"
    ) -> Array:
        """The outputs [..., active] of x [..., inputs]; with `scatter` [..., out], those of ablated neurons 0.

        Raises ShapeError for an x or a bias of another length, UnsupportedError for an unknown kernel.
        """
        x, lead = _rows(x, (self.inputs,), "x")
        y = {"gather": self._gather, "csr": self._csr, "structured": self._structured}[_known(kernel)](x)
        if bias is not None:
            if np.ndim(bias) != 1:
                raise ShapeError(f"a bias is a vector, not {list(np.shape(bias))}")
            y = y + self._of_active(bias, "a bias")
        if scatter:
            scattered = np.zeros((len(y), self.out), dtype=y.dtype)
            scattered[:, self.active] = y
            y = scattered
        return y.reshape(*lead, y.shape[-1])

    def input_gradient(self, dy: ArrayLike, *, kernel: Kernel = "gather") -> Array:
        """dx [..., inputs], the product of dy [..., active] or [..., out] and the weight.

        Raises as `matmul`.
        """
        kernels = {"gather": self._spread, "csr": self._csr_transposed, "structured": self._structured_transposed}
        _, lead = _rows(dy, (len(self.active), self.out), "dy")
        dx = kernels[_known(kernel)](self._of_active(dy, "dy"))
        return dx.reshape(*lead, self.inputs)

    def weight_gradient(self, dy: ArrayLike, x: ArrayLike, *, kernel: Kernel = "gather") -> Array:
        """The gradient [active, k] of `values`: the product of dy transposed and x at the places that are kept.

        dy is [..., active] or [..., out]. A sampled product has no sparse operand: `csr` takes the kernel `gather`.
        Raises as `matmul`, and ShapeError for a dy and an x of different numbers of rows.
        """
        x, lead = _rows(x, (self.inputs,), "x")
        dy, of_dy = self._of_active(dy, "dy"), np.shape(dy)[:-1]
        if lead != of_dy:
            raise ShapeError(f"dy and x have the same rows, not {list(of_dy)} and {list(lead)}")
        if _known(kernel) == "structured":
            return np.take_along_axis(dy.T @ x, self.indices, axis=1)
        return self._sampled(dy, x)

    @cached_property
    def _rows_of_active(self) -> Array:
        """The weight [active, inputs] without the ablated neurons."""
        weight = np.zeros((len(self.active), self.inputs), dtype=self.values.dtype)
        np.put_along_axis(weight, self.indices, self.values, axis=1)
        return weight

    @cached_property
    def _sparse(self) -> Any:
        from scipy.sparse import csr_array

        starts = np.arange(len(self.active) + 1) * self.fan_in
        # SciPy has no half precision.
        values = self.values.ravel().astype(np.result_type(self.values, np.float32))
        return csr_array((values, self.indices.ravel(), starts), shape=(len(self.active), self.inputs))

    @cached_property
    def _by_degree(self) -> list[tuple[Places, Places, Array]]:
        """For each number of readers d that inputs have: the inputs [n], who reads them [n, d] with what weights."""
        order = np.argsort(self.indices, axis=None, kind="stable")
        degrees = np.bincount(self.indices.ravel(), minlength=self.inputs)
        starts = np.cumsum(degrees) - degrees
        groups = []
        for degree in np.unique(degrees[degrees > 0]):
            inputs = np.flatnonzero(degrees == degree)
            entries = order[starts[inputs, None] + np.arange(degree)]
            groups.append((inputs, entries // self.fan_in, self.values.ravel()[entries]))
        return groups

    def _of_active(self, array: ArrayLike, what: str) -> Array:
        """[rows, active] of an array [..., active] or [..., out]."""
        rows, _ = _rows(array, (len(self.active), self.out), what)
        return rows if rows.shape[1] == len(self.active) else rows[:, self.active]

    def _gather(self, x: Array) -> Array:
        y = np.empty((len(self.active), len(x)), dtype=np.result_type(x, self.values))
        for tokens, columns in _columns(x):
            y[:, tokens] = _gathered(self.values, self.indices, columns)
        return y.T

    def _csr(self, x: Array) -> Array:
        return (self._sparse @ x.T).T.astype(np.result_type(x, self.values), copy=False)

    def _structured(self, x: Array) -> Array:
        return x @ self._rows_of_active.T

    def _spread(self, dy: Array) -> Array:
        dx = np.zeros((self.inputs, len(dy)), dtype=np.result_type(dy, self.values))
        for tokens, columns in _columns(dy):
            for inputs, neurons, values in self._by_degree:
                dx[inputs, tokens] = _gathered(values, neurons, columns)
        return dx.T

    def _csr_transposed(self, dy: Array) -> Array:
        return (self._sparse.T @ dy.T).T.astype(np.result_type(dy, self.values), copy=False)

    def _structured_transposed(self, dy: Array) -> Array:
        return dy @ self._rows_of_active

    def _sampled(self, dy: Array, x: Array) -> Array:
        gradient = np.zeros(self.values.shape, dtype=np.result_type(dy, x))
        for tokens, columns in _columns(x):
            deltas = np.ascontiguousarray(dy[tokens].T)
            for block in blocks(len(self.active), self.fan_in * columns.shape[1]):
                taken = _taken(columns, self.indices[block])
                gradient[block] += np.matmul(taken, deltas[block, :, None])[:, :, 0]
        return gradient


def condense(weight: ArrayLike, mask: ArrayLike | None = None) -> Condensed:
    """The condensed form of a weight [out, in] whose neurons each keep k weights or none, indices ascending.

    What the mask keeps is kept even where it is 0, as grown weights are; without one, what is not 0. Raises
    ShapeError for other shapes, PatternError where two neurons keep different numbers of weights.
    """
    weight = np.asarray(weight)
    kept = (weight if mask is None else np.asarray(mask)) != 0
    if weight.ndim != 2 or kept.shape != weight.shape:
        raise ShapeError(f"a weight and its mask are [out, in], not {list(weight.shape)} and {list(kept.shape)}")
    counts = np.count_nonzero(kept, axis=1)
    active = np.flatnonzero(counts)
    fan_in = int(counts[active[0]]) if active.size else 0
    if (other := active[counts[active] != fan_in]).size:
        raise PatternError(
            f"no constant fan-in: neuron {active[0]} keeps {fan_in} weights, neuron {other[0]} {counts[other[0]]}"
        )
    indices = np.nonzero(kept)[1].reshape(active.size, fan_in)
    return Condensed(weight[active[:, None], indices], indices, active, *weight.shape)


def _rows(array: ArrayLike, widths: tuple[int, ...], what: str) -> tuple[Array, tuple[int, ...]]:
    """The array as [rows, width], and the shape of its rows."""
    array = np.asarray(array)
    if array.ndim == 0 or array.shape[-1] not in widths:
        allowed = " or ".join(str(width) for width in dict.fromkeys(widths))
        raise ShapeError(f"the last axis of {what} has {allowed} elements, not {list(array.shape)}")
    lead = array.shape[:-1]
    return array.reshape(int(np.prod(lead)), array.shape[-1]), lead


def _columns(x: Array) -> Iterator[tuple[slice, Array]]:
    """Slices of the rows of x, and the rows of each slice as contiguous columns."""
    for start in range(0, len(x), TOKENS):
        tokens = slice(start, start + TOKENS)
        yield tokens, np.ascontiguousarray(x[tokens].T)


def _gathered(values: Array, rows: Places, columns: Array) -> Array:
    """sum over i of values[j, i] * columns[rows[j, i]], in blocks of j that fit the cache."""
    y = np.empty((len(values), columns.shape[1]), dtype=np.result_type(values, columns))
    for block in blocks(len(values), values.shape[1] * columns.shape[1]):
        y[block] = np.matmul(values[block, None, :], _taken(columns, rows[block]))[:, 0]
    return y


def _taken(columns: Array, rows: Places) -> Array:
    """columns[rows], whose rows are known to exist: clipping spares NumPy the check of each."""
    if columns.shape[1] == 1:
        return np.take(columns.ravel(), rows, mode="clip")[..., None]
    return np.take(columns, rows, axis=0, mode="clip")


def _within(places: Places, length: int) -> bool:
    return places.size == 0 or (int(places.min()) >= 0 and int(places.max()) < length)


def _known(kernel: str) -> str:
    if kernel not in KERNELS:
        raise UnsupportedError(unknown("kernel", kernel, KERNELS))
    return kernel
