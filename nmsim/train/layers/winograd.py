"""3x3 convolutions of stride 1 with a quarter of the multiplications: Winograd's F(4x4, 3x3), a few images at a time.

With V(n) the matrix of powers 0 to n - 1 of the points (of infinity: the highest only), the four outputs of three
taps g on a window d of six are V(4)ᵀ [V(3) g ∘ V(6)⁻ᵀ d], and likewise along the other axis (Lavin and Gray 2016,
arXiv:1509.09308; Toom-Cook, transposed). The weight gradient is the same trilinear form, read for g.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.lib.stride_tricks import as_strided

from nmsim.scratch import scratch
from nmsim.train.parallel import products_in_parallel
from nmsim.train.products import Multiply

Array = np.ndarray

TILE, KERNEL = 4, 3
WINDOW = TILE + KERNEL - 1

POINTS = (0.0, math.sqrt(0.5), -math.sqrt(0.5), math.sqrt(2.0), -math.sqrt(2.0))
"""And infinity. Points 0, ±1/c, ±c of Alam, Garland and Gregg 2022 (arXiv:2201.10369) lose least in float32."""


def _powers(count: int) -> Array:
    """V(count)[6, count]."""
    return np.vstack([np.vander(POINTS, count, increasing=True), np.eye(count)[-1:]])


OF_TILE, OF_KERNEL = (_powers(n).astype(np.float32) for n in (TILE, KERNEL))
OF_WINDOW = np.linalg.inv(_powers(WINDOW)).T.astype(np.float32)

WINDOW_BYTES = 1 << 20
"""Transformed windows that a thread multiplies at a time."""

PARTIAL_SUMS = 8
"""At most so many partial sums of a weight gradient, each of at least as many tiles as channels."""

LEAST_CHANNELS, LEAST_TILES = 32, 64
"""Below these the transformations take longer than the multiplications that they save."""


def pays(out: tuple[int, ...], channels: tuple[int, ...]) -> bool:
    """Whether this is faster for outputs of this shape and these channels: not if few of them or half-empty tiles."""
    tiles = math.prod(_tiles(out))
    return min(channels) >= LEAST_CHANNELS and 8 * tiles <= out[1] * out[2] and out[0] * tiles >= LEAST_TILES


def convolve(multiply: Multiply, x: Array, weight: Array, y: Array, padding: int, macs: int) -> None:
    """y[B, Ho, Wo, Co] = x[B, Hi, Wi, Ci] convolved with W[3, 3, Ci, Co].

    The op that is recorded stays the direct product: `multiply` is told of its `macs` for each image, not of the
    fewer that are carried out.
    """
    kernels = _along_both(OF_KERNEL, weight.swapaxes(0, 1)).reshape(WINDOW**2, *weight.shape[2:])

    def block(images: slice) -> None:
        part = y[images]
        windows = _windows(x[images], part.shape, padding)
        products = scratch("products", (*windows.shape[:2], part.shape[3]), x.dtype)
        multiply(windows, kernels, out=products, macs=len(part) * macs)
        _untile(products, part)

    products_in_parallel(block, _slices(y.shape, max(weight.shape[2:])))


def weight_gradient(multiply: Multiply, x: Array, dy: Array, dw: Array, padding: int) -> None:
    """dw[3, 3, Ci, Co] of dy[B, Ho, Wo, Co], recorded as the direct product; sums in an order set by shapes only."""
    channels = max(dw.shape[2:])
    blocks = _slices(dy.shape, channels)
    count = max(1, min(len(blocks), PARTIAL_SUMS, len(dy) * math.prod(_tiles(dy.shape)) // channels))
    shares = [blocks[i * len(blocks) // count : (i + 1) * len(blocks) // count] for i in range(count)]

    def partial(share: list[slice]) -> Array:
        total, product = (scratch(name, (WINDOW**2, *dw.shape[2:]), dw.dtype) for name in ("total", "products"))
        for images in share:
            part = dy[images]
            windows = _windows(x[images], part.shape, padding)
            tiles = _points("tiles", part, OF_TILE, 0, _tiles(part.shape))
            out = total if images is share[0] else product
            multiply(windows.swapaxes(1, 2), tiles, out=out, macs=part.size * dw[..., 0].size)
            if out is product:
                total += product
        return _along_both(OF_KERNEL.T, total.reshape(WINDOW, WINDOW, *dw.shape[2:]))

    dw.fill(0.0)
    for part in products_in_parallel(partial, shares):
        dw += part.swapaxes(0, 1)


def _windows(x: Array, out: tuple[int, ...], padding: int) -> Array:
    """The transformed windows of the tiles of outputs of this shape, [36, images · tiles, channels]."""
    return _points("windows", x, OF_WINDOW, padding, _tiles(out))


def _points(name: str, x: Array, matrix: Array, before: int, tiles: tuple[int, int]) -> Array:
    """matrix[6, s] · part · matrixᵀ for the parts of s x s elements, a tile apart: [36, images · tiles, channels]."""
    (points, size), (high, wide) = matrix.shape, tiles
    x = _padded(x, before, *(TILE * (n - 1) + size for n in tiles))
    count, _, width, channels = x.shape
    n, h, _, c = x.strides
    parts = as_strided(x, (count, high, size, width * channels), (n, TILE * h, h, c))
    rows = np.matmul(matrix, parts, out=scratch("rows", (count, high, points, width * channels), x.dtype))
    n, h, p, c = rows.strides
    columns = scratch("columns", (size, points, count, high, wide, channels), x.dtype)
    np.copyto(columns, as_strided(rows, columns.shape, (channels * c, p, n, h, TILE * channels * c, c)))
    out = scratch(name, (points**2, count * high * wide, channels), x.dtype)
    np.matmul(matrix, columns.reshape(size, -1), out=out.reshape(points, -1))
    return out


def _along_both(matrix: Array, x: Array) -> Array:
    """matrix[m, n] along the first two axes of x[n, n, ...]."""
    first = np.matmul(matrix, x.reshape(len(x), -1)).reshape(len(matrix), x.shape[1], -1)
    return np.matmul(matrix, first).reshape(len(matrix), len(matrix), *x.shape[2:])


def _untile(products: Array, y: Array) -> None:
    """Transform products [36, images · tiles, Co] back, and write the tiles as far as they lie in y."""
    columns = scratch("columns", (TILE, WINDOW, products[0].size), y.dtype)
    np.matmul(OF_TILE.T, products.reshape(WINDOW, -1), out=columns.reshape(TILE, -1))
    rows = np.matmul(OF_TILE.T, columns, out=scratch("rows", (TILE, TILE, products[0].size), y.dtype))
    tiles = rows.reshape(TILE, TILE, len(y), *_tiles(y.shape), y.shape[3])
    if y.shape[1] % TILE == y.shape[2] % TILE == 0:
        by_tile = y.reshape(len(y), tiles.shape[3], TILE, tiles.shape[4], TILE, y.shape[3])
        np.copyto(by_tile.transpose(4, 2, 0, 1, 3, 5), tiles)
        return
    for column, row in itertools.product(range(TILE), repeat=2):
        target = y[:, row::TILE, column::TILE]
        target[:] = tiles[column, row, :, : target.shape[1], : target.shape[2]]


def _padded(x: Array, before: int, height: int, width: int) -> Array:
    """x with so many rows and columns of zeros before it, in maps of this size."""
    if x.shape[1:3] == (height, width):
        return x
    padded = scratch("padded", (len(x), height, width, x.shape[3]), x.dtype)
    padded.fill(0.0)
    padded[:, before : before + x.shape[1], before : before + x.shape[2]] = x
    return padded


def _tiles(out: tuple[int, ...]) -> tuple[int, int]:
    """Tiles down and across an output of this shape."""
    return -(-out[1] // TILE), -(-out[2] // TILE)


def _slices(out: tuple[int, ...], channels: int) -> list[slice]:
    """Even slices of images whose windows stay in cache: four, or a multiple of it, for threads to share."""
    tiles = math.prod(_tiles(out))
    at_once = max(WINDOW_BYTES // (WINDOW**2 * tiles * channels * 4), 1)
    count = min(out[0], 4 * -(-out[0] // (4 * at_once)))
    return [slice(i * out[0] // count, (i + 1) * out[0] // count) for i in range(count)]
