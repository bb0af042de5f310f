"""Convolutions on a GPU, counted by hand on a V100 with its launches and its memories out of the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nmsim
from nmsim.arch.schema import TensorCoreArch
from nmsim.results.result import Result
from nmsim.sparsity.pattern import Pattern
from nmsim.workloads.lower_products import conv_bp, conv_ff, conv_wu
from nmsim.workloads.model import with_dtype
from nmsim.workloads.modelfile import Conv
from nmsim.workloads.optable import AXES, Workload, WorkloadBuilder
from nmsim.workloads.shapes import Run

LOWER = {"FF": conv_ff, "BP": conv_bp, "WU": conv_wu}


def gpu(**paths: Any) -> TensorCoreArch:
    free = {
        "memories.l2.bandwidth": "1e9 TB/s", "memories.dram.bandwidth": "1e9 TB/s", "launch.floor": "1 us",
        "kernels.fill_cycles": 100, "cores.mma_efficiency_of.fp32": 1,
        "kernels.conv.efficiency_of.fp32.WU": 1, "kernels.conv.winograd": {},
        "cores.shared_memory_bandwidth": "10000 B/clk",
    }  # fmt: skip
    return nmsim.load_arch("v100_sxm2", free | {key.replace("__", "."): value for key, value in paths.items()})


def conv(
    stage: str, batch: int, channels: int, size: int, out: int, kernel: int, dtype: str, stride: int = 1,
    padding: int | None = None, groups: int = 1,
) -> Workload:  # fmt: skip
    layer = Conv.model_validate({
        "type": "conv", "name": "conv", "in": channels, "out": out, "kernel": [kernel, kernel], "input": [size, size],
        "stride": [stride, stride], "padding": kernel // 2 if padding is None else padding,
        "groups": groups,
    })  # fmt: skip
    b = WorkloadBuilder("conv")
    b.add(**with_dtype(LOWER[stage](layer, Run(batch=batch)), dtype))
    return b.build()


def busy(result: Result, arch: TensorCoreArch) -> float:
    """Cycles without launches and prologues."""
    causes = result.breakdown("cause")["latency_s"]
    return float(arch.clock * (result.latency_s - causes["launch"] - causes.get("fill_drain", 0.0)))


def test_forward_kernels_do_not_split_the_reduction():
    """8 x 14 x 14 positions, 256 -> 256 channels of 1 x 1: 13 x 4 tiles of 128 x 64 on 80 cores are one wave of
    128*64*256/64 = 32768 cycles; a product of these sizes may split k and is faster."""
    arch = gpu()
    result = nmsim.simulate(arch, conv("FF", 8, 256, 14, 256, 1, "fp32"))
    assert busy(result, arch) == pytest.approx(32768)
    product = nmsim.simulate(arch, nmsim.gemm(1568, 256, 256, dtype="fp32"))
    assert busy(product, arch) < 32768


def test_few_channels_are_padded_on_tensor_cores():
    """3 channels of 3 x 3 taps are 9 x 32 reduction elements for 512 products a cycle, 32 x 32 positions and 128
    outputs 8 tiles of 128 x 128: one wave of 128*128*288/512 cycles. On CUDA cores they are 27 elements, a step of 16:
    128*64*32/64 in tiles of 128 x 64, one wave of 16."""
    arch = gpu(cores__mma_efficiency=1, kernels__conv__tiles=[[128, 128]])
    assert busy(nmsim.simulate(arch, conv("FF", 1, 3, 32, 128, 3, "fp16")), arch) == pytest.approx(
        128 * 128 * 288 / 512
    )
    arch = gpu()
    assert busy(nmsim.simulate(arch, conv("FF", 1, 3, 32, 128, 3, "fp32")), arch) == pytest.approx(128 * 64 * 32 / 64)


def test_tiles_of_a_weight_gradient_lie_within_a_tap():
    """32 channels of 3 x 3 taps are 9 x 64 rows, 5 tiles of 128 x 128, without a split 5 parts of 1024 positions; one
    by one they would be 288 rows, 3 tiles."""
    wave = 128 * 128 * 1024 / 512
    for aligned, tiles in ((64, 5), (1, 3)):
        arch = gpu(
            cores__mma_efficiency=1, cores__count=1, kernels__conv__gradient_tiles=[[128, 128]],
            kernels__split_k=[1], kernels__conv__aligned__WU=aligned,
        )  # fmt: skip
        assert busy(nmsim.simulate(arch, conv("WU", 1, 32, 32, 128, 3, "fp16")), arch) == pytest.approx(tiles * wave)


def test_input_gradients_have_tiles_of_their_own_on_tensor_cores():
    """8 x 14 x 14 positions and 128 channels are 13 tiles of 128 x 128, one wave; in fp32 26 of 128 x 64 are half as
    long; 64 channels fit into narrow tiles."""
    arch = gpu(cores__mma_efficiency=1)
    k = 256 * 9
    assert busy(nmsim.simulate(arch, conv("BP", 8, 128, 14, 256, 3, "fp16")), arch) == pytest.approx(
        128 * 128 * k / 512
    )
    single = nmsim.simulate(gpu(), conv("BP", 8, 128, 14, 256, 3, "fp32"))
    assert busy(single, arch) == pytest.approx(128 * 64 * k / 64)
    assert busy(nmsim.simulate(arch, conv("BP", 8, 64, 14, 256, 3, "fp16")), arch) == pytest.approx(128 * 64 * k / 512)


def test_tiles_on_tensor_cores_hold_a_warp_tile():
    """8 x 14 x 14 positions, 256 -> 32 channels: 13 tiles of 128 x 32 in fp32, of 128 x 64 on tensor cores."""
    arch = gpu(cores__mma_efficiency=1, kernels__conv__narrow=[[128, 64], [128, 32]])
    for dtype, wide, rate in (("fp32", 32, 64), ("fp16", 64, 512)):
        result = nmsim.simulate(arch, conv("FF", 8, 256, 14, 32, 1, dtype))
        assert busy(result, arch) == pytest.approx(128 * wide * 256 / rate)


def test_weight_gradients_split_as_products_do_on_tensor_cores():
    """One tile of 128 x 128 and 8 x 32 x 32 positions: in fp32 in 16 parts, in fp16 in 4."""
    arch = gpu(cores__mma_efficiency=1, kernels__split_k=[1, 4], kernels__conv__split_k=[1, 16])
    for dtype, parts, rate in (("fp32", 16, 64), ("fp16", 4, 512)):
        result = nmsim.simulate(arch, conv("WU", 8, 128, 32, 128, 1, dtype))
        assert busy(result, arch) == pytest.approx(128 * 128 * 8192 / parts / rate)


@pytest.mark.parametrize(("padding", "rate"), [(0, 512), (1, 64)])
def test_gradients_with_overhanging_padding_run_on_cuda_cores(padding: int, rate: int):
    """8 x 14 x 14 inputs and a kernel of one tap: without padding 13 tiles, with an edge of zeros 8 x 16 x 16
    positions, 16 tiles of 128 x 128, one wave of either; forward kernels take such padding."""
    arch = gpu(cores__mma_efficiency=1, kernels__conv__tiles=[[128, 128]], kernels__conv__narrow=[])
    work = conv("BP", 8, 128, 14, 256, 1, "fp16", padding=padding)
    assert busy(nmsim.simulate(arch, work), arch) == pytest.approx(128 * 128 * 256 / rate)
    forward = conv("FF", 8, 256, 14, 128, 1, "fp16", padding=padding)
    assert busy(nmsim.simulate(arch, forward), arch) == pytest.approx(128 * 128 * 256 / 512)


@pytest.mark.parametrize(("groups", "rate"), [(2, 512), (4, 64)])
def test_groups_of_fewer_than_8_channels_run_on_cuda_cores(groups: int, rate: int):
    """16 channels in 2 groups of 8 or 4 of 4, of 8 x 14 x 14 positions: 13 tiles for each, one wave of a step of 32."""
    arch = gpu(cores__mma_efficiency=1, kernels__conv__tiles=[[128, 128]], kernels__conv__narrow=[])
    work = conv("FF", 8, 16, 14, 16, 1, "fp16", groups=groups)
    assert busy(nmsim.simulate(arch, work), arch) == pytest.approx(128 * 128 * 32 / rate)


def test_a_board_without_tensor_cores_runs_every_type_by_kernels_of_cuda_cores():
    """8 x 14 x 14 positions, 256 -> 32 channels: 13 tiles of 128 x 32 in fp16 too, at twice the rate of fp32; a weight
    gradient of one tile and 8 x 32 x 32 positions splits as in fp32; overhanging padding costs only its positions,
    8 x 16 x 16, 16 tiles."""
    tensor, cuda = (
        gpu(cores__mma_efficiency=1, cores__macs_per_cycle__fp16=128, kernels__conv__tiles=[[128, 128]],
            kernels__conv__narrow=[[128, 32]], kernels__split_k=[1], kernels__conv__split_k=[1, 16],
            kernels__conv__aligned={}, kernels__conv__packed=[], kernels__conv__cuda_cores=types)
        for types in (["fp32"], ["fp32", "fp16"])
    )  # fmt: skip
    for work, there, here in (
        (conv("FF", 8, 256, 14, 32, 1, "fp16"), 128 * 128 * 256 / 128, 128 * 32 * 256 / 128),
        (conv("WU", 8, 128, 32, 128, 1, "fp16"), 128 * 128 * 8192 / 128, 128 * 128 * 512 / 128),
        (conv("BP", 8, 128, 14, 256, 1, "fp16", padding=1), 128 * 128 * 256 / 64, 128 * 128 * 256 / 128),
    ):
        for arch, cycles in ((tensor, there), (cuda, here)):
            assert busy(nmsim.simulate(arch, work), arch) == pytest.approx(cycles)


@pytest.mark.parametrize("stage", ["FF", "BP", "WU"])
def test_convolutions_whose_zeros_are_not_worth_skipping_run_as_dense_ones_do(stage: str):
    """A library whose 2:4 kernels have tiles of 1024 x 1024 only: channels are padded and gradients copied as ever."""
    arch = gpu(sparsity__patterns=["2:4"], kernels__sparse__tiles=[[1024, 1024]])
    dense = conv(stage, 8, 16, 28, 48, 3, "fp16")
    zeros = {"a_pattern": np.array([len(dense.patterns)]), "a_axis": np.array([AXES.index("k")])}
    sparse = replace(dense, patterns=(*dense.patterns, Pattern.parse("2:4")), columns={**dense.columns, **zeros})
    found, same = nmsim.simulate(arch, sparse), nmsim.simulate(arch, dense)
    assert "not be faster" in found.skipped_because[0]
    assert found.cycles == pytest.approx(same.cycles)
    assert found.dram_bytes == same.dram_bytes


def test_energy_is_counted_in_the_type_that_is_multiplied():
    """Gradients with overhanging padding are multiplied in fp32: so are their energies on a T4, cores and products."""
    work = conv("BP", 8, 128, 14, 256, 1, "fp16", padding=1)
    account = nmsim.simulate("t4", work).account
    assert account is not None
    assert {key[1] for key in account.counts if key[0] in ("mac", "cores")} == {"fp32"}


def winograd(outputs: int, *directions: str) -> dict[str, Any]:
    how = {
        "dtypes": ["fp32"],
        "directions": directions or ("FF", "BP", "WU"),
        "outputs": outputs,
        "fused": outputs == 2,
    }
    return {"kernels.conv.winograd": {"one": how}}


def test_winograd_multiplies_less():
    """8 x 512 x 14 x 14 to 512 channels, 3 x 3: 13 x 8 tiles of 128 x 64 in two waves of 128*64*4608/64 cycles,
    of which F(2 x 2, 3 x 3) does 16/36; with stride 2 there is no such kernel, nor for weight gradients here. Tiles of
    8 x 8 cover maps of 7 x 7: of 24 maps 12 x 8 tiles in two waves, where their positions would be 10 x 8 in one."""
    arch = gpu(**winograd(2, "FF"))
    wave = 128 * 64 * 4608 / 64
    assert busy(nmsim.simulate(arch, conv("FF", 8, 512, 14, 512, 3, "fp32")), arch) == pytest.approx(2 * wave / 2.25)
    strided = nmsim.simulate(arch, conv("FF", 8, 512, 28, 512, 3, "fp32", stride=2))
    assert busy(strided, arch) == pytest.approx(2 * wave)
    for size in (7, 8):
        small = nmsim.simulate(arch, conv("FF", 24, 512, size, 512, 3, "fp32"))
        assert busy(small, arch) == pytest.approx(2 * wave / 2.25)
    gradient = conv("WU", 8, 512, 14, 512, 3, "fp32")
    assert nmsim.simulate(arch, gradient).latency_s == nmsim.simulate(gpu(), gradient).latency_s


@pytest.mark.parametrize(
    ("stage", "channels", "waves", "depth"),
    [("FF", 512, 4, 512), ("BP", 512, 4, 512), ("WU", 512, 15, 128), ("WU", 128, 1, 128)],
)
def test_transformed_tiles_are_multiplied_as_a_batch(stage: str, channels: int, waves: int, depth: int):
    """8 maps of 14 x 14 are 128 tiles of 4 x 4. F(4 x 4, 3 x 3) multiplies 36 products of 128 x 512 x 512, 288 tiles of
    128 x 64 on 80 cores; for 512 x 512 weights 36 of 512 x 512 x 128, 1152 tiles; for 128 x 128 ones 72 tiles, of 128
    products deep, that nothing splits. Each multiplication stands for four of the convolution."""
    arch = gpu(**winograd(4), memories__dram__bandwidth="1e9 TB/s")
    work = conv(stage, 8, channels, 14, channels, 3, "fp32")
    result = nmsim.simulate(arch, work)
    assert busy(result, arch) == pytest.approx(waves * 128 * 64 * depth / 64)
    assert result.macs_executed == 9 * channels**2 * 8 * 14 * 14
    assert result.columns["peak_macs"][0] == pytest.approx(4 * 80 * 64)
    assert result.macs_padded >= result.macs_executed


@pytest.mark.parametrize(("outputs", "gain"), [(2, 2.25), (4, 4.0)])
def test_winograd_spends_energy_on_what_it_multiplies(outputs: int, gain: float):
    """The multiplications of the convolution count as executed, 1/gain of them are carried out and cost energy; at the
    peak units stand for gain times as many, whatever share of their rate a kernel reaches."""
    how = winograd(outputs)
    how["kernels.conv.winograd"]["one"]["efficiency"] = 0.5
    arch = gpu(**how, memories__dram__bandwidth="1e9 TB/s")
    result = nmsim.simulate(arch, conv("FF", 64, 512, 56, 512, 3, "fp32"))
    assert result.account is not None
    assert result.macs_executed == 9 * 512**2 * 64 * 56**2
    assert result.account.counts["mac", "fp32", ""][0] == pytest.approx(result.macs_executed / gain)
    assert result.columns["peak_macs"][0] == pytest.approx(gain * 80 * 64)


def test_transforms_apart_from_the_products_pass_through_dram():
    """By F(4 x 4, 3 x 3) kernels of their own write 36 elements of each tile of both maps and of each kernel, which are
    read again, in four launches; each direction moves the same. Where it loses more so than it saves it is not used."""
    how, slow = winograd(4), {"memories.dram.bandwidth": "1 GB/s"}
    maps, weights = 2 * 128 * 512 * 36 * 4, 36 * 512 * 512 * 4
    for stage in ("FF", "BP", "WU"):
        work = conv(stage, 8, 512, 14, 512, 3, "fp32")
        apart, direct = (nmsim.simulate(gpu(memories__l2__size="1 GB", **more), work) for more in (how, {}))
        assert apart.dram_bytes - direct.dram_bytes == 2 * (maps + weights)
        assert apart.breakdown("cause")["latency_s"]["launch"] == pytest.approx(4e-6)
        assert apart.latency_s < direct.latency_s
        assert nmsim.simulate(gpu(**how, **slow), work).latency_s == nmsim.simulate(gpu(**slow), work).latency_s


def test_the_layout_of_gradients_is_changed_where_kernels_have_taps():
    """fp16 gradients of weights and of the input: dy, 8 x 64 x 56 x 56, is read and written once more for 3 x 3
    kernels, and for 1 x 1 ones where the library does so; forward nothing is."""
    each, weights = 8 * 64 * 56 * 56 * 2, 64 * 64 * 2
    for stage, copies in (("FF", 0), ("WU", 2), ("BP", 2)):
        for size, fewest, copied in ((1, 2, 0), (1, 1, copies), (3, 2, copies)):
            arch = gpu(memories__l2__size="1 GB", kernels__conv__packed_taps=fewest)
            moved = nmsim.simulate(arch, conv(stage, 8, 64, 56, 64, size, "fp16")).dram_bytes
            assert moved == (2 + copied) * each + size**2 * weights


def test_a_strided_kernel_of_one_tap_meets_every_other_row():
    """Of 8 x 64 maps of 56 x 56 it reads half, 8*64*28*56 elements, though it needs a quarter; the gradient is written
    so after all of it has been cleared. Three taps meet all rows."""
    arch, x = gpu(memories__l2__size="1 GB"), 8 * 64 * 56 * 56 * 2
    y, weights = x // 4, 64 * 64 * 2
    for stage, moved in (("FF", x // 2 + y), ("WU", x // 2 + y), ("BP", y + x // 2 + x)):
        result = nmsim.simulate(arch, conv(stage, 8, 64, 56, 64, 1, "fp16", stride=2))
        assert result.dram_bytes == pytest.approx(moved + weights)
    wide = nmsim.simulate(arch, conv("FF", 8, 64, 56, 64, 3, "fp16", stride=2))
    assert wide.dram_bytes == pytest.approx(x + y + 9 * weights)


@pytest.mark.parametrize(
    ("stage", "kernel", "stride", "launches"),
    [("FF", 3, 1, 1), ("WU", 1, 1, 2), ("WU", 3, 1, 3), ("BP", 3, 1, 2), ("BP", 3, 2, 3), ("BP", 1, 1, 1)],
)
def test_every_kernel_is_launched(stage: str, kernel: int, stride: int, launches: int):
    """One multiplies, one sums up a split reduction, one copies a gradient for kernels of more than one tap, one clears
    a strided gradient; 1 us each."""
    result = nmsim.simulate(gpu(), conv(stage, 8, 64, 56, 64, kernel, "fp16", stride=stride))
    assert result.breakdown("cause")["latency_s"]["launch"] == pytest.approx(launches * 1e-6)
