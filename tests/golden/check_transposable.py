"""Transposable masks against the reference vectors: the optimum, the published greedy, ASP's, and min-cost flow."""

from __future__ import annotations

import numpy as np

from nmsim.sparsity.transposable import transposable_mask
from tests.golden.entries import Entry, checks


def compare(entry: Entry, masks: str, values: str, mask: np.ndarray) -> None:
    """The masks exactly, what they keep within the tolerance."""
    np.testing.assert_array_equal(mask, entry[masks] != 0, err_msg=masks)
    entry.equals(values, np.where(mask, np.abs(entry["blocks"]), 0).sum(axis=(1, 2)))


@checks(r"transposable_\d+_\d+")
def optimum_and_greedy(entry: Entry) -> None:
    blocks, pattern = entry["blocks"], f"{entry.params['N']}:{entry.params['M']}"
    compare(entry, "opt_mask", "opt_value", transposable_mask(blocks, pattern, "exact"))
    compare(entry, "apex_greedy_mask", "apex_greedy_value", transposable_mask(blocks, pattern))
    published = transposable_mask(blocks, pattern, consecutive=True, early_stop=True)
    compare(entry, "approx2_mask", "approx2_value", published)


@checks(r"transposable_\d+_\d+")
def flow_is_the_optimum(entry: Entry) -> None:
    if "mcf_mask" in entry.arrays:
        flow = entry["mcf_mask"] != 0
        mask = transposable_mask(entry["blocks"][: len(flow)], f"{entry.params['N']}:{entry.params['M']}", "exact")
        np.testing.assert_array_equal(mask, flow)
