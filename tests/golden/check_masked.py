"""Recipes that mask weights or gradients: real layers run forward and backward, compared with published functions.

The vectors hold weights in PyTorch's layout, [out, in] and [out, in, kh, kw]. A weight gradient G that a vector
prescribes is produced by a batch of unit inputs: x = 1 and dy = G give dW = xᵀ dy = G exactly.
"""

from __future__ import annotations

import numpy as np
import pytest

from nmsim.sparsity import structure
from nmsim.sparsity.recipe import Recipe, get_recipe
from nmsim.train.layers.base import Run
from nmsim.train.layers.conv import Conv2d
from nmsim.train.layers.linear import Linear
from nmsim.train.products import Products
from nmsim.train.recipes.execution import Execution
from tests.golden.entries import Entry, checks


def run(recipe: str | Recipe, pattern: str) -> tuple[Run, Execution]:
    """A context in which every layer of the test, "1", "2" or "x", is pruned."""
    execution = Execution(recipe, pattern, dict.fromkeys("12x", ("FF", "BP")))
    return Run(Products(), execution), execution


def linear(weight: np.ndarray, name: str = "x") -> Linear:
    """A layer with PyTorch's weight [out, in]."""
    layer = Linear(name, weight.shape[1], weight.shape[0], np.random.default_rng(0))
    layer.weight.value = weight.T.copy()
    layer.bias.value = np.zeros(weight.shape[0], weight.dtype)
    return layer


def conv(weight: np.ndarray, padding: int = 0) -> Conv2d:
    """A layer with PyTorch's weight [out, in, kh, kw]."""
    out, inputs, size, _ = weight.shape
    layer = Conv2d("x", inputs, out, size, np.random.default_rng(0), padding=padding)
    layer.weight.value = hwio(weight)
    return layer


def hwio(oihw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(oihw.transpose(2, 3, 1, 0))


def nhwc(nchw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(nchw.transpose(0, 2, 3, 1))


def with_decay(recipe: str, decay: float) -> Recipe:
    return get_recipe(recipe).with_(decay=decay)


def check_prescribed(recipe: Recipe, pattern: str, weight: np.ndarray, mask: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Forward on unit inputs gives W·mask, BP multiplies by the same; returns the weight gradient for G, [out, ...]."""
    context, execution = run(recipe, pattern)
    flat_mask, flat_weight = (_rows(x) for x in (mask, weight))
    if weight.ndim == 2:
        layer, shape = linear(weight), (weight.shape[1],)
    else:
        layer, shape = conv(weight), (*weight.shape[2:], weight.shape[1])
    inputs = flat_weight.shape[0]
    x = np.eye(inputs, dtype=weight.dtype).reshape(inputs, *shape)
    dy = _rows(g).reshape((inputs, -1) if weight.ndim == 2 else (inputs, 1, 1, -1))
    y = layer.forward(context, x)
    np.testing.assert_array_equal(y.reshape(inputs, -1), flat_weight * flat_mask)
    (dx,) = layer.backward(context, dy, (True,))
    expected = _rows(g) @ (flat_weight * flat_mask).T
    np.testing.assert_allclose(dx.reshape(inputs, inputs), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(execution.masks["x", "FF"].reshape(flat_mask.shape), flat_mask)
    dw = layer.weight.grad
    return dw.T if weight.ndim == 2 else dw.transpose(3, 2, 0, 1)


def _rows(weight: np.ndarray) -> np.ndarray:
    """PyTorch's weight as the layer's matrix [kh·kw·in, out]."""
    return weight.T if weight.ndim == 2 else hwio(weight).reshape(-1, weight.shape[0])


@checks("srste_linear")
def check_srste_linear(entry: Entry) -> None:
    """Published `Sparse` of NM-sparsity: W·mask forward, G + decay·(1 - mask)·W backward."""
    recipe = with_decay("srste", entry.params["decay"])
    for tag, pattern in entry.patterns("mask"):
        weight, mask = entry[f"W_{tag}"], entry[f"mask_{tag}"]
        np.testing.assert_array_equal(entry[f"Ws_{tag}"], weight * mask)
        entry.equals(f"gradW_{tag}", check_prescribed(recipe, pattern, weight, mask, entry[f"G_{tag}"]))


@checks("srste_linear")
def check_ste_gradient_is_the_upstream_gradient(entry: Entry) -> None:
    for tag, pattern in entry.patterns("mask"):
        weight, mask, g = (entry[f"{name}_{tag}"] for name in ("W", "mask", "G"))
        np.testing.assert_array_equal(check_prescribed(get_recipe("ste"), pattern, weight, mask, g), g)


@checks("srste_conv_nhwc")
def check_srste_conv(entry: Entry) -> None:
    """Published `Sparse_NHWC`. Its groups straddle kernel positions where m does not divide the input channels; a
    plan leaves such a layer dense, and only the mask of flattened groups is compared."""
    recipe = with_decay("srste", entry.params["decay"])
    checked = 0
    for name in (name.removeprefix("nm_") for name in entry.arrays if name.startswith("nm_")):
        n, m = entry[f"nm_{name}"]
        weight = entry[f"W_{name}"]
        flat = structure.flat_mask(weight.transpose(0, 2, 3, 1), n, m).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(flat, entry[f"mask_{name}"])
        if weight.shape[1] % m:
            expected = entry[f"G_{name}"] + entry.params["decay"] * (1 - flat) * weight
            entry.equals(f"gradW_{name}", expected)
            continue
        gradient = check_prescribed(recipe, f"{n}:{m}", weight, entry[f"mask_{name}"], entry[f"G_{name}"])
        entry.equals(f"gradW_{name}", gradient)
        checked += 1
    assert checked


@checks("aqt_srste")
def check_aqt_srste(entry: Entry) -> None:
    """The flax module of AQT, whose kernels are [in, out] and whose default groups run along the last axis, out.

    Given to a layer as [out, in] its groups run along in; the effective decay is the class default.
    """
    recipe = with_decay("srste", entry.params["effective_lambda"])
    for tag, pattern in entry.patterns("mask"):
        np.testing.assert_allclose(entry[f"Ws_{tag}"], entry["W"] * entry[f"mask_{tag}"], rtol=entry.rtol)
        gradient = check_prescribed(recipe, pattern, entry["W"], entry[f"mask_{tag}"], entry["G"])
        entry.equals(f"gradW_{tag}", gradient)


@checks("asp_m4n2_1d")
def check_asp_masks(entry: Entry) -> None:
    """`create_mask(., "m4n2_1d")` of apex on linear and convolution weights; then gradients and weights are masked."""
    for name in ("linear", "conv2d"):
        weight, mask = entry[f"W_{name}"].astype(np.float64), entry[f"mask_{name}"]
        g = np.random.default_rng(0).standard_normal(weight.shape)
        gradient = check_prescribed(get_recipe("asp").starting_at(0), "2:4", weight, mask, g)
        np.testing.assert_array_equal(gradient, g * mask)
    for name, weight in (("conv1d", entry["W_conv1d"].transpose(2, 1, 0)), ("vec", entry["W_vec"][:, None])):
        used, _ = run("static", "2:4")[1].forward_weight("x", weight.copy())
        mask = entry[f"mask_{name}"]
        np.testing.assert_array_equal(used != 0, mask.transpose(2, 1, 0) if mask.ndim == 3 else mask[:, None])


@checks("bdwp_linear")
def check_bdwp_linear(entry: Entry) -> None:
    """SR-STE, SDWP, SDGP and BDWP on one linear layer.

    `srste_hw` (a dense weight in BP) is not in the list: the file gives it only to expose the difference, no
    reference code does it.
    """
    pattern = f"{entry.params['N']}:{entry.params['M']}"
    for name in ("dense", "srste", "sdwp", "sdgp", "bdwp"):
        recipe = get_recipe(name)
        recipe = recipe.with_(decay=entry.params["lam"]) if recipe.decay else recipe
        context, execution = run(recipe, pattern if recipe.prunes else "dense")
        layer = linear(entry["W"])
        entry.equals(f"Y_{name}", layer.forward(context, entry["X"]))
        (dx,) = layer.backward(context, entry["G"], (True,))
        entry.equals(f"dX_{name}", dx)
        entry.equals(f"dW_{name}", layer.weight.grad.T)
        for stage, mask in (("FF", "mask_ff"), ("BP", "mask_bp")):
            if ("x", stage) in execution.masks:
                np.testing.assert_array_equal(execution.masks["x", stage].T, entry[mask])


@checks("bdwp_conv")
def check_bdwp_conv(entry: Entry) -> None:
    """BDWP, SDGP and its rescaled variant on a convolution with padding."""
    for recipe, dx, dw in (
        ("bdwp", "dX_bdwp", "dW_bdwp"), ("sdgp", "dX_sdgp_max", "dW_dense"),
        ("sdgp_maxnorm", "dX_sdgp_maxnorm", "dW_dense"),
    ):  # fmt: skip
        _check_conv(entry, recipe, dx, dw)


def _check_conv(entry: Entry, recipe: str, dx: str, dw: str) -> None:
    described = get_recipe(recipe)
    described = described.with_(decay=entry.params["lam"]) if described.decay else described
    context, execution = run(described, f"{entry.params['N']}:{entry.params['M']}")
    layer = conv(entry["W"], padding=entry["W"].shape[2] // 2)
    y = layer.forward(context, nhwc(entry["X"]))
    if recipe == "bdwp":
        entry.equals("Y_bdwp", y.transpose(0, 3, 1, 2))
    (found,) = layer.backward(context, nhwc(entry["G"]), (True,))
    entry.equals(dx, found.transpose(0, 3, 1, 2))
    entry.equals(dw, layer.weight.grad.transpose(3, 2, 0, 1))
    for stage, mask in (("FF", "mask_ff"), ("BP", "mask_bp")):
        if ("x", stage) in execution.masks:
            np.testing.assert_array_equal(execution.masks["x", stage], hwio(entry[mask]))


@checks("bdwp_conv")
def check_sdgp_gradients_of_a_convolution(entry: Entry) -> None:
    """The pruned gradient itself, before and after rescaling."""
    for recipe, name in (("sdgp", "G_max"), ("sdgp_maxnorm", "G_maxnorm")):
        execution = run(recipe, f"{entry.params['N']}:{entry.params['M']}")[1]
        pruned, _ = execution.backward_gradient("x", nhwc(entry["G"]))
        np.testing.assert_array_equal(pruned != 0, nhwc(entry["mask_grad"]) != 0)
        entry.equals(name, pruned.transpose(0, 3, 1, 2))


@checks("(srste|ste)_sgd_trajectory")
def check_sgd_trajectory(entry: Entry) -> None:
    """A two-layer ReLU network under torch's SGD: weight decay added to the gradient of every parameter, momentum
    starting at the first gradient, loss the mean of squared errors over batch and outputs."""
    recipe = entry.name.partition("_")[0]
    params = entry.params
    context, execution = run(with_decay(recipe, params["decay"]), f"{params['N']}:{params['M']}")
    first, second = linear(entry["W1_init"], "1"), linear(entry["W2_init"], "2")
    parameters = [*first.parameters(), *second.parameters()]
    velocity = [np.zeros_like(p.value) for p in parameters]
    for i, (x, target) in enumerate(zip(entry["X"], entry["Y"], strict=True)):
        execution.begin_step(i)
        hidden = first.forward(context, x)
        error = second.forward(context, np.maximum(hidden, 0)) - target
        assert np.mean(error**2) == pytest.approx(entry["loss_steps"][i], rel=entry.rtol)
        (dhidden,) = second.backward(context, 2 * error / error.size, (True,))
        first.backward(context, dhidden * (hidden > 0), (False,))
        gradients = [p.grad + params["weight_decay"] * p.value for p in parameters]
        velocity = [params["momentum"] * v + g for v, g in zip(velocity, gradients, strict=True)]
        for parameter, v in zip(parameters, velocity, strict=True):
            parameter.value -= params["lr"] * v
        for name, parameter in zip(("W1", "b1", "W2", "b2"), parameters, strict=True):
            expected = entry[f"{name}_steps"][i]
            np.testing.assert_allclose(parameter.value.T, expected, rtol=entry.rtol, atol=1e-14)
        for mask, layer in (("m1_steps", "1"), ("m2_steps", "2")):
            np.testing.assert_array_equal(execution.masks[layer, "FF"].T, entry[mask][i])
