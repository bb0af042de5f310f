"""Pooling of NHWC maps: the greatest or the mean of each window."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from nmsim.errors import ShapeError
from nmsim.train.layers.base import Array, Layer, Run
from nmsim.train.parallel import BLOCK_ELEMENTS, in_parallel
from nmsim.workloads.vector_ops import Cost

Slices = tuple[slice, ...]


class Pool(Layer):
    """Windows of kernel x kernel elements of each channel, `stride` apart (default: the kernel)."""

    def __init__(self, name: str, kernel: int, stride: int | None = None, padding: int = 0):
        super().__init__(name)
        if 2 * padding > kernel:
            raise ShapeError(f"layer {name!r}: padding {padding} is more than half of a kernel of {kernel}")
        self.kernel, self.stride, self.padding = kernel, stride or kernel, padding

    def _size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the output; raises ShapeError if no window fits."""
        ho, wo = ((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in shape[1:3])
        if ho < 1 or wo < 1:
            raise ShapeError(f"layer {self.name!r}: a kernel of {self.kernel} does not fit maps of {shape[1:3]}")
        return ho, wo

    def _taps(self, shape: tuple[int, ...]) -> list[tuple[Slices, Slices]]:
        """For each place in the window, row by row: the outputs that have it inside the map, and where it lies."""
        sizes = list(zip(shape[1:3], self._size(shape), strict=True))
        taps: list[tuple[Slices, Slices]] = []
        for place in itertools.product(range(self.kernel), repeat=2):
            rows, columns = (
                _along(at, n, out, self.stride, self.padding) for at, (n, out) in zip(place, sizes, strict=True)
            )
            taps.append(((slice(None), rows[0], columns[0]), (slice(None), rows[1], columns[1])))
        return taps

    def _overlaps(self) -> bool:
        return self.stride < self.kernel


class MaxPool(Pool):
    """y[B, Ho, Wo, C] = the greatest of each window; of equal ones the first gets the gradient. Padding is no value."""

    def forward(self, run: Run, *inputs: Array) -> Array:
        """Input and output are kept, which the layers around keep as a rule, and not the places of the maxima."""
        (x,) = inputs
        y = np.empty((len(x), *self._size(x.shape), x.shape[-1]), x.dtype)

        def greatest(images: slice) -> None:
            # First down the columns, where whole rows are contiguous.
            rows = np.empty((len(x[images]), y.shape[1], *x.shape[2:]), x.dtype)
            self._greatest_along(1, x[images], rows)
            self._greatest_along(2, rows, y[images])

        _by_images(greatest, x)
        if run.training:
            run.saved[self.name] = x, y
        run.vector(self.name, "maxpool", y.shape, Cost(self.kernel**2 - 1, c=1 + run.training), a_elements=x.size)
        return y

    def _greatest_along(self, axis: int, x: Array, y: Array) -> None:
        """y = the greatest of the places of each window along this axis."""
        if self.padding:
            y[:] = -np.inf
        before = (slice(None),) * axis
        for tap in range(self.kernel):
            outputs, places = _along(tap, x.shape[axis], y.shape[axis], self.stride, self.padding)
            best, part = y[*before, outputs], x[*before, places]
            if tap == 0 and not self.padding:
                np.copyto(best, part)
            else:
                np.maximum(best, part, out=best)

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """Each gradient added where the maximum stands."""
        x, y = run.saved.pop(self.name)
        if not needs[0]:
            return (None,)
        dx, taps = np.zeros(x.shape, dy.dtype), self._taps(x.shape)

        def scatter(images: slice) -> None:
            free = np.ones(y[images].shape, np.bool_)
            for outputs, places in taps:
                here = (x[images][places] == y[images][outputs]) & free[outputs]
                free[outputs] ^= here
                _put(dx[images][places], dy[images][outputs], here, self._overlaps())

        _by_images(scatter, dx)
        run.vector(self.name, "maxpool_backward", dy.shape, Cost(1, b=1), c_elements=dx.size)
        return (dx,)


class AvgPool(Pool):
    """y[B, Ho, Wo, C] = the mean of each window; padding counts as zeros."""

    def forward(self, run: Run, *inputs: Array) -> Array:
        """Only the shape of the input is kept."""
        (x,) = inputs
        y = np.zeros((len(x), *self._size(x.shape), x.shape[-1]), x.dtype)
        taps = self._taps(x.shape)

        def mean(images: slice) -> None:
            for outputs, places in taps:
                y[images][outputs] += x[images][places]
            y[images] *= 1.0 / self.kernel**2

        _by_images(mean, x)
        if run.training:
            run.saved[self.name] = x.shape
        run.vector(self.name, "avgpool", y.shape, Cost(self.kernel**2), a_elements=x.size)
        return y

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """An equal share of each gradient to every place of its window."""
        shape = run.saved.pop(self.name)
        if not needs[0]:
            return (None,)
        dx, taps = np.zeros(shape, dy.dtype), self._taps(shape)

        def scatter(images: slice) -> None:
            for outputs, places in taps:
                _put(dx[images][places], dy[images][outputs], 1.0 / self.kernel**2, self._overlaps())

        _by_images(scatter, dx)
        run.vector(self.name, "avgpool_backward", dy.shape, Cost(self.kernel**2 + 1), c_elements=dx.size)
        return (dx,)


class GlobalMaxPool(Layer):
    """y[B, C] = the greatest of each map of x[B, H, W, C]; of equal ones the first gets the gradient."""

    def forward(self, run: Run, *inputs: Array) -> Array:
        """The place of each maximum is kept."""
        (x,) = inputs
        maps = x.reshape(len(x), -1, x.shape[-1])
        place = maps.argmax(axis=1)[:, None]
        y = np.take_along_axis(maps, place, axis=1)[:, 0]
        if run.training:
            run.saved[self.name] = x.shape, place
        cost = Cost(maps.shape[1] - 1, c=1 + run.training)
        run.vector(self.name, "maxpool", y.shape, cost, a_elements=x.size)
        return y

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """Each gradient put where the maximum stood."""
        shape, place = run.saved.pop(self.name)
        if not needs[0]:
            return (None,)
        dx = np.zeros(shape, dy.dtype)
        np.put_along_axis(dx.reshape(len(dx), -1, shape[-1]), place, dy[:, None], axis=1)
        run.vector(self.name, "maxpool_backward", dy.shape, Cost(1, b=1), c_elements=dx.size)
        return (dx,)


class GlobalAvgPool(Layer):
    """y[B, C] = the mean of each map of x[B, H, W, C]."""

    def forward(self, run: Run, *inputs: Array) -> Array:
        """Only the shape of the input is kept."""
        (x,) = inputs
        y = x.reshape(len(x), -1, x.shape[-1]).mean(axis=1)
        if run.training:
            run.saved[self.name] = x.shape
        run.vector(self.name, "avgpool", y.shape, Cost(x.shape[1] * x.shape[2]), a_elements=x.size)
        return y

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """An equal share of each gradient to every place of the map."""
        shape = run.saved.pop(self.name)
        if not needs[0]:
            return (None,)
        dx = np.empty(shape, dy.dtype)
        dx[:] = (dy * (1.0 / (shape[1] * shape[2])))[:, None, None]
        run.vector(self.name, "avgpool_backward", dy.shape, Cost(shape[1] * shape[2] + 1), c_elements=dx.size)
        return (dx,)


def _put(into: Array, gradient: Array, share: Array | float, overlaps: bool) -> None:
    """gradient·share into these places: added where windows overlap, else simply written."""
    if overlaps:
        into += gradient * share
    else:
        np.multiply(gradient, share, out=into)


def _along(tap: int, size: int, outputs: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Along one axis: the outputs whose place `tap` of the window is in the map, and those places."""
    offset = tap - padding
    first = max(0, -(offset // stride))
    last = min(outputs - 1, (size - 1 - offset) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = offset + first * stride
    return slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)


def _by_images(function: Callable[[slice], None], x: Array) -> None:
    """Call the function with slices of images that fit in cache."""
    at_once = max(1, BLOCK_ELEMENTS * len(x) // max(1, x.size))
    in_parallel(lambda i: function(slice(i * at_once, (i + 1) * at_once)), -(-len(x) // at_once))
