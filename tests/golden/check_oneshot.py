"""Wanda, SparseGPT and TASD against the reference vectors, whose weights are [out, in]."""

from __future__ import annotations

import re

import numpy as np

from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.oneshot import InputStatistics, one_shot, sparsegpt
from nmsim.sparsity.series import decompose
from tests.golden.entries import Entry, checks

SPARSEGPT_ATOL = 5e-6
"""The index's tolerance of pruned weights, float32 beside float64."""

FLOAT64_RTOL, FLOAT32_RTOL = 1e-9, 1e-5
"""Two float64 evaluations of one recursion; a sum that was accumulated in float32."""


def statistics_of(entry: Entry, hessian: bool = False) -> InputStatistics:
    """The calibration inputs added in two batches, of one sample and of the others."""
    x = entry["X"]
    statistics = InputStatistics(x.shape[-1], hessian)
    for part in (x[:1], x[1:]) if x.ndim == 3 and len(x) > 1 else (x,):
        statistics.add(part)
    return statistics


@checks("wanda")
def scaler_and_masks(entry: Entry) -> None:
    statistics, w = statistics_of(entry), entry["W"].T
    entry.equals("scaler_row", statistics.scaler)
    patterns = entry.patterns("wanda_mask")
    assert patterns
    for tag, pattern in patterns:
        pruned, mask = one_shot(w, pattern, "wanda", statistics)
        np.testing.assert_array_equal(mask.T, entry[f"wanda_mask_{tag}"] != 0, err_msg=tag)
        np.testing.assert_array_equal(pruned.T, entry[f"wanda_W_{tag}"], err_msg=tag)
    for tag, pattern in entry.patterns("mag_mask"):
        _, mask = one_shot(w, pattern)
        np.testing.assert_array_equal(mask.T, entry[f"mag_mask_{tag}"] != 0, err_msg=tag)


@checks("sparsegpt")
def weights_masks_and_loss(entry: Entry) -> None:
    hessian, w = statistics_of(entry, hessian=True).hessian, entry["W"].astype(np.float64).T
    runs = [re.fullmatch(r"(\d+)_(\d+)_b(\d+)", tag) for tag in entry.tags("mask")]
    assert runs
    assert all(runs)
    for n, m, block in (run.groups() for run in runs):
        tag = f"{n}_{m}_b{block}"
        found = sparsegpt(w, f"{n}:{m}", hessian, damping=entry.params["percdamp"], block=int(block))
        np.testing.assert_array_equal(found.mask.T, entry[f"mask_{tag}"] != 0, err_msg=tag)
        np.testing.assert_allclose(found.weight.T, entry[f"Wq_{tag}"], rtol=0, atol=SPARSEGPT_ATOL, err_msg=tag)
        np.testing.assert_allclose(
            found.weight.T, entry[f"Wq64_{tag}"], rtol=FLOAT64_RTOL, atol=FLOAT64_RTOL, err_msg=tag
        )
        np.testing.assert_allclose(found.loss, entry[f"loss_{tag}"], rtol=FLOAT32_RTOL, err_msg=tag)


@checks("tasd")
def terms_and_residuals(entry: Entry) -> None:
    patterns = [f"{n}:{m}" for n, m in entry["pattern"]]
    series = decompose(entry["A"], patterns)
    entry.equals("terms", np.stack(series.terms))
    entry.equals("residual_norm", np.array(series.residual_norms))
    assert (np.count_nonzero(entry["terms"], axis=0) <= 1).all()
    kept, sizes = entry["pattern"].T
    if len(set(sizes)) == 1:
        whole = magnitude_mask(entry["A"], f"{min(kept.sum(), sizes[0])}:{sizes[0]}")
        np.testing.assert_array_equal(series.sum(), np.where(whole, entry["A"], 0))
