"""Layers with weights at any place: a kernel is scored as it is named, whether it is the fastest or not."""

from __future__ import annotations

import numpy as np
import pytest

import nmsim
from nmsim.engines.gathers import by_kernel
from nmsim.errors import SpecError, UnsupportedError
from nmsim.validation.condensed import KERNELS
from nmsim.validation.datasets import validate

DENSE, CSR, CONDENSED = KERNELS
BESIDE = 'kind: overheads\noverheads: {"*": {value: 100 us, beside: true, assumed: "a test"}}\n'


def rows(kernel, batches=(1, 64, 2048), sparsity="99"):
    return [
        {"sparsity_pct": sparsity, "batch": b, "kernel": kernel, "time_us": 100, "device": "v100_sxm2", "dtype": "fp32",
         "source": "own/notebook cell"}
        for b in batches
    ]  # fmt: skip


def test_a_data_set_for_each_kernel_and_others_counted(write):
    table = [*rows(DENSE), *rows(CSR), *rows(CONDENSED), *rows("FFI")]
    report = validate(write("srigl_condensed_gpu.csv", table))
    assert [s.name for s in report.sets] == [f"notebook_v100_sxm2_fp32_{x}" for x in ("dense", "csr", "condensed")]
    assert [(left.reason, left.rows) for left in report.left_out] == [("no kernel 'FFI'", 3)]


def test_kernels_that_gather_count_their_entries(write):
    """99 % of 3072 leave 31 of each of 768 neurons: 23,808 entries on 80 cores, rows shared out whole, 9.6 a core, 10.
    At batch 2048 each meets 2048 elements: 10*31*2048/0.48 cycles by CSR, /6.66 condensed; the dense kernel is faster
    than CSR and is not taken."""
    table = [*rows(CSR), *rows(CONDENSED)]
    report = validate(write("srigl_condensed_gpu.csv", table))
    arch = nmsim.load_arch("v100_sxm2")
    for data_set, rate in zip(report.sets, (0.48, 6.66), strict=True):
        (part,) = data_set.parts
        whole = sum(part.causes[x][2] for x in ("useful", "unskipped", "granularity", "operand_feed", "metadata"))
        assert whole == pytest.approx(10 * 31 * 2048 / rate / arch.clock)
    dense = nmsim.simulate(arch, nmsim.gemm(2048, 768, 3072, dtype="fp32")).latency_s
    assert report.sets[0].predicted_s[2] > dense


def test_a_kernel_by_its_name_is_the_one_that_is_chosen_where_it_is_fastest():
    arch, work = nmsim.load_arch("v100_sxm2"), nmsim.gemm(8, 768, 3072, "fan-in:31", "B", "fp32")
    result = nmsim.simulate(arch, work)
    assert result.columns["plan.kernel"][0] == "condensed"
    causes, _ = by_kernel(arch, work, "condensed")
    assert sum(float(x[0]) for x in causes.values()) == pytest.approx(result.latency_s)
    slower, _ = by_kernel(arch, work, "csr")
    assert sum(float(x[0]) for x in slower.values()) >= result.latency_s


def test_what_cannot_be_gathered_is_refused():
    work = nmsim.gemm(8, 768, 3072, "fan-in:31", "B", "fp32")
    with pytest.raises(UnsupportedError, match="rtx3090 has no kernel 'csr' that gathers"):
        by_kernel(nmsim.load_arch("rtx3090"), work, "csr")
    for pattern, kernel in (("dense", "csr"), ("unstructured:0.1", "condensed")):
        with pytest.raises(UnsupportedError, match=f"'{kernel}' takes weights"):
            by_kernel(nmsim.load_arch("v100_sxm2"), nmsim.gemm(8, 768, 3072, pattern, "B", "fp32"), kernel)


def test_an_overhead_beside_the_device_is_the_longer_of_both(write):
    bare, both = (
        validate(write("srigl_condensed_gpu.csv", rows(CSR), *x)).sets[0].predicted_s for x in ((), (BESIDE,))
    )
    assert bare[0] < 100e-6 < bare[2]
    np.testing.assert_allclose(both, np.maximum(bare, 100e-6))


def test_a_sparsity_that_leaves_nothing_is_refused(write):
    with pytest.raises(SpecError, match=r"srigl_condensed_gpu.csv:2:1: sparsity_pct: must be below 100, not 100"):
        validate(write("srigl_condensed_gpu.csv", rows(CSR, sparsity="100")))


def test_the_shipped_table_is_scored():
    """4 sparsities x 12 batches of each of 3 kernels; rows of the notebook's other kernels do not ship."""
    report = validate(names=["condensed_sparsity_*"])
    assert [s.errors.points for s in report.sets] == [48, 48, 48]
    assert not report.left_out
