"""Recipes with a memory: STEP over a run of Adam, and SLoPe with its fixed masks and its adapters."""

from __future__ import annotations

import numpy as np

from nmsim.sparsity.recipe import get_recipe
from nmsim.train.layers.base import Parameter
from nmsim.train.layers.linear import Adapter
from nmsim.train.optim import Adam
from tests.golden.check_masked import linear, run
from tests.golden.entries import Entry, checks


@checks("step_trajectory")
def check_step(entry: Entry) -> None:
    """Dense Adam for `switch_after` steps, then masks with a straight-through gradient and the variance frozen.

    The statistic of AutoSwitch is taken before each dense step; v* is checked where it was frozen. Both variants, v*
    bias-corrected (nmsim's default) and as it is, end in the vector's weights.
    """
    for corrected, weights, masks in (
        (False, "W_steps_uncorrected", "masks"), (True, "W_steps_corrected", "masks_corrected"),
    ):  # fmt: skip
        _check_step(entry, corrected, weights, masks)


def _check_step(entry: Entry, corrected: bool, weights: str, masks: str) -> None:
    p = entry.params
    recipe = get_recipe("step").starting_at(p["switch_after"])
    context, execution = run(recipe, f"{p['N']}:{p['M']}")
    layer = linear(entry["W"])
    adam = Adam((p["beta1"], p["beta2"]), p["eps"])
    adam.corrected = corrected
    for i, (x, target) in enumerate(zip(entry["X"], entry["Y"], strict=True)):
        execution.begin_step(i)
        error = layer.forward(context, x) - target
        layer.backward(context, 2 * error / error.size, (False,))
        if i < p["switch_after"]:
            np.testing.assert_allclose(adam.variance_change([layer.weight]), entry["Z"][i], rtol=entry.rtol)
        if i == p["switch_after"]:
            adam.freeze()
            entry.equals("v_star", adam.state()["x.weight/square"].T)
        adam.step([layer.weight], p["lr"])
        np.testing.assert_allclose(layer.weight.value.T, entry[weights][i], rtol=entry.rtol, atol=1e-14)
        used = execution.masks.get(("x", "FF"))
        np.testing.assert_array_equal(np.ones_like(layer.weight.value) if used is None else used, entry[masks][i].T)


@checks("slope")
def check_slope(entry: Entry) -> None:
    """A fixed row mask in FF, its weight pruned again along out in BP, dW within the row mask; adapters on top."""
    p = entry.params
    context, execution = run("slope", f"{p['N']}:{p['M']}")
    layer = linear(entry["W"])
    entry.equals("Y", layer.forward(context, entry["X"]))
    (dx,) = layer.backward(context, entry["G"], (True,))
    entry.equals("dX", dx)
    entry.equals("dW", layer.weight.grad.T)
    entry.equals("W_R", layer.weight.value.T)
    np.testing.assert_array_equal(execution.masks["x", "FF"].T, entry["mask_row"])
    used, _, _ = execution.backward_weight("x", layer.weight.value)
    entry.equals("W_RC", used.T)
    np.testing.assert_array_equal((used != 0).T, entry["nz_double"])
    adapter = Adapter("x", *entry["W"].T.shape, p["rank"], np.random.default_rng(0))
    adapter.down.weight, adapter.up.weight = (Parameter(n, entry[f"lora_{n}"]) for n in ("left", "right"))
    entry.equals("Y_lora", layer.forward(context, entry["X"]) + adapter.forward(run("dense", "dense")[0], entry["X"]))
