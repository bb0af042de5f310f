"""Conv2d over NHWC maps: products over patches gathered a few images at a time, so that they stay in cache."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from nmsim.errors import ShapeError
from nmsim.scratch import scratch
from nmsim.train.layers import winograd
from nmsim.train.layers.base import Array, Run
from nmsim.train.layers.linear import Weighted, gradient_operand, weight_operand
from nmsim.train.parallel import products_in_parallel
from nmsim.train.products import Multiply, Operand

PATCH_BYTES = 1 << 20
"""Patches that a thread gathers at a time: a few images' worth, about what a core's cache holds."""

PARTIAL_SUMS, PARTIAL_BYTES = 8, 1 << 25
"""At most so many partial sums of a weight gradient, and bytes of all of them."""


class Conv2d(Weighted):
    """y[B, Ho, Wo, Co] = patches(x[B, Hi, Wi, Ci]) · W[kh, kw, Ci/g, Co], in g groups of channels.

    FF (B·Ho·Wo, Co/g, kh·kw·Ci/g), BP (B·Ho·Wo, Ci/g, kh·kw·Co/g), WU (kh·kw·Ci/g, Co/g, B·Ho·Wo), g of each. Groups
    of a pattern run along channels at a fixed kernel position.
    """

    def __init__(
        self, name: str, inputs: int, outputs: int, kernel: int, rng: np.random.Generator, stride: int = 1,
        padding: int = 0, groups: int = 1, bias: bool = False,
    ):  # fmt: skip
        if inputs % groups or outputs % groups:
            raise ShapeError(f"layer {name!r}: {groups} groups do not divide {inputs} and {outputs} channels")
        self.kernel, self.stride, self.padding, self.groups = kernel, stride, padding, groups
        scale = np.sqrt(2.0 / (kernel * kernel * inputs // groups))
        super().__init__(name, rng.standard_normal((kernel, kernel, inputs // groups, outputs)) * scale, bias)

    def forward(self, run: Run, *inputs: Array) -> Array:
        """FF."""
        x = run.sparsifier.forward_input(self.name, inputs[0])
        weight, pattern = run.sparsifier.forward_weight(self.name, self.weight.value)
        y = np.empty((x.shape[0], *self._output_size(x), weight.shape[-1]), x.dtype)
        run.sparsifier.see_input(self.name, x)
        b = weight_operand(run, self.name, "FF", weight, pattern, -2)
        with self._op(run, "FF", y, Operand("activation", x.size), b, Operand("activation", y.size)) as multiply:
            if self._few_multiplications(run, y):
                winograd.convolve(multiply, x, weight, y, self.padding, y[0].size * weight[..., 0].size)
            else:
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
        dw = np.empty_like(weight.value)
        a, b = Operand("activation", x.size), Operand("gradient", dy.size)
        with self._op(run, "WU", dy, a, b, Operand("weight_gradient", dw.size)) as multiply:
            if self._few_multiplications(run, dy):
                winograd.weight_gradient(multiply, x, dy, dw, self.padding)
            else:
                self._weight_gradient(multiply, x, dy, dw)
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
        inserted = {"taps": kh * kw, "overhang": max(self.padding - kh + 1, 0)}
        inserted["map_h"], inserted["map_w"] = y.shape[1:3] if self.stride == 1 else (0, 0)
        if stage == "BP" and self.stride > 1:
            inserted["m_inserted"] = max(m, c.elements // (ci * self.groups))
        return run.products.op(self.name, stage, m, n, k, a, b, c, count=self.groups, **inserted)

    def _input_gradient(self, run: Run, x: Array, dy: Array) -> Array:
        dy, gradient_pattern = run.sparsifier.backward_gradient(self.name, dy)
        weight, pattern, along = run.sparsifier.backward_weight(self.name, self.weight.value)
        b = weight_operand(run, self.name, "BP", weight, pattern, along)
        with self._op(
            run, "BP", dy, gradient_operand(dy, gradient_pattern), b, Operand("gradient", x.size)
        ) as multiply:
            if self.padding < self.kernel and self._few_multiplications(run, x):
                return self._by_winograd(multiply, x, dy, weight)
            if self.stride == 1 and self.groups == 1 and self.padding < self.kernel:
                return self._full_correlation(multiply, x, dy, weight)
            if self.kernel > self.stride and self.groups == 1:
                return self._shuffled(multiply, x, dy, weight)
            return self._scattered(multiply, x, dy, weight)

    def _few_multiplications(self, run: Run, maps: Array) -> bool:
        """Whether Winograd's form serves for these maps: for float32 operands that are not rounded for emulation."""
        if maps.dtype != np.float32 or run.products.precision.products != "fp32":
            return False
        plain = self.kernel == winograd.KERNEL and self.stride == 1 and self.groups == 1
        return plain and winograd.pays(maps.shape, self.weight.value.shape[2:])

    def _by_winograd(self, multiply: Multiply, x: Array, dy: Array, weight: Array) -> Array:
        """The gradient as dy convolved with the flipped weight, by Winograd's form."""
        dx = np.empty_like(x)
        flipped, macs = weight[::-1, ::-1].swapaxes(2, 3), dy[0].size * weight[..., 0].size
        winograd.convolve(multiply, dy, flipped, dx, self.kernel - 1 - self.padding, macs)
        return dx

    def _full_correlation(self, multiply: Multiply, x: Array, dy: Array, weight: Array) -> Array:
        """The gradient of a stride-1 convolution: dy convolved with the flipped weight, where that costs no more."""
        if dy.shape[1:3] != x.shape[1:3]:
            return self._scattered(multiply, x, dy, weight)
        flipped = np.ascontiguousarray(weight[::-1, ::-1].swapaxes(2, 3))
        dx = np.empty_like(x)
        self._patches_times(multiply, dy, flipped, dx, 1, self.kernel - 1 - self.padding)
        return dx

    def _shuffled(self, multiply: Multiply, x: Array, dy: Array, weight: Array) -> Array:
        """dx of a strided convolution, all inputs that lie at one output's stride at once.

        With u + p = s·q + r, dx[u] is the sum over j < J = ceil(K/s) of dy[q - j] · W[r + s·j]ᵀ: windows of J outputs
        times a matrix for each r down, with columns for each r across and channel, zero where r + s·j is beyond the
        kernel; the first rows of a matrix are left out where they are zero altogether.
        """
        s, pad, (height, width), (ho, wo) = self.stride, self.padding, x.shape[1:3], dy.shape[1:3]
        reach, ci, co = -(-self.kernel // s), x.shape[3], dy.shape[3]
        taps = np.zeros((reach * s, reach * s, ci, co), weight.dtype)
        taps[: self.kernel, : self.kernel] = weight
        by_rest = taps.reshape(reach, s, reach, s, ci, co)[::-1, :, ::-1]
        matrices = np.ascontiguousarray(by_rest.transpose(1, 0, 2, 5, 3, 4)).reshape(s, reach * reach * co, s * ci)
        rows, columns = ((n - 1 + pad) // s + 1 for n in (height, width))
        after = [(reach - 1, max(0, n - m)) for n, m in ((rows, ho), (columns, wo))]
        dx = np.empty_like(x)

        def shuffle(images: slice) -> None:
            part = np.pad(dy[images], ((0, 0), *after, (0, 0)))
            count, out = len(part), (len(part), rows, columns)
            patches = self._patches(part, out, 1, 0, reach).reshape(count * rows * columns, -1)
            mixed = scratch("mixed", (len(patches), s, s * ci), x.dtype)
            for rest, rows_of_rest in enumerate(matrices):
                none = (reach - len(range(rest, self.kernel, s))) * reach * co
                macs = count * ho * wo * weight[rest::s].size
                multiply(patches[:, none:], rows_of_rest[none:], out=mixed[:, rest], macs=macs)
            whole = mixed.reshape(*out, s, s, ci).transpose(0, 1, 3, 2, 4, 5).reshape(count, rows * s, columns * s, ci)
            dx[images] = whole[:, pad : pad + height, pad : pad + width]

        image_bytes = rows * columns * reach * reach * co * x.itemsize
        products_in_parallel(shuffle, _slices(len(x), image_bytes))
        return dx

    def _scattered(self, multiply: Multiply, x: Array, dy: Array, weight: Array) -> Array:
        """dx by adding each output position's dy · Wᵀ back to the patch that it came from."""
        pad, (height, width), (ho, wo) = self.padding, x.shape[1:3], dy.shape[1:3]
        dx = np.empty_like(x)
        # Places of the kernel that lie side by side within a stride do not overlap: their channels are one long row.
        joined = self.stride if self.groups == 1 else 1

        def scatter(images: slice) -> None:
            part = dy[images]
            padded = np.zeros((len(part), height + 2 * pad, width + 2 * pad, x.shape[3]), x.dtype)
            for i, j, g in itertools.product(range(self.kernel), range(0, self.kernel, joined), range(self.groups)):
                ci, co = self._channels(g)
                taps = weight[i, j : j + joined, :, co]
                rows = multiply(part[..., co].reshape(-1, taps.shape[2]), taps.reshape(-1, taps.shape[2]).T)
                into = self._window(padded[..., ci], i, j, (len(part), ho, wo, rows.shape[1]))
                into += rows.reshape(into.shape)
            dx[images] = padded[:, pad : pad + height, pad : pad + width]

        products_in_parallel(scatter, _slices(len(x), self._image_bytes(dy.shape, x.shape[3], x.itemsize)))
        return dx

    def _window(self, padded: Array, i: int, j: int, shape: tuple[int, ...]) -> Array:
        """What the places (i, j) and next to it of every patch are in the map [images, Ho, Wo, places · channels]."""
        n, h, w, c = padded.strides
        return as_strided(padded[:, i:, j:], shape, (n, h * self.stride, w * self.stride, c))

    def _channels(self, group: int) -> tuple[slice, slice]:
        """The input and the output channels of a group."""
        ci, co = self.weight.value.shape[2], self.weight.value.shape[3] // self.groups
        return slice(group * ci, (group + 1) * ci), slice(group * co, (group + 1) * co)

    def _patches_times(self, multiply: Multiply, x: Array, weight: Array, y: Array, stride: int, padding: int) -> None:
        """y = patches(x) · weight, written a few images at a time."""

        def product(images: slice) -> None:
            patches = self._patches(x[images], y.shape, stride, padding)
            target = y[images].reshape(-1, y.shape[-1])
            if self.groups == 1:
                multiply(patches.reshape(len(target), -1), weight.reshape(-1, y.shape[-1]), out=target)
                return
            for g, columns in self._by_group(patches):
                multiply(columns, weight[..., g].reshape(columns.shape[1], -1), out=target[:, g])

        products_in_parallel(product, _slices(len(x), self._image_bytes(y.shape, x.shape[3], x.itemsize)))

    def _weight_gradient(self, multiply: Multiply, x: Array, dy: Array, dw: Array) -> None:
        """dw = patches(x)ᵀ · dy: a few partial sums, each over its own images and added in their order."""
        blocks = _slices(len(x), self._image_bytes(dy.shape, x.shape[3], x.itemsize))
        count = min(len(blocks), max(1, min(PARTIAL_SUMS, PARTIAL_BYTES // dw.nbytes)))
        shares = [blocks[i * len(blocks) // count : (i + 1) * len(blocks) // count] for i in range(count)]

        def partial(share: list[slice]) -> Array:
            total, scratch = np.zeros_like(dw), np.empty_like(dw)
            for images in share:
                patches = self._patches(x[images], dy.shape, self.stride, self.padding)
                flat = dy[images].reshape(-1, dy.shape[-1])
                if self.groups == 1:
                    multiply(patches.reshape(len(flat), -1).T, flat, out=scratch.reshape(-1, dw.shape[-1]))
                else:
                    for g, columns in self._by_group(patches):
                        scratch[..., g] = multiply(columns.T, flat[:, g]).reshape(*dw.shape[:3], -1)
                total += scratch
            return total

        np.copyto(dw, sum(products_in_parallel(partial, shares)))

    def _by_group(self, patches: Array) -> Iterator[tuple[slice, Array]]:
        """The output channels of each group with the patches of its input channels [rows, kh·kw·Ci/g]."""
        kh, kw, ci, _ = self.weight.value.shape
        by_group = patches.reshape(-1, kh * kw, self.groups, ci)
        for g in range(self.groups):
            yield self._channels(g)[1], by_group[:, :, g].reshape(len(by_group), -1)

    def _patches(self, x: Array, out: tuple[int, ...], stride: int, padding: int, size: int = 0) -> Array:
        """The patches (of `size`, or the kernel) of these images for an output of this shape, [images, Ho, Wo, ...]."""
        size, (count, height, width, channels) = size or self.kernel, x.shape
        if size == 1 and stride == 1 and padding == 0:
            return x
        padded = x
        if padding:
            padded = scratch("padded", (count, height + 2 * padding, width + 2 * padding, channels), x.dtype)
            padded[:, :padding] = padded[:, -padding:] = 0.0
            padded[:, :, :padding] = padded[:, :, -padding:] = 0.0
            padded[:, padding:-padding, padding:-padding] = x
        n, h, w, c = padded.strides
        shape, strides = (count, *out[1:3], size, size * channels), (n, h * stride, w * stride, h, c)
        patches = scratch("patches", shape, x.dtype)
        np.copyto(patches, as_strided(padded, shape, strides, writeable=False))
        return patches

    def _image_bytes(self, out: tuple[int, ...], channels: int, itemsize: int) -> int:
        """Bytes of the patches of one image for an output of this shape."""
        return out[1] * out[2] * self.kernel**2 * channels * itemsize

    def _output_size(self, x: Array) -> tuple[int, int]:
        ho, wo = ((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in x.shape[1:3])
        if ho < 1 or wo < 1:
            raise ShapeError(f"layer {self.name!r}: a kernel of {self.kernel} does not fit maps of {x.shape[1:3]}")
        return ho, wo


def _slices(images: int, image_bytes: int) -> list[slice]:
    """Slices of images whose patches stay in cache."""
    at_once = max(1, PATCH_BYTES // image_bytes)
    return [slice(start, min(start + at_once, images)) for start in range(0, images, at_once)]
