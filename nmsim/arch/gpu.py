"""The parts of an architecture file on a GPU: its cores, its library of kernels, its caches, its power."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from nmsim.arch.fields import Dtype, Rate, Rates, Ratio, Share, Tile
from nmsim.specfile import Bandwidth, BytesPerCycle, Count, Frequency, Power, Size, Spec
from nmsim.specfile import Energy as EnergyPerAction
from nmsim.workloads.optable import DTYPES

Raster = Literal["blocks", "columns"]


class StreamingMultiprocessors(Spec):
    """The cores of a GPU with their tensor cores and shared memory."""

    count: Count
    macs_per_cycle: Rates = Field(description="dense multiply-accumulates per core and cycle, by data type")
    shared_memory: Size = Field(description="shared memory per core")
    shared_memory_bandwidth: BytesPerCycle = Field(description="per core")
    mma_efficiency: Ratio = Field(default=1.0, description="share of the peak rate that the main loop issues")
    mma_efficiency_of: dict[Dtype, Ratio] = Field(
        default={}, description="mma_efficiency of the data types that other units multiply: fp32 on CUDA cores"
    )
    half_sums: dict[Dtype, Rate] = Field(
        default={}, description="macs_per_cycle of the types that a core multiplies faster into 16-bit sums"
    )
    accumulate: Literal["fp32", "fp16"] = Field(
        default="fp32", description="type of the sums; with fp16, `half_sums` hold where they name the data type"
    )


class SparseKernels(Spec):
    """What the kernels of n:m products do otherwise than the dense ones; what is left out is as there."""

    tiles: Annotated[list[Tile], Field(min_length=1)] | None = None
    split_k: Annotated[list[Count], Field(min_length=1)] | None = None
    step_cycles: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="cycles of a main-loop step that nothing hides, whatever its tile: barriers, waiting for operands",
    )
    raster: Raster | None = None
    mma_efficiency: Ratio | None = None


Direction = Literal["FF", "BP", "WU"]


class Winograd(Spec):
    """Kernels of 3 x 3 convolutions of stride 1 by Winograd's algorithm, which multiplies less."""

    dtypes: list[Dtype]
    directions: list[Direction]
    outputs: Literal[2, 4] = Field(description="o of F(o x o, 3 x 3): tiles of o x o outputs, o + 2 wide as inputs")
    fused: bool = Field(
        description="whether the kernel that multiplies transforms as well; otherwise others do, through DRAM, and a "
        "batch of products multiplies, one for each of the (o + 2)^2 elements of transformed tiles"
    )
    efficiency: Ratio = Field(
        default=1.0, description="share of its rate that the main loop of a fused kernel issues, beside mma_efficiency"
    )

    @property
    def gain(self) -> float:
        """How many times fewer multiplications whole tiles need: 9 o^2 / (o + 2)^2."""
        return 9 * self.outputs**2 / (self.outputs + 2) ** 2

    @property
    def launches(self) -> int:
        """Kernels: the one that multiplies, and those that transform two operands and the result."""
        return 1 if self.fused else 4


class Convolutions(Spec):
    """What the library's kernels of convolutions (implicit GEMM) do otherwise than those of products."""

    tiles: Annotated[list[Tile], Field(min_length=1)]
    gradient_tiles: Annotated[list[Tile], Field(min_length=1)] | None = Field(
        default=None,
        description="tiles of weight gradients, and of input gradients on tensor cores; as `tiles` if left out",
    )
    cuda_cores: list[Dtype] = Field(
        default=["fp32"], description="data types that CUDA cores multiply; tensor cores multiply the others"
    )
    least_group: Count = Field(
        default=1, description="channels of a group that kernels of tensor cores take at least; CUDA cores take fewer"
    )
    narrow: list[Tile] = Field(
        default=[],
        description="tiles for products that fit into their shorter side only; on tensor cores those that hold a "
        "warp_tile",
    )
    split_k: Annotated[list[Count], Field(min_length=1)] = Field(
        default=[1], description="of weight gradients on CUDA cores; those on tensor cores split as products do"
    )
    efficiency: dict[Literal[Direction, "strided"], Ratio] = Field(
        default={},
        description="share of its rate that the main loop issues beside mma_efficiency, by direction, and of "
        "the input gradients of strided convolutions; 1 where left out",
    )
    efficiency_of: dict[Dtype, dict[Literal[Direction, "strided"], Ratio]] = Field(
        default={}, description="efficiency of the data types that have another"
    )
    aligned: dict[Direction, Count] = Field(
        default={},
        description="channels of a tap come in multiples of it on tensor cores, fewer are padded, by direction",
    )
    packed: list[Direction] = Field(
        default=[],
        description="directions in which the output's gradient in 16 bits and fewer is copied to a layout with "
        "channels last",
    )
    packed_taps: Count = Field(default=2, description="fewest taps of a kernel for which it is copied")
    winograd: dict[str, Winograd] = {}


class Kernels(Spec):
    """The tilings that the machine's library of kernels offers, and how well its kernels hide what they wait for."""

    tiles: Annotated[list[Tile], Field(min_length=1)] = Field(description="output tile of a thread block, [m, n]")
    tiles_of: dict[Dtype, Annotated[list[Tile], Field(min_length=1)]] = Field(
        default={}, description="output tiles of the data types that have others"
    )
    warp_tile: Tile = Field(
        description="largest output tile of a warp or warp group: operands are read once per such tile"
    )
    warps: Literal[1, 4] = Field(
        default=4, description="warps (or warp groups) that share even the smallest tile: 4 to keep 4 tensor cores busy"
    )
    multicast: Count = Field(
        default=1, description="neighbouring thread blocks that get what they share by one read of L2 (clusters)"
    )
    k_step: Count = Field(description="16-bit reduction elements per main-loop step; k is padded to these bytes")
    split_k: Annotated[list[Count], Field(min_length=1)] = [1]
    stream_k: bool = Field(default=False, description="also kernels that share tiles evenly, cutting each at most once")
    fill_cycles: Count = Field(description="cycles of prologue and epilogue per wave")
    accumulators: Size = Field(
        default=131072.0,
        description="registers of a core that hold 32-bit sums: blocks whose tiles fit together run side by side, "
        "and one computes while another fills or drains",
    )
    step_cycles: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="cycles of a main-loop step that nothing hides in dense tiles smaller than the largest of `tiles`, "
        "which have too few warps for it; not of the data types in `tiles_of`",
    )
    exposed_feed: Share = Field(
        default=0.0,
        description="share of reading operands from shared memory that multiplications do not hide; of dense products",
    )
    dram_efficiency: Ratio = Field(
        default=1.0, description="share of what streams get of DRAM that the kernels of products get"
    )
    latency: Count | None = Field(
        default=None,
        description="cycles of DRAM's latency, of kernels that ask for operands one step of the main loop ahead: where "
        "L2 does not hold them no step is shorter. Left out where kernels ask further ahead",
    )
    along_k: dict[Literal["a", "b"], BytesPerCycle] = Field(
        default={},
        description="bytes that a core gets a cycle of an operand which lies along k and which L2 does not hold; "
        "without a limit of its own if left out",
    )
    c_passes: Count = Field(
        default=1, description="times that results pass DRAM: 2 where products are added to what is there"
    )
    raster: Raster = Field(
        default="blocks",
        description="order of thread blocks of products: `blocks` close to a square run at a time, `columns` follow m, "
        "then n",
    )
    sparse: SparseKernels = SparseKernels()
    conv: Convolutions | None = Field(default=None, description="as products of the same size if left out")


class Cache(Spec):
    """A cache shared by all cores."""

    size: Size
    bandwidth: Bandwidth
    copies: Count = Field(
        default=1,
        description="partitions that each keep a copy of what their own cores read: rows read again find "
        "only size / copies",
    )


class RowKernel(Spec):
    """How the library's kernel of a row-wise operation passes over its rows."""

    reads: Count = Field(description="times that a row is read which no registers hold")
    held: Annotated[int, Field(ge=0)] = Field(
        default=0, description="longest row, in elements, that registers hold, so that it is read once"
    )
    at_once: Count = Field(description="rows that a core works on at a time")


class PowerLimit(Spec):
    """The power that a board may draw, and how it slows down to keep to it."""

    cap: Power
    core_cycle: EnergyPerAction = Field(
        description="energy of a cycle of a core whose tensor cores are at work, besides that of the multiplications: "
        "clock tree, instruction issue, registers, shared memory; at the highest voltage of the curve"
    )
    core_cycle_of: dict[Dtype, EnergyPerAction] = Field(
        default={}, description="core_cycle of the data types that other units multiply: fp32 on CUDA cores"
    )
    curve: Annotated[list[tuple[Frequency, Rate]], Field(min_length=2)] = Field(
        description="voltage that a clock needs: pairs of a clock and a number of volts, ascending"
    )

    def per_cycle(self, dtype: np.ndarray) -> np.ndarray:
        """Joules of a cycle of a core at work on products of these types [ops], by their codes in DTYPES."""
        return np.array([self.core_cycle_of.get(name, self.core_cycle) for name in DTYPES])[dtype]

    @field_validator("curve")
    @classmethod
    def _ascends(cls, value: list[tuple[float, float]]) -> list[tuple[float, float]]:
        for (slow, low), (fast, high) in pairwise(value):
            if fast <= slow or high < low:
                raise ValueError(
                    f"clocks must rise and voltages not fall, but {slow:g} Hz, {low:g} is before {fast:g} Hz, {high:g}"
                )
        return value
