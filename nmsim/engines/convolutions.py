"""Convolutions on a GPU: what its library does otherwise than multiply the im2col product of the same size.

Forward and input-gradient kernels (implicit GEMM) have few tiles and do not split the reduction. Tensor cores take
channels in multiples of the words that they load; other convolutions run on the CUDA cores. 3 x 3 kernels of stride
1 may go by Winograd's algorithm, which multiplies `gain` times less. The gradient of the input of a strided
convolution is cleared by a kernel of its own, since outputs do not reach all of it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmsim.arch.arithmetic import rates
from nmsim.arch.gpu import Kernels
from nmsim.arch.schema import TensorCoreArch
from nmsim.engines.products import Products
from nmsim.workloads.optable import DTYPES, STAGES

SQUARE = 9
"""Taps of a 3 x 3 kernel."""


def own_kernels(kernels: Kernels, p: Products) -> np.ndarray:
    """The dense convolutions for which the library has kernels of their own (boolean [ops])."""
    return (p.taps > 0) & (p.side == 0) & (kernels.conv is not None)


def channels(p: Products) -> tuple[np.ndarray, np.ndarray]:
    """Channels of a group that a convolution's product reduces over or has along m, and those along n [ops]."""
    taps = np.maximum(p.taps, 1.0)
    return np.where(p.stage == STAGES.index("WU"), p.m, p.k) / taps, p.n


def prepared(arch: TensorCoreArch, p: Products) -> Products:
    """The products as convolutions run: unaligned ones on CUDA cores, as fp32."""
    conv = own_kernels(arch.kernels, p)
    if arch.kernels.conv is None or not conv.any():
        return p
    one, other = channels(p)
    unaligned = conv & ((one % arch.kernels.conv.aligned > 0) | (other % arch.kernels.conv.aligned > 0))
    fp32 = DTYPES.index("fp32")
    unaligned &= p.dtype != fp32
    return replace(
        p, rate=np.where(unaligned, rates(arch).get("fp32", np.inf), p.rate),
        dtype=np.where(unaligned, fp32, p.dtype).astype(p.dtype.dtype),
    )  # fmt: skip


def winograd_offered(arch: TensorCoreArch, p: Products) -> np.ndarray:
    """The 3 x 3 convolutions of stride 1 for which there are such kernels (boolean [ops]).

    At stride 1 the operand that is counted without im2col has about as many elements as there are positions and
    channels; at stride 2 four times as many.
    """
    conv = arch.kernels.conv
    if conv is None or conv.winograd is None:
        return np.zeros(len(p.m), dtype=bool)
    update = p.stage == STAGES.index("WU")
    one, other = channels(p)
    positions = np.where(update, p.k, p.m)
    dense = (p.inserted <= p.m) & ((p.stage == STAGES.index("BP")) | (p.a.elements < 2.0 * positions * one * p.count))
    wide = ~update | (np.minimum(one, other) >= conv.winograd.channels)
    typed = np.isin(p.dtype, [DTYPES.index(name) for name in conv.winograd.dtypes])
    return own_kernels(arch.kernels, p) & (p.taps == SQUARE) & dense & wide & typed


def by_winograd(arch: TensorCoreArch, p: Products, offered: np.ndarray) -> Products:
    """The same products at the rate that Winograd's algorithm has, with its efficiency for that of the direction."""
    conv = arch.kernels.conv
    if conv is None or conv.winograd is None:
        return p
    gain = conv.winograd.gain * conv.winograd.efficiency / efficiency(arch, p)
    return replace(p, rate=np.where(offered, p.rate * gain, p.rate))


def efficiency(arch: TensorCoreArch, p: Products) -> np.ndarray:
    """Share of its rate that the main loop of a convolution issues, for gathering operands with strides [ops]."""
    conv, share = own_kernels(arch.kernels, p), np.ones(len(p.m))
    if arch.kernels.conv is not None:
        for stage, value in arch.kernels.conv.efficiency.items():
            here = p.inserted > p.m if stage == "strided" else p.stage == STAGES.index(stage)
            share = np.where(conv & here, value, share)
    return share


def copied(arch: TensorCoreArch, p: Products) -> np.ndarray:
    """Bytes that kernels beside that of a convolution read and write [ops].

    They change the layout of operands but for weights, and clear the input gradient of a strided convolution.
    """
    kernels, conv = arch.kernels.conv, own_kernels(arch.kernels, p)
    if kernels is None or not conv.any():
        return np.zeros(len(p.m))
    cleared = np.where(conv & (p.inserted > p.m), p.c_bytes, 0.0)
    packed = conv & np.isin(p.stage, [STAGES.index(stage) for stage in kernels.packed])
    packed &= (p.taps > 1) & ~np.isin(p.dtype, [DTYPES.index("fp32"), DTYPES.index("tf32")])
    result = np.where(p.stage == STAGES.index("WU"), p.b.dram_bytes, p.c_bytes)
    return cleared + np.where(packed, 2.0 * (p.a.dram_bytes + result), 0.0)


def launches(arch: TensorCoreArch, p: Products) -> np.ndarray:
    """Kernels that each product starts [ops]: 1, or those of a convolution in its direction."""
    conv, number = own_kernels(arch.kernels, p), np.ones(len(p.m))
    if arch.kernels.conv is not None:
        for stage, count in arch.kernels.conv.launches.items():
            number = np.where(conv & (p.stage == STAGES.index(stage)), float(count), number)
    return number
