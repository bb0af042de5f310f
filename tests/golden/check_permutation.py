"""Channel permutations of ASP and of Bi-Mask against those of the published searches."""

from __future__ import annotations

import numpy as np

from nmsim.sparsity.bimask import backward_mask, best_permutation, kept_counts
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.permutation import kept_magnitude, search_permutation
from tests.golden.entries import Entry, checks

PATTERN = "2:4"
ESCAPES = 100


@checks("asp_permutation")
def check_magnitudes(entry: Entry) -> None:
    """The magnitudes of the matrix, of its unstructured halves and of the orders that were found."""
    sizes = np.abs(entry["W"].astype(np.float64))
    found = [
        sizes.sum(),
        sizes[magnitude_mask(sizes, "unstructured:0.5")].sum(),
        search_permutation(entry["W"], PATTERN, "random", candidates=0, rng=np.random.default_rng(0)).bound,
        kept_magnitude(entry["W"], PATTERN),
        kept_magnitude(entry["W"], PATTERN, entry["perm_exhaustive8"]),
        kept_magnitude(entry["W"], PATTERN, entry["perm_channel_swap"]),
    ]
    entry.equals("magnitude", np.array(found))


@checks("asp_permutation")
def check_search(entry: Entry) -> None:
    """The searches reach the magnitudes; among equal gains the order is free, so escapes are allowed."""
    for method, reached in zip(("exhaustive", "swap"), entry["magnitude"][4:], strict=True):
        found = search_permutation(entry["W"], PATTERN, method, escapes=ESCAPES, rng=np.random.default_rng(0))
        assert found.magnitude >= reached * (1 - entry.rtol), method


@checks(r"bimask_\d+_\d+")
def check_masks(entry: Entry) -> None:
    """Masks given the order, the order from its seed, and the three products with the masks found here."""
    weight, inputs, upstream = entry["W"], entry["X"], entry["G"]
    pattern = f"{entry.params['N']}:{entry.params['M']}"
    forward = magnitude_mask(weight, pattern, axis=-2)
    backward = backward_mask(weight, forward, pattern, entry["perm"])
    np.testing.assert_array_equal(forward, entry["fmask"])
    np.testing.assert_array_equal(backward, entry["bmask"])
    np.testing.assert_array_equal(backward_mask(weight, forward, pattern), entry["bmask_identity"])
    assert kept_counts(weight, forward, pattern, entry["perm"][None]).tolist() == [entry["bmask"].sum()]
    legacy = np.random.RandomState(entry.params["numpy_seed_for_permutation"])
    drawn = best_permutation(weight, forward, pattern, legacy, entry.params["greedy_num"])
    np.testing.assert_array_equal(drawn, entry["perm"])
    entry.equals("Y", inputs @ (weight * forward))
    entry.equals("gradX", upstream @ (weight * backward).T)
    decay = entry.params["decay"] * np.where(forward, 0, weight)
    entry.equals("gradW", np.einsum("bli,blo->io", inputs, upstream) + decay)
