"""What every recipe gives the optimizer, against central differences of what the recipe defines, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from nmsim.sparsity.parts import Choice, Decay, Sigmoid
from nmsim.sparsity.quantize import fake_quantize
from nmsim.sparsity.recipe import Recipe, all_recipes, get_recipe
from nmsim.specfile import read_text, validate
from nmsim.train.layers.base import Parameter, Run
from nmsim.train.layers.conv import Conv2d
from nmsim.train.layers.linear import Linear, Weighted
from nmsim.train.precision import PRECISIONS
from nmsim.train.products import Products
from nmsim.train.recipes.execution import Execution
from nmsim.workloads.model import Model
from nmsim.workloads.modelfile import ModelFile

Array = np.ndarray
STEPS = 20
EPS = 2e-7
POINTS = 24
RTOL, ATOL = 1e-6, 1e-6
"""Losses of about 100 have rounding of 1e-14, over EPS 5e-8; the steepest function, PDP's sigmoid with tau 1e-4, has a
curvature of (2 w EPS / tau)² / 6, which is 2e-7 for w of 1/2."""

NET = """
kind: workload
name: net
source: test
sequence: {tokens: {length: 6}}
layers:
  - {type: conv, name: conv, in: 8, out: 8, kernel: 3, padding: 1, input: 4, bias: false}
  - {type: linear, name: linear, in: 8, out: 12}
"""

VARIANTS: dict[str, dict[str, Any]] = {
    "pdp, warm": {"base": "pdp", "soft": {"tau": 0.02}},
    "pdp_channels, warm": {"base": "pdp_channels", "soft": {"tau": 0.02}},
    "powerprop, cubed": {"base": "powerprop", "power": 3.0},
    "srste, strong": {"base": "srste", "decay": 0.3},
    "srste, int8": {"base": "srste", "decay": 0.3, "quantize": {"format": "int8"}},
    "static, int4": {"base": "static", "quantize": {"format": "int4"}},
    "maskllm, then hard": {"base": "maskllm_joint", "start": 4, "soft": {"end": 12, "regularizer": 0.3}},
    "step": {"base": "step", "start": 6},
}
ASKED: dict[str, Any] = {recipe.name: recipe.name for recipe in all_recipes() if recipe.trains} | VARIANTS


def pattern_of(recipe: Recipe) -> str:
    if not recipe.prunes:
        return "dense"
    return "unstructured:0.2" if recipe.growth or getattr(recipe.soft, "channels", False) else "2:4"


def lively(asked: Any) -> Any:
    """What is asked for, with masks that grow often enough for the run."""
    return {"base": asked, "growth": {"every": 4}} if isinstance(asked, str) and get_recipe(asked).growth else asked


class Bench:
    """A layer in double precision at one step of a run, with the loss sum(R y²) / 2 of its output y."""

    def __init__(self, asked: Any, layer: str, step: int):
        asked = lively(asked)
        self.recipe, self.name, self.step = get_recipe(asked), layer, step
        rng = np.random.default_rng(7)
        model = Model.build(validate(ModelFile, read_text(NET)), batch=2)
        self.layer: Weighted = (
            Conv2d("conv", 8, 8, 3, rng, padding=1) if layer == "conv" else Linear("linear", 8, 12, rng)
        )
        self.x = rng.standard_normal((2, 4, 4, 8) if layer == "conv" else (12, 8))
        self.layer.weight.value = rng.standard_normal(self.layer.weight.value.shape) / 4
        self.execution = Execution.of(model, asked, pattern_of(self.recipe), steps=STEPS, seed=3)
        parameters = {"conv": Conv2d("conv", 8, 8, 3, rng).weight, "linear": Linear("linear", 8, 12, rng).weight}
        self.execution.attach(parameters | {layer: self.layer.weight})
        self.execution.begin_step(step)
        self.weighting = rng.standard_normal(self.forward().shape)
        for parameter in self.execution.parameters():
            parameter.value = parameter.value.astype(np.float64)
        self.learned = self.layer.weight.value.copy()

    def forward(self, weight: Array | None = None) -> Array:
        """The output with the recipe, or of a layer without one that has this weight."""
        run = self.run if weight is None else Run(Products(PRECISIONS["fp64"]))
        before = self.layer.weight.value
        self.layer.weight.value = before if weight is None else weight
        output = self.layer.forward(run, self.x)
        self.layer.weight.value = before
        return output

    @property
    def run(self) -> Run:
        return Run(Products(PRECISIONS["fp64"]), self.execution)

    def loss(self, weight: Array | None = None) -> float:
        return float(np.sum(self.weighting * self.forward(weight) ** 2)) / 2

    def delivered(self) -> Array:
        """The gradient that the layer sets for its weight."""
        run = self.run
        output = self.layer.forward(run, self.x)
        self.layer.backward(run, self.weighting * output, (True,))
        assert self.layer.weight.grad is not None
        return self.layer.weight.grad.copy()

    @property
    def mask(self) -> Array:
        """What FF keeps."""
        return self.execution.masks[self.name, "FF"]


def differences(value: Callable[[Array], float], array: Array, places: list[tuple[int, ...]]) -> Array:
    """Central differences at some places."""
    found = []
    for place in places:
        moved = [array.copy(), array.copy()]
        for copy, sign in zip(moved, (1, -1), strict=True):
            copy[place] += sign * EPS
        found.append((value(moved[0]) - value(moved[1])) / (2 * EPS))
    return np.array(found)


def places_of(array: Array) -> list[tuple[int, ...]]:
    flat = np.random.default_rng(1).permutation(array.size)[:POINTS]
    return [tuple(int(i) for i in np.unravel_index(f, array.shape)) for f in flat]


def beta(decay: Decay, start: int, step: int) -> float:
    """The formulas of the recipe's description, for shares that all lie at whole steps of 20."""
    assert isinstance(decay.end, float)
    t = (step - start) / (round(decay.end * STEPS) - start)
    return {"linear": 1 - t, "cosine": (1 + np.cos(np.pi * t)) / 2, "exponential": decay.floor**t}[decay.shape]


def threshold(bench: Bench, sigmoid: Sigmoid, start: int, step: int) -> Array | float:
    """Half-way between the weakest kept and the strongest pruned |w|, of 2:4 groups along in or of whole channels."""
    weight = bench.learned
    if not sigmoid.channels:
        columns = np.sort(np.abs(np.moveaxis(weight, -2, -1)).reshape(-1, 2, 4), axis=-1)
        middle = (columns[..., 1] + columns[..., 2]) / 2
        shape = np.moveaxis(weight, -2, -1).shape
        return np.moveaxis(np.repeat(middle, 4, axis=-1).reshape(shape), -1, -2)
    sizes = np.sort(np.sqrt(np.mean(weight**2, axis=tuple(range(weight.ndim - 1)))))[::-1]
    assert isinstance(sigmoid.ramp, float)
    ramp = min(1.0, (step - start + 1) / (round(sigmoid.ramp * STEPS) - start))
    kept = max(1, int((1 - (1 - density(bench)) * ramp) * len(sizes)))
    return (sizes[kept - 1] + (sizes[kept] if kept < len(sizes) else 0.0)) / 2


def density(bench: Bench) -> float:
    found = bench.execution.course.placed[bench.execution.span][bench.name, "FF"][1]
    return found.density


def forward_function(bench: Bench) -> Callable[[Array], Array]:
    """The weight of FF as a function of what is learned, as the recipe defines it; masks and thresholds constant."""
    recipe, start, span = bench.recipe, bench.execution.timeline.start, bench.execution.span
    power = recipe.power

    def weight(theta: Array) -> Array:
        return np.sign(theta) * np.abs(theta) ** power

    forward = recipe.prune("FF")
    if (
        not span.prunes
        or forward is None
        or (bench.name, "FF") not in bench.execution.course.placed[bench.execution.span]
    ):
        return weight
    soft = recipe.soft if span.soft else None
    if isinstance(soft, Decay):
        share = bench.mask + (1 - bench.mask) * beta(soft, start, bench.step)
        return lambda theta: weight(theta) * share
    if isinstance(soft, Sigmoid):
        t = threshold(bench, soft, start, bench.step)

        def squeezed(w: Array) -> Array:
            axes = tuple(range(w.ndim - 1))
            square = np.mean(w**2, axis=axes, keepdims=True) if soft.channels else w**2
            return w * expit((square - t**2) / soft.tau)

        return squeezed
    if isinstance(soft, Choice):
        values = bench.execution.forward_weight(bench.name, np.ones_like(bench.learned))[0].copy()
        return lambda theta: weight(theta) * values
    return lambda theta: weight(theta) * bench.mask


def moments(asked: Any) -> list[int]:
    """A step in the middle of every span of the run."""
    recipe = get_recipe(asked)
    if recipe.start == "auto":
        return []
    model = Model.build(validate(ModelFile, read_text(NET)), batch=2)
    line = Execution.of(model, lively(asked), pattern_of(recipe), steps=STEPS).timeline
    return [span.first_step + span.steps // 2 for span in line.spans if span.steps]


CASES = [(name, step) for name, asked in ASKED.items() for step in moments(asked)]


@pytest.mark.parametrize("layer", ["linear", "conv"])
@pytest.mark.parametrize(("name", "step"), CASES)
def test_forward_weight_is_the_stated_function(name: str, step: int, layer: str):
    """In every span: W, W times mask, W times its soft values, a power of theta; rounded last where it is rounded."""
    bench = Bench(ASKED[name], layer, step)
    used = bench.execution.forward_weight(layer, bench.learned.copy())[0].copy()
    expected = forward_function(bench)(bench.learned)
    if bench.recipe.quantize:
        expected = fake_quantize(expected, bench.recipe.quantize.format, axis=-1)
    np.testing.assert_allclose(used, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("layer", ["linear", "conv"])
@pytest.mark.parametrize(("name", "step"), CASES)
def test_weight_gradient(name: str, step: int, layer: str):
    """`autodiff` and `masked`, and every step before the start: differences of loss(forward function(learned)).
    `ste`: differences of the loss at the weight that FF used, plus lambda (1 - mask) W where masks are hard."""
    bench = Bench(ASKED[name], layer, step)
    recipe, span, function = bench.recipe, bench.execution.span, forward_function(bench)
    delivered, places = bench.delivered(), places_of(bench.learned)
    found = np.array([delivered[place] for place in places])
    at = function(bench.learned)
    if recipe.quantize:
        at = fake_quantize(at, recipe.quantize.format, axis=-1)
    if recipe.gradient == "ste" and span.prunes:
        expected = differences(bench.loss, at, places)
        if recipe.decay and recipe.prune("FF"):
            dropped = recipe.decay * (1 - bench.mask) * bench.learned
            expected = expected + np.array([dropped[place] for place in places])
    elif recipe.quantize:
        plain = differences(bench.loss, at, places)
        expected = plain * np.array([bench.mask[place] for place in places])
    else:
        expected = differences(lambda theta: bench.loss(function(theta)), bench.learned, places)
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("recipe", ["srste", "bdwp", "bimask", "transposable"])
def test_the_decay_of_pruned_weights_is_seen(recipe: str):
    """Of two runs that differ in lambda only, gradients differ by the difference times W where FF prunes, else not."""
    weak, strong = (Bench({"base": recipe, "decay": decay}, "linear", 3) for decay in (0.0, 0.25))
    difference = strong.delivered() - weak.delivered()
    np.testing.assert_array_equal(weak.mask, strong.mask)
    np.testing.assert_allclose(difference, 0.25 * np.where(weak.mask, 0, weak.learned), rtol=1e-12, atol=1e-15)
    assert np.count_nonzero(difference) == difference.size // 2


@pytest.mark.parametrize("layer", ["linear", "conv"])
@pytest.mark.parametrize("step", [4, 7, 11])
def test_gradient_of_logits(step: int, layer: str):
    """MaskLLM: d/d logits of loss(W mask(logits)) - lambda (1 - passed) sum((W mask(logits))²), the noise held; the
    soft phase lasts from step 4 to 12."""
    bench = Bench(VARIANTS["maskllm, then hard"], layer, step)
    bench.delivered()
    (logits,) = [p for p in bench.execution.parameters() if p.name == f"{layer}.logits"]
    assert logits.grad is not None
    gradient, strength = logits.grad.copy(), 0.3 * (1 - (step - 4) / 8)

    def objective(values: Array) -> float:
        before, logits.value = logits.value, values
        used = bench.execution.forward_weight(layer, bench.learned.copy())[0].copy()
        logits.value = before
        return bench.loss(used) - strength * float(np.sum(used**2))

    places = places_of(logits.value)
    expected = differences(objective, logits.value.copy(), places)
    largest = np.abs(expected).max()
    assert largest > 1e-3
    np.testing.assert_allclose([gradient[p] for p in places], expected, rtol=1e-5, atol=1e-7 * largest)


@pytest.mark.parametrize("needs", [True, False])
def test_gradients_of_adapters(needs: bool):
    """SLoPe's y = x (W mask) + x L R / rank: differences in L and in R, R moved away from its zeros; dx too."""
    bench = Bench({"base": "slope", "adapters": {"start": "50 %"}}, "linear", 15)
    adapter = bench.execution.adapter("linear")
    assert adapter is not None
    rng = np.random.default_rng(5)
    for parameter in adapter.parameters():
        parameter.value = rng.standard_normal(parameter.value.shape)
    run = bench.run
    output = bench.layer.forward(run, bench.x)
    down, up = (p.value for p in adapter.parameters())
    np.testing.assert_allclose(
        output, bench.x @ (bench.learned * bench.mask) + bench.x @ down @ up / 4, rtol=1e-12, atol=1e-12
    )
    (dx,) = bench.layer.backward(run, bench.weighting * output, (needs,))
    for parameter in adapter.parameters():
        assert parameter.grad is not None
        places = places_of(parameter.value)
        expected = differences(lambda values, p=parameter: _with(bench, p, values), parameter.value.copy(), places)
        np.testing.assert_allclose([parameter.grad[p] for p in places], expected, rtol=RTOL, atol=ATOL)
    if needs:
        # BP multiplies by the weight pruned twice, so the input gradient is that of this weight and of the adapter.
        twice = bench.execution.masks["linear", "BP"] & bench.mask
        back = bench.weighting * output
        assert dx is not None
        np.testing.assert_allclose(
            dx, back @ (bench.learned * twice).T + back @ (down @ up).T / 4, rtol=1e-12, atol=1e-12
        )
    else:
        assert dx is None


def _with(bench: Bench, parameter: Parameter, values: Array) -> float:
    before, parameter.value = parameter.value, values
    loss = bench.loss()
    parameter.value = before
    return loss


@pytest.mark.parametrize("recipe", ["rigl", "srigl", "srigl_fixed"])
@pytest.mark.parametrize("layer", ["linear", "conv"])
def test_growth_is_by_the_dense_gradient(recipe: str, layer: str):
    """At an update the gradient kept for growing is that of all weights at the weight FF used, pruned ones included;
    what the optimizer gets is zero for pruned weights."""
    bench = Bench({"base": recipe, "growth": {"every": 4}}, layer, 3)
    delivered, dense = bench.delivered(), bench.execution._dense_gradients[layer]
    places = places_of(dense)
    expected = differences(bench.loss, bench.learned * bench.mask, places)
    np.testing.assert_allclose([dense[p] for p in places], expected, rtol=RTOL, atol=ATOL)
    np.testing.assert_array_equal(delivered, dense * bench.mask)
    assert np.count_nonzero(dense[~bench.mask]) == np.count_nonzero(~bench.mask)


@pytest.mark.parametrize("layer", ["linear", "conv"])
@pytest.mark.parametrize(("name", "step"), CASES)
def test_input_gradient(name: str, step: int, layer: str):
    """dx is dy times the transpose of the weight that BP uses (for one-mask recipes, the weight that FF used): the
    differences in x of <dy, y> with that weight. Where dy is pruned, 2 of 4 output channels are kept of it."""
    bench = Bench(ASKED[name], layer, step)
    run = bench.run
    output = bench.layer.forward(run, bench.x)
    used = bench.execution.forward_weight(layer, bench.layer.weight.value)[0].copy()
    dy = bench.weighting * output
    (dx,) = bench.layer.backward(run, dy.copy(), (True,))
    back = backward_weight(bench, used)
    if (prune := bench.recipe.prune("BP")) and prune.operand == "gradient":
        dy = bench.execution.backward_gradient(layer, dy)[0].copy()
        assert (np.count_nonzero(dy.reshape(-1, 4), axis=-1) == 2).all()
    places = places_of(bench.x)
    x = bench.x

    def bilinear(moved: Array) -> float:
        bench.x = moved
        value = float(np.vdot(bench.forward(back), dy))
        bench.x = x
        return value

    assert dx is not None
    np.testing.assert_allclose([dx[p] for p in places], differences(bilinear, x.copy(), places), rtol=RTOL, atol=ATOL)


def backward_weight(bench: Bench, used: Array) -> Array:
    """The weight of BP by the recipe's description."""
    recipe = bench.recipe
    prune = recipe.prune("BP") if bench.execution.span.prunes else None
    if prune is None or prune.operand == "gradient":
        return used
    mask = bench.mask if prune.mask == "transposable" else bench.execution.masks[bench.name, "BP"]
    return (used if prune.within else bench.learned) * mask
