"""Convolutions on a GPU, counted by hand on a V100 with its launches and its memories out of the way."""

from __future__ import annotations

from typing import Any

import pytest

import nmsim
from nmsim.arch.schema import TensorCoreArch
from nmsim.results.result import Result
from nmsim.workloads.lower_products import conv_bp, conv_ff, conv_wu
from nmsim.workloads.model import with_dtype
from nmsim.workloads.modelfile import Conv
from nmsim.workloads.optable import Workload, WorkloadBuilder
from nmsim.workloads.shapes import Run

LOWER = {"FF": conv_ff, "BP": conv_bp, "WU": conv_wu}


def gpu(**paths: Any) -> TensorCoreArch:
    free = {
        "memories.l2.bandwidth": "1e9 TB/s", "memories.dram.bandwidth": "1e9 TB/s", "launch.floor": "1 us",
        "kernels.fill_cycles": 100, "kernels.exposed_feed": 0, "cores.mma_efficiency_of.fp32": 1,
        "kernels.conv.efficiency.WU": 1, "kernels.conv.winograd.efficiency": 1,
        "cores.shared_memory_bandwidth": "10000 B/clk",
    }  # fmt: skip
    return nmsim.load_arch("v100_sxm2", free | {key.replace("__", "."): value for key, value in paths.items()})


def conv(
    stage: str, batch: int, channels: int, size: int, out: int, kernel: int, dtype: str, stride: int = 1
) -> Workload:
    layer = Conv.model_validate({
        "type": "conv", "name": "conv", "in": channels, "out": out, "kernel": [kernel, kernel], "input": [size, size],
        "stride": [stride, stride], "padding": [kernel // 2, kernel // 2],
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


def test_channels_that_are_not_aligned_run_on_cuda_cores():
    """60 channels are no multiple of 8: fp16 takes 64 products a cycle and core as fp32 does, 64 channels 512; both
    are padded to 64."""
    arch = gpu(cores__mma_efficiency=1)
    narrow, single, aligned = (
        busy(nmsim.simulate(arch, conv("FF", 8, channels, 64, 64, 1, dtype)), arch)
        for channels, dtype in ((60, "fp16"), (60, "fp32"), (64, "fp16"))
    )
    assert narrow == pytest.approx(single)
    assert narrow == pytest.approx(8 * aligned)


def test_winograd_multiplies_less():
    """8 x 512 x 14 x 14 to 512 channels, 3 x 3: 13 x 8 tiles of 128 x 64 in two waves of 128*64*4608/64 cycles,
    of which F(2 x 2, 3 x 3) does 16/36; with stride 2 there is no such kernel."""
    arch = gpu()
    result = nmsim.simulate(arch, conv("FF", 8, 512, 14, 512, 3, "fp32"))
    assert busy(result, arch) == pytest.approx(2 * 128 * 64 * 4608 / 64 / 2.25)
    strided = nmsim.simulate(arch, conv("FF", 8, 512, 28, 512, 3, "fp32", stride=2))
    assert busy(strided, arch) == pytest.approx(2 * 128 * 64 * 4608 / 64)


def test_layouts_are_changed_where_kernels_have_taps():
    """fp16 weight gradients: x and dy, 8 x 64 x 56 x 56 each, are read and written once more than a 1 x 1 kernel
    needs, as are dy and dx of an input gradient."""
    arch, each = gpu(memories__l2__size="1 GB"), 8 * 64 * 56 * 56 * 2
    weights, more = 64 * 64 * 2, 9 * 64 * 64 * 2
    for stage in ("WU", "BP"):
        one, nine = (nmsim.simulate(arch, conv(stage, 8, 64, 56, 64, size, "fp16")).dram_bytes for size in (1, 3))
        assert nine - one == 4 * each + more - weights


def test_kernels_of_a_direction_are_launched_one_by_one():
    """3 us for a weight gradient, 2 us for an input gradient, 1 us forward."""
    arch = gpu()
    for stage, launches in (("FF", 1), ("BP", 2), ("WU", 3)):
        result = nmsim.simulate(arch, conv(stage, 8, 256, 14, 256, 1, "fp32"))
        assert result.breakdown("cause")["latency_s"]["launch"] == pytest.approx(launches * 1e-6)
