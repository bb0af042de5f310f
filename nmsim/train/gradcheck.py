"""Backward passes checked against central differences in double precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from nmsim.errors import NmsimError
from nmsim.train.layers.base import Layer, Run
from nmsim.train.precision import PRECISIONS
from nmsim.train.products import Products

Array = np.ndarray
Function = Callable[..., tuple[float, Any]]

FLOOR = 1e-3
"""Errors of gradients smaller than this share of the largest are relative to that: differences have absolute noise."""


class GradientError(NmsimError):
    """A backward pass that does not agree with differences of the forward pass."""


def check_gradients(
    layer_or_function: Layer | Function,
    inputs: Array | Sequence[Array],
    eps: float = 1e-5,
    rtol: float = 1e-6,
    rng: np.random.Generator | None = None,
    points: int = 200,
) -> float:
    """The largest relative error of the gradients of every input and parameter.

    A function takes the inputs and returns (value, gradient) or (value, gradients), one for each floating input. A
    layer is checked in training mode through a random weighting of its output, with its parameters in float64 for
    the time, and the same random draws on each pass. Integer and boolean inputs are held fixed. At most `points`
    elements of an array are checked, drawn from `rng`.

    Raises GradientError with the layer, the array, the index and both values if an error is over rtol.
    """
    rng = rng or np.random.default_rng(0)
    inputs = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    inputs = [x.astype(np.float64) if np.issubdtype(x.dtype, np.floating) else x for x in inputs]
    if isinstance(layer_or_function, Layer):
        with _in_double(layer_or_function):
            return _check_layer(layer_or_function, inputs, eps, rtol, rng, points)
    _, gradients = layer_or_function(*inputs)
    gradients = [gradients] if isinstance(gradients, np.ndarray) else list(gradients)
    named = [(f"input {i}", x) for i, x in enumerate(inputs) if _floating(x)]
    checked = [(name, x, g) for (name, x), g in zip(named, gradients, strict=True)]
    who = getattr(layer_or_function, "__name__", "function")
    return _compare(who, lambda: layer_or_function(*inputs)[0], checked, eps, rtol, rng, points)


def _check_layer(
    layer: Layer, inputs: list[Array], eps: float, rtol: float, rng: np.random.Generator, points: int
) -> float:
    def run() -> Run:
        return Run(Products(PRECISIONS["fp64"]), rng=np.random.default_rng(1))

    first = run()
    weights = rng.standard_normal(layer.forward(first, *inputs).shape)
    # A copy: a layer that writes to the gradient it is given must not change the weighting.
    gradients = layer.backward(first, weights.copy(), tuple(_floating(x) for x in inputs))
    checked = [(f"input {i}", x, gradients[i]) for i, x in enumerate(inputs) if _floating(x)]
    checked += [(p.name, p.value, p.grad) for p in layer.parameters()]
    who = f"layer {layer.name!r}"
    return _compare(
        who, lambda: float(np.vdot(layer.forward(run(), *inputs), weights)), checked, eps, rtol, rng, points
    )


def _compare(
    who: str, value: Callable[[], float], checked: list[tuple[str, Array, Array | None]], eps: float, rtol: float,
    rng: np.random.Generator, points: int,
) -> float:  # fmt: skip
    """The largest error over the arrays, each element of which is moved and put back."""
    found = []
    for name, array, gradient in checked:
        if gradient is None or gradient.shape != array.shape:
            raise GradientError(f"{who}: {name} {array.shape} has a gradient of {getattr(gradient, 'shape', None)}")
        for flat in rng.permutation(array.size)[:points]:
            index = tuple(int(i) for i in np.unravel_index(flat, array.shape))
            found.append((name, index, float(gradient[index]), _difference(value, array, index, eps)))
    floor = FLOOR * max((max(abs(g), abs(d)) for _, _, g, d in found), default=0.0)
    worst = 0.0
    for name, index, backward, difference in found:
        error = abs(backward - difference) / max(abs(backward), abs(difference), floor, np.finfo(np.float64).tiny)
        if not error <= rtol:
            raise GradientError(
                f"{who}: {name} at {index}: the backward pass gives {backward:.9g}, differences give "
                f"{difference:.9g}, a relative error of {error:.2g}, more than {rtol:.2g}"
            )
        worst = max(worst, error)
    return worst


def _difference(value: Callable[[], float], array: Array, index: tuple[int, ...], eps: float) -> float:
    kept = array[index]
    array[index] = kept + eps
    above = value()
    array[index] = kept - eps
    below = value()
    array[index] = kept
    return (above - below) / (2 * eps)


@contextmanager
def _in_double(layer: Layer) -> Iterator[None]:
    """The layer's parameters in float64 for a while; values, gradients and buffers come back as they were."""
    before = [(p, p.value, p.grad) for p in layer.parameters()]
    buffers = [(array, array.copy()) for array in layer.buffers().values()]
    for parameter, value, _ in before:
        parameter.value = value.astype(np.float64)
    try:
        yield
    finally:
        for parameter, value, grad in before:
            parameter.value, parameter.grad = value, grad
        for array, saved in buffers:
            array[...] = saved


def _floating(x: Array) -> bool:
    return np.issubdtype(x.dtype, np.floating)
