"""Convolutions on a GPU: what its library does otherwise than multiply the im2col product of the same size.

Forward and input-gradient kernels (implicit GEMM) have few tiles and do not split the reduction. A step of the main
loop of tensor cores, and a tile of a weight gradient, lies within one tap, so that few channels are padded. 3 x 3
kernels of stride 1 may go by Winograd's algorithm, which multiplies `gain` times less: in one kernel, or as a batch of
products between kernels that transform and pass their results through DRAM. The gradient of the input of a strided
convolution is cleared by a kernel of its own, since outputs do not reach all of it. A 1 x 1 kernel of stride s meets
every s-th row of a map and passes over the others.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmsim.arch.arithmetic import rates
from nmsim.arch.gpu import Kernels, Winograd
from nmsim.arch.schema import ACCUMULATOR_BYTES, TensorCoreArch
from nmsim.engines.products import Products
from nmsim.engines.tiling import ceil_div
from nmsim.workloads.optable import DTYPES, STAGES

SQUARE = 9
"""Taps of a 3 x 3 kernel."""


def own_kernels(kernels: Kernels, p: Products) -> np.ndarray:
    """The dense convolutions for which the library has kernels of their own (boolean [ops])."""
    return (p.taps > 0) & (p.side == 0) & (kernels.conv is not None)


def on_cuda_cores(arch: TensorCoreArch, p: Products) -> Products:
    """The products, with those that no kernel of tensor cores takes as CUDA cores run them.

    Groups of few channels, and gradients of convolutions whose padding overhangs: the input gradient is a convolution
    that is padded by what a kernel reaches less this padding, which is negative there.
    """
    if arch.kernels.conv is None:
        return p
    channels = np.minimum(np.where(p.stage == STAGES.index("WU"), p.m, p.k) / np.maximum(p.taps, 1.0), p.n)
    small = (p.count > 1) & (channels < arch.kernels.conv.least_group)
    away = small | (p.overhang > 0) & (p.stage != STAGES.index("FF"))
    away &= own_kernels(arch.kernels, p) & on_tensor_cores(arch.kernels, p)
    if not away.any() or "fp32" not in (rate := rates(arch)):
        return p
    return replace(p, rate=np.where(away, rate["fp32"], p.rate), dtype=np.where(away, DTYPES.index("fp32"), p.dtype))


def on_tensor_cores(kernels: Kernels, p: Products) -> np.ndarray:
    """The products in other types than those for which kernels of convolutions use CUDA cores (boolean [ops])."""
    cuda = kernels.conv.cuda_cores if kernels.conv is not None else []
    return ~np.isin(p.dtype, [DTYPES.index(name) for name in cuda])


def prepared(arch: TensorCoreArch, p: Products) -> Products:
    """The products as convolutions run: channels of a tap padded, and only the rows of maps that 1 x 1 kernels meet."""
    conv = own_kernels(arch.kernels, p)
    if arch.kernels.conv is None or not conv.any():
        return p
    update, taps = p.stage == STAGES.index("WU"), np.maximum(p.taps, 1.0)
    multiple = np.ones(len(p.m))
    for stage, value in arch.kernels.conv.aligned.items():
        multiple = np.where(
            conv & on_tensor_cores(arch.kernels, p) & (p.stage == STAGES.index(stage)), float(value), multiple
        )
    m = np.where(update, taps * multiple * ceil_div(p.m / taps, multiple), p.m)
    k = np.where(update, p.k, taps * multiple * ceil_div(p.k / taps, multiple))
    read = np.where(conv & (p.taps == 1), rows_met(p.a.elements, p.m * p.k * p.count), p.a.elements)
    return replace(p, m=m, k=k, kept=np.where(p.side > 0, p.kept, k), a=replace(p.a, elements=read))


def rows_met(whole: np.ndarray, met: np.ndarray) -> np.ndarray:
    """Size of the rows of which a kernel of one tap meets elements [ops]; with a stride s it meets 1/s^2 of `whole`.

    It meets every s-th row, and of these every s-th element, so that their rows are the geometric mean.
    """
    return np.sqrt(whole * np.minimum(whole, met))


def winograd_offered(how: Winograd, arch: TensorCoreArch, p: Products) -> np.ndarray:
    """The 3 x 3 convolutions of stride and dilation 1 for which there are such kernels (boolean [ops])."""
    typed = np.isin(p.dtype, [DTYPES.index(name) for name in how.dtypes])
    typed &= np.isin(p.stage, [STAGES.index(stage) for stage in how.directions])
    return own_kernels(arch.kernels, p) & (p.taps == SQUARE) & (p.map_h > 0) & typed


def by_winograd(how: Winograd, arch: TensorCoreArch, p: Products) -> tuple[Products, np.ndarray]:
    """What Winograd's algorithm multiplies instead, and the bytes [ops] that transforms beside it read and write.

    Tiles overhang the edges of maps. A fused kernel multiplies all that they cover, at a higher rate and with its
    efficiency for that of the direction. Otherwise each of the (o + 2)^2 elements of transformed tiles makes a product,
    run as forward ones are: tiles x channels by channels x channels, or channels x tiles by tiles x channels for a
    weight gradient.
    """
    update, width = p.stage == STAGES.index("WU"), float(how.outputs)
    positions = np.where(update, p.k, p.m)
    tiles = positions / (p.map_h * p.map_w) * ceil_div(p.map_h, width) * ceil_div(p.map_w, width)
    if how.fused:
        covered, rate = tiles * width**2, p.rate * how.gain * how.efficiency / efficiency(arch, p)
        m, k = np.where(update, p.m, covered), np.where(update, covered, p.k)
        return replace(p, m=m, k=k, kept=k, rate=rate, executed=p.executed / how.gain), np.zeros(len(p.m))
    m, k = np.where(update, p.m / p.taps, tiles), np.where(update, tiles, p.k / p.taps)
    count = p.count * (width + 2) ** 2
    a, b = replace(p.a, elements=count * m * k), replace(p.b, elements=count * k * p.n)
    batch = replace(
        p, m=m, k=k, kept=k, inserted=m, count=count, a=a, b=b, c_bytes=count * m * p.n * ACCUMULATOR_BYTES,
        useful=p.useful / how.gain, executed=p.executed / how.gain, stage=np.full_like(p.stage, STAGES.index("FF")),
    )  # fmt: skip
    plain, transformed = (x.a.dram_bytes + x.b.dram_bytes + x.c_bytes for x in (p, batch))
    return batch, plain + transformed


def efficiency(arch: TensorCoreArch, p: Products) -> np.ndarray:
    """Share of its rate that the main loop of a convolution issues, for gathering operands with strides [ops]."""
    conv, share = own_kernels(arch.kernels, p), np.ones(len(p.m))
    kernels = arch.kernels.conv
    if kernels is None:
        return share
    for dtype, table in [(None, kernels.efficiency), *kernels.efficiency_of.items()]:
        typed = conv if dtype is None else conv & (p.dtype == DTYPES.index(dtype))
        for stage, value in table.items():
            here = p.inserted > p.m if stage == "strided" else p.stage == STAGES.index(stage)
            share = np.where(typed & here, value, share)
    return share


def copied(arch: TensorCoreArch, p: Products) -> tuple[np.ndarray, np.ndarray]:
    """Bytes that kernels beside that of a convolution read and write, and how many kernels these are [ops].

    They change the layout of the output's gradient. The input gradient of a strided convolution is cleared before, so
    that what its kernel meets is written twice.
    """
    kernels, conv = arch.kernels.conv, own_kernels(arch.kernels, p)
    if kernels is None or not conv.any():
        return np.zeros(len(p.m)), np.zeros(len(p.m))
    met = p.m * p.n * p.count * p.a.width
    written = np.where(p.taps == 1, rows_met(p.c_bytes, met), p.c_bytes)
    cleared = conv & (p.inserted > p.m)
    packed = conv & np.isin(p.stage, [STAGES.index(stage) for stage in kernels.packed])
    packed &= (p.taps >= kernels.packed_taps) & on_tensor_cores(arch.kernels, p)
    gradient = np.where(p.stage == STAGES.index("WU"), p.b.dram_bytes, p.a.dram_bytes)
    return np.where(cleared, written, 0.0) + np.where(packed, 2.0 * gradient, 0.0), cleared + 1.0 * packed
