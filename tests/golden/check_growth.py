"""RigL and SRigL updates, their schedule and distribution, and the condensed form against the reference vectors."""

from __future__ import annotations

import numpy as np

from nmsim.sparsity.condensed import KERNELS, condense
from nmsim.sparsity.distribution import erk
from nmsim.sparsity.growth import carry_over, drop_fraction, rigl_update, srigl_update
from tests.golden.entries import Entry, checks


def layers(entry: Entry) -> list[str]:
    """The tags of the layers that the entry holds."""
    found = entry.tags("W_before")
    assert found
    return found


def layer(entry: Entry, tag: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight, mask and dense gradient of a layer before its update."""
    return entry[f"W_before_{tag}"], entry[f"mask_before_{tag}"], entry[f"dense_grad_{tag}"]


def compare(entry: Entry, tag: str, mask: np.ndarray) -> None:
    """The mask and the weights that it carries over, exactly."""
    weight, before, _ = layer(entry, tag)
    np.testing.assert_array_equal(mask, entry[f"mask_after_{tag}"] != 0, err_msg=tag)
    np.testing.assert_array_equal(carry_over(weight, before, mask), entry[f"W_after_{tag}"], err_msg=tag)


@checks("s?rigl_update")
def schedule_and_distribution(entry: Entry) -> None:
    params = entry.params
    entry.equals("drop_fraction", np.array(drop_fraction(int(entry["step"]), params["T_end"], params["alpha"])))
    assert params["distribution"] == "erk"
    shapes = list(zip(params["dims"][1:], params["dims"][:-1], strict=True))
    entry.equals("erk_sparsity", 1 - erk(shapes, params["dense_allocation"], whole_zeros=True))


@checks("rigl_update")
def rigl_masks_and_weights(entry: Entry) -> None:
    for tag in layers(entry):
        compare(entry, tag, rigl_update(*layer(entry, tag), float(entry["drop_fraction"])))


@checks("srigl_update")
def srigl_masks_weights_and_ablated_neurons(entry: Entry) -> None:
    base = "sparse" if entry.params["use_sparse_const_fan_in_for_ablation"] else "dense"
    for tag in layers(entry):
        weight, before, gradient = layer(entry, tag)
        budget = int(weight.size * (1 - entry["erk_sparsity"][int(tag)]))
        mask, ablated = srigl_update(
            weight,
            before,
            gradient,
            float(entry["drop_fraction"]),
            budget,
            gamma=entry.params["gamma_sal"],
            salience_base=base,
        )
        compare(entry, tag, mask)
        np.testing.assert_array_equal(np.flatnonzero(ablated), np.sort(entry[f"ablated_{tag}"]), err_msg=tag)


@checks("condensed_linear")
def condensed_form_and_product(entry: Entry) -> None:
    form = condense(entry["W"])
    np.testing.assert_array_equal(form.active, entry["active"])
    np.testing.assert_array_equal(form.indices, entry["idx"])
    np.testing.assert_array_equal(form.values, entry["values"])
    np.testing.assert_array_equal(form.dense(), entry["W"])
    for kernel in KERNELS:
        entry.equals("y", form.matmul(entry["x"], entry["bias"], kernel=kernel))
