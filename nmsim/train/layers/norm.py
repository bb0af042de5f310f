"""Normalisation: over the batch for each channel, or over the features of each token."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmsim.train.layers.base import Array, Layer, Parameter, Run
from nmsim.train.parallel import row_dot, rows_in_parallel

WIDE = 2048
"""Elements that several rows of few channels are joined to, so that inner loops are long."""


class Norm(Layer):
    """What normalisations share: a scale and a shift for each of the last axis' elements."""

    def __init__(self, name: str, size: int, eps: float):
        super().__init__(name)
        self.eps = eps
        self.scale = Parameter(f"{name}.scale", np.ones(size, np.float32), decays=False)
        self.shift = Parameter(f"{name}.shift", np.zeros(size, np.float32), decays=False)

    def parameters(self) -> Iterator[Parameter]:
        """Scale, then shift."""
        yield self.scale
        yield self.shift


class BatchNorm(Norm):
    """y[..., C] = (x - mean) / sqrt(var + eps) · scale + shift, mean and variance of each channel over the batch.

    In inference the running ones are used: averages with weight `momentum` for the newest, of the unbiased variance
    (Ioffe and Szegedy 2015, algorithms 1 and 2; `momentum` as PyTorch defines it).
    """

    def __init__(self, name: str, channels: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__(name, channels, eps)
        self.momentum = momentum
        self.mean, self.variance = np.zeros(channels, np.float32), np.ones(channels, np.float32)

    def buffers(self) -> dict[str, Array]:
        """Running mean and variance."""
        return {"mean": self.mean, "variance": self.variance}

    def cast(self, dtype: type[np.floating]) -> None:
        """Hold the running statistics in another floating type."""
        self.mean, self.variance = self.mean.astype(dtype), self.variance.astype(dtype)

    def forward(self, run: Run, *inputs: Array) -> Array:
        """Statistics in one reading of x, y in another."""
        (x,) = inputs
        mean, variance = self._batch_statistics(x) if run.training else (self.mean, self.variance)
        inverse = 1.0 / np.sqrt(variance.astype(np.float64) + self.eps)
        if run.training:
            run.saved[self.name] = x, mean, inverse
        run.vector(self.name, "batchnorm", x.shape)
        scale = self.scale.value * inverse
        wide = _widened(x)
        scales, shifts = (_tiled(v, wide) for v in (scale, self.shift.value - mean * scale))

        def affine(y: Array, x: Array) -> None:
            np.multiply(x, scales, out=y)
            y += shifts

        y = np.empty(x.shape, x.dtype)
        rows_in_parallel(affine, y.reshape(wide.shape), wide)
        return y

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """dx = p·dy + q·x + r with p, q, r of each channel from the sums of dy and of dy·(x - mean)."""
        x, mean, inverse = run.saved.pop(self.name)
        run.vector(self.name, "batchnorm_backward", x.shape)
        wide, wide_dy = _widened(x), _widened(dy)
        means = _tiled(mean, wide)

        def sums(x: Array, dy: Array) -> tuple[Array, Array]:
            centred = x - means
            centred *= dy
            return dy.sum(axis=0), centred.sum(axis=0)

        total, product = (
            _lanes(parts, len(mean)).sum(axis=0) for parts in zip(*rows_in_parallel(sums, wide, wide_dy), strict=True)
        )
        self.scale.grad = (product * inverse).astype(self.scale.value.dtype)
        self.shift.grad = total.astype(self.shift.value.dtype)
        if not needs[0]:
            return (None,)
        count = x.size // x.shape[-1]
        p = self.scale.value * inverse
        q = -p * inverse**2 * product / count
        return (_combined(x, wide, wide_dy, p, q, -p * total / count - q * mean),)

    def _batch_statistics(self, x: Array) -> tuple[Array, Array]:
        """Mean and biased variance in float64, merged from those of blocks (Chan, Golub, LeVeque 1983)."""

        def moments(block: Array) -> tuple[float, Array, Array]:
            mean = block.mean(axis=0)
            centred = block - mean
            centred *= centred
            return len(block), mean, centred.sum(axis=0)

        wide, channels = _widened(x), x.shape[-1]
        lengths, means, squares = zip(*rows_in_parallel(moments, wide), strict=True)
        lanes = _lanes(means, channels)
        weights = np.repeat(np.array(lengths, np.float64), wide.shape[1] // channels)[:, None]
        count = x.size // channels
        mean = (lanes * weights).sum(axis=0) / count
        variance = (_lanes(squares, channels).sum(axis=0) + (weights * (lanes - mean) ** 2).sum(axis=0)) / count
        unbiased = variance * (count / max(count - 1, 1))
        for running, new in ((self.mean, mean), (self.variance, unbiased)):
            running += (self.momentum * (new - running)).astype(running.dtype)
        return mean, variance


class LayerNorm(Norm):
    """y[..., D] = (x - mean) / sqrt(var + eps) · scale + shift over each row (Ba, Kiros, Hinton 2016, eq. 4)."""

    def __init__(self, name: str, dim: int, eps: float = 1e-5):
        super().__init__(name, dim, eps)

    def forward(self, run: Run, *inputs: Array) -> Array:
        """Each row in cache from its mean to y."""
        (x,) = inputs
        rows = x.reshape(-1, x.shape[-1])
        scale, shift, mean_of = self.scale.value, self.shift.value, _averaging(rows)
        mean, inverse = np.empty((len(rows), 1), x.dtype), np.empty((len(rows), 1), x.dtype)

        def normalise(y: Array, x: Array, mean: Array, inverse: Array) -> None:
            mean[:] = row_dot(x, mean_of)
            np.subtract(x, mean, out=y)
            np.divide(1.0, np.sqrt(row_dot(y, y) * (1.0 / y.shape[1]) + self.eps), out=inverse)
            y *= inverse
            y *= scale
            y += shift

        y = np.empty(x.shape, x.dtype)
        rows_in_parallel(normalise, y.reshape(rows.shape), rows, mean, inverse)
        run.vector(self.name, "layernorm", x.shape)
        if run.training:
            run.saved[self.name] = rows, mean, inverse
        return y

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """With g = dy·scale and x̂ the normalised row, dx = (g - mean(g) - x̂·mean(g·x̂)) / sqrt(var + eps)."""
        rows, mean, inverse = run.saved.pop(self.name)
        run.vector(self.name, "layernorm_backward", dy.shape)
        scale, scale_mean = self.scale.value, self.scale.value * _averaging(rows)

        def gradients(dx: Array, dy: Array, x: Array, mean: Array, inverse: Array) -> tuple[Array, Array]:
            normal = x - mean
            normal *= inverse
            np.multiply(dy, normal, out=dx)
            sums = dx.sum(axis=0), dy.sum(axis=0)
            along = row_dot(dx, scale_mean)
            np.multiply(dy, scale, out=dx)
            dx -= row_dot(dy, scale_mean)
            normal *= along
            dx -= normal
            dx *= inverse
            return sums

        dx = np.empty(dy.shape, dy.dtype)
        flat = dy.reshape(rows.shape)
        sums = rows_in_parallel(gradients, dx.reshape(rows.shape), flat, rows, mean, inverse)
        for parameter, parts in zip((self.scale, self.shift), zip(*sums, strict=True), strict=True):
            parameter.grad = np.sum(parts, axis=0, dtype=np.float64).astype(parameter.value.dtype)
        return (dx if needs[0] else None,)


def _averaging(rows: Array) -> Array:
    """The vector whose product with a row is its mean."""
    return np.full(rows.shape[1], 1.0 / rows.shape[1], rows.dtype)


def _widened(x: Array) -> Array:
    """x[..., C] as [rows / j, j·C] with j rows joined, a power of two."""
    channels = x.shape[-1]
    rows, joined = x.size // channels, 1
    while rows % (2 * joined) == 0 and 2 * joined * channels <= WIDE:
        joined *= 2
    return x.reshape(rows // joined, joined * channels)


def _tiled(values: Array, wide: Array) -> Array:
    """Numbers for each channel, repeated for the joined rows."""
    return np.tile(values.astype(wide.dtype), wide.shape[1] // len(values))


def _lanes(parts: tuple[Array, ...], channels: int) -> Array:
    """Results of blocks of joined rows as [blocks · joined, C] in float64."""
    return np.array(parts, np.float64).reshape(-1, channels)


def _combined(x: Array, wide: Array, wide_dy: Array, p: Array, q: Array, r: Array) -> Array:
    """p·dy + q·x + r."""
    ps, qs, rs = (_tiled(v, wide) for v in (p, q, r))

    def combine(dx: Array, dy: Array, x: Array) -> None:
        np.multiply(dy, ps, out=dx)
        dx += x * qs
        dx += rs

    dx = np.empty(x.shape, x.dtype)
    rows_in_parallel(combine, dx.reshape(wide.shape), wide_dy, wide)
    return dx
