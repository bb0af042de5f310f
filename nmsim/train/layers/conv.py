"""Conv2d over NHWC maps: products over patches gathered a few images at a time, so that they stay in cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from nmsim.errors import ShapeError
from nmsim.train.layers.base import Array, Layer, Parameter, Run
from nmsim.train.layers.linear import gradient_operand, weight_operand
from nmsim.train.products import Multiply, Operand

PATCH_BYTES = 1 << 21
"""Patches gathered at a time: a few images' worth, about what a core's cache holds."""


class Conv2d(Layer):
    """y[B, Ho, Wo, Co] = patches(x[B, Hi, Wi, Ci]) · W[kh, kw, Ci/g, Co], in g groups of channels.

    FF (B·Ho·Wo, Co/g, kh·kw·Ci/g), BP (B·Ho·Wo, Ci/g, kh·kw·Co/g), WU (kh·kw·Ci/g, Co/g, B·Ho·Wo), g of each. Groups
    of a pattern run along channels at a fixed kernel position.
    """

    def __init__(
        self, name: str, inputs: int, outputs: int, kernel: int, rng: np.random.Generator, stride: int = 1,
        padding: int = 0, groups: int = 1, bias: bool = False,
    ):  # fmt: skip
        super().__init__(name)
        if inputs % groups or outputs % groups:
            raise ShapeError(f"layer {name!r}: {groups} groups do not divide {inputs} and {outputs} channels")
        self.kernel, self.stride, self.padding, self.groups = kernel, stride, padding, groups
        shape = (kernel, kernel, inputs // groups, outputs)
        scale = np.sqrt(2.0 / (kernel * kernel * inputs // groups))
        self.weight = Parameter(f"{name}.weight", (rng.standard_normal(shape) * scale).astype(np.float32))
        self.bias = Parameter(f"{name}.bias", np.zeros(outputs, np.float32), decays=False) if bias else None

    def parameters(self) -> Iterator[Parameter]:
        """Weight [kh, kw, Ci/g, Co], then bias [Co]."""
        yield self.weight
        if self.bias is not None:
            yield self.bias

    def forward(self, run: Run, *inputs: Array) -> Array:
        """FF."""
        (x,) = inputs
        weight, pattern = run.sparsifier.forward_weight(self.name, self.weight.value)
        y = np.empty((x.shape[0], *self._output_size(x), weight.shape[-1]), x.dtype)
        b = weight_operand(weight, pattern, "k", -2)
        with self._op(run, "FF", y, Operand("activation", x.size), b, Operand("activation", y.size)) as multiply:
            self._patches_times(multiply, x, weight, y, self.stride, self.padding)
        if self.bias is not None:
            y += self.bias.value
        if run.training:
            run.saved[self.name] = x
        return y

    def backward(self, run: Run, dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        """BP if the input needs it, then WU."""
        x = run.saved.pop(self.name)
        dx = self._input_gradient(run, x, dy) if needs[0] else None
        weight = self.weight
        dw = np.zeros_like(weight.value)
        a, b = Operand("activation", x.size), Operand("gradient", dy.size)
        with self._op(run, "WU", dy, a, b, Operand("weight_gradient", dw.size)) as multiply:
            for images, patches in self._patches(x, self.stride, self.padding):
                self._add_weight_gradient(multiply, patches, dy[images], dw)
        weight.grad = run.sparsifier.weight_gradient(self.name, weight.value, dw)
        if self.bias is not None:
            self.bias.grad = dy.sum(axis=(0, 1, 2))
        return (dx,)

    def _op(self, run: Run, stage: str, y: Array, a: Operand, b: Operand, c: Operand):  # type: ignore[no-untyped-def]
        """The op of a stage, with the sizes that the class docstring gives; y is the output or its gradient."""
        kh, kw, ci, co = self.weight.value.shape
        positions, co = y.size // y.shape[-1], co // self.groups
        m, n, k = {
            "FF": (positions, co, kh * kw * ci),
            "BP": (positions, ci, kh * kw * co),
            "WU": (kh * kw * ci, co, positions),
        }[stage]
        inserted = {}
        if stage == "BP" and self.stride > 1:
            inserted["m_inserted"] = max(m, c.elements // (ci * self.groups))
        return run.products.op(self.name, stage, m, n, k, a, b, c, count=self.groups, **inserted)

    def _input_gradient(self, run: Run, x: Array, dy: Array) -> Array:
        dy, gradient_pattern = run.sparsifier.backward_gradient(self.name, dy)
        weight, pattern, along = run.sparsifier.backward_weight(self.name, self.weight.value)
        b = weight_operand(weight, pattern, "k" if along == -1 else "n", along)
        with self._op(
            run, "BP", dy, gradient_operand(dy, gradient_pattern), b, Operand("gradient", x.size)
        ) as multiply:
            if self.stride == 1 and self.groups == 1 and self.padding < self.kernel:
                return self._full_correlation(multiply, x, dy, weight)
            return self._scattered(multiply, x, dy, weight)

    def _full_correlation(self, multiply: Multiply, x: Array, dy: Array, weight: Array) -> Array:
        """The gradient of a stride-1 convolution: dy convolved with the flipped weight, where that costs no more."""
        if dy.shape[1:3] != x.shape[1:3]:
            return self._scattered(multiply, x, dy, weight)
        flipped = np.ascontiguousarray(weight[::-1, ::-1].swapaxes(2, 3))
        dx = np.empty_like(x)
        self._patches_times(multiply, dy, flipped, dx, 1, self.kernel - 1 - self.padding)
        return dx

    def _scattered(self, multiply: Multiply, x: Array, dy: Array, weight: Array) -> Array:
        """dx by adding each output position's dy · Wᵀ back to the patch that it came from."""
        pad, size = self.padding, self.kernel
        padded = np.zeros((x.shape[0], x.shape[1] + 2 * pad, x.shape[2] + 2 * pad, x.shape[3]), x.dtype)
        ho, wo = dy.shape[1:3]
        ci, co = x.shape[3] // self.groups, dy.shape[3] // self.groups
        for g in range(self.groups):
            part = dy[..., g * co : (g + 1) * co]
            for i in range(size):
                for j in range(size):
                    into = self._window(padded, i, j, ho, wo)[..., g * ci : (g + 1) * ci]
                    into += multiply(part, weight[i, j, :, g * co : (g + 1) * co].T)
        return padded[:, pad : pad + x.shape[1], pad : pad + x.shape[2]]

    def _window(self, padded: Array, i: int, j: int, ho: int, wo: int) -> Array:
        s = self.stride
        return padded[:, i : i + s * (ho - 1) + 1 : s, j : j + s * (wo - 1) + 1 : s]

    def _patches_times(self, multiply: Multiply, x: Array, weight: Array, y: Array, stride: int, padding: int) -> None:
        """y = patches(x) · weight, written a few images at a time."""
        kh, kw, ci, outputs = weight.shape
        co = outputs // self.groups
        for images, patches in self._patches(x, stride, padding):
            rows = len(patches)
            target = y[images].reshape(rows, -1)
            if self.groups == 1:
                multiply(patches.reshape(rows, -1), weight.reshape(-1, outputs), out=target)
                continue
            by_group = patches.reshape(rows, kh * kw, self.groups, ci)
            for g in range(self.groups):
                columns = slice(g * co, (g + 1) * co)
                target[:, columns] = multiply(by_group[:, :, g].reshape(rows, -1), weight[..., columns].reshape(-1, co))

    def _add_weight_gradient(self, multiply: Multiply, patches: Array, dy: Array, dw: Array) -> None:
        rows, outputs = len(patches), dy.shape[-1]
        flat = dy.reshape(rows, outputs)
        if self.groups == 1:
            dw += multiply(patches.reshape(rows, -1).T, flat).reshape(dw.shape)
            return
        kh, kw, ci, _ = dw.shape
        co = outputs // self.groups
        by_group = patches.reshape(rows, kh * kw, self.groups, ci)
        for g in range(self.groups):
            columns = slice(g * co, (g + 1) * co)
            dw[..., columns] += multiply(by_group[:, :, g].reshape(rows, -1).T, flat[:, columns]).reshape(
                kh, kw, ci, co
            )

    def _patches(self, x: Array, stride: int, padding: int) -> Iterator[tuple[slice, Array]]:
        """Images a few at a time with their patches [images · Ho · Wo, kh, kw·C]."""
        size = self.kernel
        if size == 1 and stride == 1 and padding == 0:
            yield slice(None), x.reshape(-1, 1, x.shape[3])
            return
        batch, height, width, channels = x.shape
        ho, wo = ((n + 2 * padding - size) // stride + 1 for n in (height, width))
        at_once = max(1, PATCH_BYTES // (ho * wo * size * size * channels * x.itemsize))
        padded = np.zeros((min(at_once, batch), height + 2 * padding, width + 2 * padding, channels), x.dtype)
        patches = np.empty((len(padded), ho, wo, size, size * channels), x.dtype)
        for start in range(0, batch, at_once):
            images = slice(start, min(start + at_once, batch))
            count = images.stop - start
            inner = padded[:count, padding : padding + height, padding : padding + width]
            inner[:] = x[images]
            n, h, w, c = padded.strides
            view = as_strided(
                padded, (count, ho, wo, size, size * channels), (n, h * stride, w * stride, h, c), writeable=False
            )
            np.copyto(patches[:count], view)
            yield images, patches[:count].reshape(count * ho * wo, size, size * channels)

    def _output_size(self, x: Array) -> tuple[int, int]:
        ho, wo = ((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in x.shape[1:3])
        if ho < 1 or wo < 1:
            raise ShapeError(f"layer {self.name!r}: a kernel of {self.kernel} does not fit maps of {x.shape[1:3]}")
        return ho, wo
