"""A recipe at work: which weights and gradients the products of a layer get, step by step."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nmsim.errors import ShapeError, UnsupportedError
from nmsim.sparsity.groups import Mask
from nmsim.sparsity.inputs import InputStatistics
from nmsim.sparsity.parts import Choice, Operand, Prune, Stage
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.quantize import fake_quantize
from nmsim.sparsity.recipe import Recipe, get_recipe
from nmsim.sparsity.soft import powerprop_gradient, powerprop_weight
from nmsim.sparsity.timeline import Span, Timeline
from nmsim.train.layers.base import Array, Parameter, Sparsifier
from nmsim.train.layers.linear import Adapter
from nmsim.train.products import Listener
from nmsim.train.recipes import growth
from nmsim.train.recipes.course import ENDLESS, Course, Place
from nmsim.train.recipes.masks import Masks
from nmsim.train.recipes.rules import AXES, add_decay, rescaled, search_size, stream
from nmsim.train.recipes.search import needs_inputs, search_gradient
from nmsim.train.recipes.soft import ChoiceForm, Form, Moment, make_form
from nmsim.workloads import recipe_ops
from nmsim.workloads.model import Model
from nmsim.workloads.search_ops import growth_ops

EXECUTABLE: tuple[tuple[Stage, Operand, str], ...] = (
    ("FF", "weight", "in"), ("BP", "weight", "in"), ("BP", "weight", "out"), ("BP", "gradient", "out"),
)  # fmt: skip


class Execution(Sparsifier):
    """A recipe with its pattern on the layers of a model.

    `pruned` gives for each layer the stages in which it is pruned; layers it does not name stay dense. `groups` are
    the groups of grouped convolutions, 1 where not given. `steps` is the length of the run, of which a recipe may
    take shares. What is random (first masks, noise) is drawn from `seed`, the layer and the step alone.

    `begin_step` says how many updates the weights have had, before a step as before an evaluation. A mask is searched
    at its first use in a span of the run and again at the first use in each further period of `refresh` steps;
    `searches` counts them by layer and stage, and `listener` hears of each as a PRUNE op, except of a mask found
    before training. `masks` holds the weight masks [..., in, out] last found, True where kept; a search makes a new
    array, so that masks taken from it stay as they were.

    Weights and gradients returned live in buffers that the next call for the same layer overwrites. With the
    gradient rule `masked` the weight itself is multiplied by its mask, in place, by every forward pass.
    """

    def __init__(
        self,
        recipe: str | Mapping[str, Any] | Recipe,
        pattern: str | Pattern,
        pruned: Mapping[str, Collection[str]],
        groups: Mapping[str, int] | None = None,
        listener: Listener | None = None,
        steps: int = ENDLESS,
        seed: int = 0,
    ):
        recipe = _executable(get_recipe(recipe))
        course = Course.everywhere(recipe, Pattern.parse(pattern).along(-1), pruned, steps=steps, groups=groups or {})
        self._begin(course, listener, seed)

    @classmethod
    def of(
        cls, model: Model, recipe: str | Mapping[str, Any] | Recipe, pattern: str | Pattern,
        keep_dense: str | Sequence[str] = (), start: int | float | None = None, listener: Listener | None = None,
        steps: int = ENDLESS, seed: int = 0,
    ) -> Execution:  # fmt: skip
        """The recipe on the layers that the planner would prune; arguments and errors are those of `expand`."""
        recipe = _executable(get_recipe(recipe))
        if start is not None:
            recipe = recipe.starting_at(start)
        globs = [keep_dense] if isinstance(keep_dense, str) else list(keep_dense)
        execution = cls.__new__(cls)
        execution._begin(Course.planned(model, recipe, Pattern.parse(pattern), globs, steps), listener, seed)
        return execution

    def _begin(self, course: Course, listener: Listener | None, seed: int) -> None:
        self.course, self.recipe, self.seed, self.step = course, course.recipe, seed, 0
        self.listener = listener
        self._masks = Masks(course.recipe, course.groups, seed, listener)
        self._adapters = {name: Adapter(name, *s, self._rng(name, 0)) for name, s in course.adapters.items()}
        self._forms: dict[str, Form] = {}
        self._used: dict[Place, Array] = {}
        self._buffers: dict[object, Array] = {}
        self._sizes: dict[str, int] = {}
        self._weights: dict[str, Array] = {}
        self._dense_gradients: dict[str, Array] = {}
        self._judged: dict[str, Array] | None = None

    @property
    def masks(self) -> dict[Place, Mask]:
        """The weight masks last found."""
        return self._masks.kept

    @property
    def searches(self) -> Counter[Place]:
        """How often each mask was searched."""
        return self._masks.searches

    @property
    def timeline(self) -> Timeline:
        """The spans of the run."""
        return self.course.timeline

    @property
    def prunes_anything(self) -> bool:
        """Whether any layer has an operand that the recipe prunes."""
        return bool(self.course.places)

    @property
    def span(self) -> Span:
        """What is in force at the present step."""
        return self.timeline.at(self.step)

    @property
    def phase(self) -> str:
        """`sparse` while products are, else `dense`."""
        return "sparse" if self.span.is_sparse else "dense"

    def parameters(self) -> Iterator[Parameter]:
        """What the recipe learns beside the weights: logits of choices, adapters."""
        for layer in sorted(self._forms):
            yield from self._forms[layer].parameters()
        for name in sorted(self._adapters):
            yield from self._adapters[name].parameters()

    def snapshot(self) -> Execution:
        """The recipe as it stands, for an evaluation: searches made with it leave this one as it is."""
        other = copy.copy(self)
        other.listener, other._masks = None, self._masks.snapshot()
        other._used, other._buffers, other._judged = {}, {}, {}
        other._forms = {layer: form.snapshot() for layer, form in self._forms.items()}
        return other

    def begin_step(self, step: int) -> None:
        """The weights have had `step` updates; masks whose period is over are searched at their next use."""
        self.step = step
        if not self.span.soft:
            for form in self._forms.values():
                form.settle()

    def forward_weight(self, layer: str, weight: Array) -> tuple[Array, Pattern | None]:
        """The weight that FF multiplies by: hard masks with their groups along `in`, or soft ones, which are dense."""
        if layer in self.course.powered:
            self._tell(layer, recipe_ops.power(weight.size))
            weight = self._weights[layer] = powerprop_weight(weight, self.recipe.power)
        if (found := self._at(layer, "FF", "weight")) is None:
            return weight, None
        prune, pattern = found
        for row in recipe_ops.shaping(self.recipe, self.span, weight.size):
            self._tell(layer, row)
        if self.span.soft:
            return self._soft(layer, prune, pattern, weight), None
        if self._judged is not None:
            weight = self._judged.setdefault(layer, weight.copy() if layer not in self._judged else weight)
        return self._hard(layer, prune, pattern, weight), pattern

    def _hard(self, layer: str, prune: Prune, pattern: Pattern, weight: Array) -> Array:
        """The weight times its mask, and rounded where the recipe quantises: after the mask, or before its search."""
        place: Place = (layer, "FF")
        rounding = self.recipe.quantize
        if rounding is None:
            return self._masked(place, prune, pattern, weight, weight, self.recipe.gradient == "masked")
        if rounding.order == "quantize_first":
            return self._masked(place, prune, pattern, fake_quantize(weight, rounding.format, axis=-1), weight)
        kept = self._masked(place, prune, pattern, weight, weight)
        self._used[place] = fake_quantize(kept, rounding.format, axis=-1)
        return self._used[place]

    def backward_weight(self, layer: str, weight: Array) -> tuple[Array, Pattern | None, int]:
        """The weight that BP multiplies by, with the axis of its groups: W times its own mask, or the one of FF."""
        used = self._used.get((layer, "FF"))
        if (found := self._at(layer, "BP", "weight")) is not None:
            prune, pattern = found
            axis = AXES[prune.direction]
            if prune.mask == "transposable" and used is not None:
                return used, pattern, axis
            base = used if prune.within and used is not None else weight
            return self._masked((layer, "BP"), prune, pattern, base, weight), pattern, axis
        ff = self._at(layer, "FF", "weight")
        if self.recipe.forward_mask_in_backward and ff is not None and used is not None:
            return used, None if self.span.soft else ff[1], AXES["in"]
        if layer in self.course.powered:
            return self._weights[layer], None, AXES["out"]
        return weight, None, AXES["out"]

    def backward_gradient(self, layer: str, gradient: Array) -> tuple[Array, Pattern | None]:
        """The gradient times its mask, searched at every call; rescaled if the recipe says so."""
        if (found := self._at(layer, "BP", "gradient")) is None:
            return gradient, None
        prune, pattern = found
        groups = self.course.groups.get(layer, 1)
        rng = self._rng(layer, self.step) if prune.mask == "random" else None
        mask = search_gradient(gradient, pattern, groups, rng)
        length = gradient.shape[-1] // groups
        size = gradient.size // length, length
        self._masks.tell((layer, "BP"), prune, pattern, self.step, *size)
        pruned = np.multiply(gradient, mask, out=self._buffer((layer, "gradient"), gradient))
        return rescaled(pruned, gradient) if self.recipe.rescale else pruned, pattern

    def weight_gradient(self, layer: str, weight: Array, gradient: Array) -> Array:
        """The gradient by the recipe's rule, written over `gradient`; unchanged where FF did not prune the weight."""
        if self._at(layer, "FF", "weight") is not None:
            gradient = self._ruled(layer, weight, gradient)
        if layer in self.course.powered:
            gradient = powerprop_gradient(weight, self.recipe.power, gradient)
        return gradient

    def order(self, layer: str, stage: str) -> Array | None:
        """The order of channels along which the groups of the layer's weight run, None where it is their own."""
        own = stage == "BP" and self._at(layer, "BP", "weight") is not None
        return self._masks.finder.orders.get((layer, "BP" if own else "FF"))

    def weight_dtype(self, layer: str) -> str:
        """The type of a quantised weight."""
        quantised = self.recipe.quantize is not None and self._at(layer, "FF", "weight") is not None
        return recipe_ops.weight_dtype(self.recipe) if quantised else ""

    def adapter(self, layer: str) -> Adapter | None:
        """The low-rank adapter that is added to the layer in this step."""
        return self._adapters.get(layer) if self.span.adapters else None

    def _ruled(self, layer: str, weight: Array, gradient: Array) -> Array:
        if self.span.soft:
            for row in recipe_ops.shaping_gradient(self.recipe, self.span, weight.size):
                self._tell(layer, row)
            return self._forms[layer].gradient(gradient)
        if self.course.grows_after(self.step):
            self._dense_gradients[layer] = gradient.copy()
        if self.recipe.gradient != "ste":
            return np.multiply(gradient, self.masks[layer, "FF"], out=gradient)
        if self.recipe.decay:
            used, spare = self._used[layer, "FF"], self._buffer(("decay", weight.shape), weight)
            if self.recipe.quantize:
                used = weight * self.masks[layer, "FF"]
            add_decay(gradient, weight, used, self.recipe.decay, spare)
        return gradient

    def attach(self, parameters: Mapping[str, Parameter]) -> None:
        """Make what the recipe keeps beside the weights: logits of choices, and the first mask of a growing one.

        The weights of a mask that grows from the first step on start anew, as if each neuron had no inputs but those
        kept; one that starts late keeps the largest weights that it finds.
        """
        self._sizes = {layer: parameter.value.size for layer, parameter in parameters.items()}
        for layer, _, pattern in self.course.forward():
            weight = parameters[layer]
            if isinstance(self.recipe.soft, Choice):
                shape = weight.value.shape
                self._forms[layer] = ChoiceForm(self.recipe.soft, layer, shape, pattern, self._rng(layer, -1))
            if self.recipe.growth and not self.timeline.start:
                place: Place = (layer, "FF")
                rng = self._rng(layer, -1)
                self._masks.put(place, growth.first_mask(weight.value.shape, pattern, rng), 0, pattern)
                growth.start_anew(weight.value, self.masks[place], rng)

    def freezes_weights(self) -> bool:
        """Whether nothing but what the recipe itself learns is updated in this step."""
        return recipe_ops.freezes(self.recipe, self.span)

    def added_ops(self, layer: str) -> float:
        """Arithmetic that the recipe adds to the update of the layer's weight in this step."""
        if self.freezes_weights():
            return 0.0
        ops = recipe_ops.gradient_ops(self.recipe, self.span) if self._at(layer, "FF", "weight") else 0
        ops += recipe_ops.POWER_GRADIENT_OPS if layer in self.course.powered else 0
        return float(ops * self._sizes[layer]) if ops else 0.0

    def wants_inputs(self) -> bool:
        """Whether masks that depend on the inputs of layers are searched at this step."""
        first = self.step == self.timeline.start
        return first and any(needs_inputs(self.recipe, prune) for _, prune, _ in self.course.forward())

    def see_inputs(self, statistics: Mapping[str, InputStatistics]) -> None:
        """The statistics of the inputs of layers, for masks that depend on them."""
        self._masks.finder.statistics = dict(statistics)
        for layer, prune, _ in self.course.forward():
            if (found := statistics.get(layer)) is not None:
                inputs = found.inputs
                for row in recipe_ops.calibration_rows(prune, self.recipe, self.timeline.start, found.tokens, inputs):
                    self._tell(layer, row)

    def prune_now(self, parameters: Mapping[str, Parameter]) -> None:
        """Search every mask of FF that is due, after training, and with gradient rule `masked` zero what it drops."""
        listener, self.listener = self.listener, None
        for layer, prune, pattern in self.course.forward():
            used, _ = self.forward_weight(layer, parameters[layer].value)
            if listener is not None and self.order(layer, "FF") is None:
                listener.pruned(layer, "FF", "b", used, pattern, AXES[prune.direction])
        self.listener = listener

    def end_step(self, parameters: Mapping[str, Parameter], forget: Callable[[str, Mask], None]) -> None:
        """After an update: a growing mask drops and grows. `forget(layer, kept)` clears what an optimizer remembers."""
        if self.course.grows_after(self.step):
            for layer, prune, pattern in self.course.forward():
                self._grow(layer, prune, pattern, parameters[layer].value)
                forget(layer, self.masks[layer, "FF"])

    def state(self) -> dict[str, Array]:
        """What a checkpoint keeps: by name: the step, what the run has decided, and the state of masks and forms."""
        state: dict[str, Array] = {"step": np.array(self.step), "start": np.array(self.timeline.start)}
        state["found"] = np.array(json.dumps(self.course.found))
        forms = {layer: form for layer, form in self._forms.items() if isinstance(form, ChoiceForm)}
        state |= {f"primed/{layer}": np.array(form.primed) for layer, form in forms.items()}
        return state | self._masks.state()

    def restore(self, state: Mapping[str, Array]) -> None:
        """Continue from what `state` gave; raises ShapeError for the state of other layers or another recipe."""
        if missing := {"step", "start", "found"} - state.keys():
            raise ShapeError(f"the state of a recipe has no {sorted(missing)[0]!r}")
        self.step, self._used = int(state["step"]), {}
        self.course.restore(int(state["start"]), json.loads(str(state["found"])))
        own = {name for name in state if "/" not in name or name.startswith("primed/")}
        self._masks.restore({name: value for name, value in state.items() if name not in own}, self.course)
        for name in own:
            form = self._forms.get(name.removeprefix("primed/"))
            if isinstance(form, ChoiceForm):
                form.primed = bool(state[name])

    def _at(self, layer: str, stage: Stage, operand: str) -> tuple[Prune, Pattern] | None:
        """What is pruned here at this step, with its pattern."""
        return self.course.at(self.step, layer, stage, operand)

    def _is_due(self, place: Place, prune: Prune, pattern: Pattern) -> bool:
        return self._masks.is_due(place, prune, pattern, self.step, self.timeline.start)

    def _soft(self, layer: str, prune: Prune, pattern: Pattern, weight: Array) -> Array:
        """The weight with soft mask values, by the form that the recipe has."""
        place: Place = (layer, "FF")
        form = self._forms.setdefault(layer, make_form(self.recipe))
        if form.searches and self._is_due(place, prune, pattern):
            self._find(place, prune, pattern, weight)
        if isinstance(form, ChoiceForm) and not form.primed:
            form.prime(self._masks.finder.prior(layer, self.recipe, pattern, weight))
        used = form.weight(self._moment(layer, pattern), weight, self.masks.get(place), self._buffer(place, weight))
        self._used[place] = used
        return used

    def _moment(self, layer: str, pattern: Pattern) -> Moment:
        """What a soft mask depends on at this step."""
        line, step = self.timeline, self.step
        noise = None if self._judged is not None else self._rng(layer, step)
        return Moment(pattern, line.beta(step), line.progress(step), line.target(step, 1.0 - pattern.density), noise)

    def _masked(
        self, place: Place, prune: Prune, pattern: Pattern, base: Array, weight: Array, in_place: bool = False
    ) -> Array:
        """`base` times its mask, in a buffer of its own or in place."""
        if self._is_due(place, prune, pattern):
            self._find(place, prune, pattern, base)
        out = weight if in_place else self._buffer(place, weight)
        self._used[place] = np.multiply(base, self.masks[place], out=out)
        return out

    def _find(self, place: Place, prune: Prune, pattern: Pattern, weight: Array) -> None:
        """Search the mask; one that was learned is read off."""
        form = self._forms.get(place[0])
        if isinstance(form, ChoiceForm):
            self._masks.put(place, form.mask(weight.shape), self.step, pattern)
            size = search_size(weight, prune.direction)
            self._masks.tell(place, prune, pattern, self.step, *size)
        else:
            self._masks.search(place, prune, pattern, weight, self.step, self.timeline.start)

    def _grow(self, layer: str, prune: Prune, pattern: Pattern, weight: Array) -> None:
        place: Place = (layer, "FF")
        rule, gradient = self.recipe.growth, self._dense_gradients.pop(layer)
        assert rule is not None
        share, budget = growth.fraction(rule, self.timeline, self.step + 1), self.course.budgets[layer]
        mask, grown = growth.grow(rule, pattern, budget, weight, self.masks[place], gradient, share)
        size = search_size(weight, prune.direction, self.course.groups.get(layer, 1))
        ops = growth_ops(rule.constant_fan_in, size[0])
        self._masks.tell(place, prune, pattern, self.step, *size, ops)
        self._masks.put(place, mask, self.step + 1, grown)
        if grown != pattern:
            self.course.find(self.step + 1, layer, grown)

    def _tell(self, layer: str, row: Mapping[str, Any]) -> None:
        if self.listener is not None:
            values = dict(row)
            self.listener.op(layer, values.pop("stage"), values.pop("kind"), **values)

    def _rng(self, layer: str, step: int) -> np.random.Generator:
        """What is random of a layer at a step."""
        return stream(self.seed, layer, step + 1)

    def _buffer(self, name: object, like: Array) -> Array:
        """An array like that one under this name, the same at every call as long as the shape is the same."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != like.shape or buffer.dtype != like.dtype:
            buffer = self._buffers[name] = np.empty_like(like)
        return buffer


def _executable(recipe: Recipe) -> Recipe:
    for prune in recipe.prunes:
        if (prune.stage, prune.operand, prune.direction) not in EXECUTABLE:
            what = f"{prune.operand} along {prune.direction!r} in {prune.stage}"
            raise UnsupportedError(f"recipe {recipe.name!r} prunes the {what}, which training does not execute")
    return recipe
