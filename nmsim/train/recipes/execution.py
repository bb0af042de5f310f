"""A recipe at work: which weights and gradients the products of a layer get, step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nmsim.sparsity.groups import Mask
from nmsim.sparsity.parts import Prune
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.quantize import fake_quantize
from nmsim.sparsity.soft import powerprop_gradient, powerprop_weight
from nmsim.train.layers.base import Array, Parameter
from nmsim.train.layers.linear import Adapter
from nmsim.train.recipes import growth
from nmsim.train.recipes.course import Place
from nmsim.train.recipes.progress import Progress
from nmsim.train.recipes.rules import AXES, add_decay, masked, rescaled, search_size
from nmsim.train.recipes.search import prune_gradient
from nmsim.train.recipes.soft import ChoiceForm, Moment, make_form
from nmsim.workloads import recipe_ops
from nmsim.workloads.search_ops import growth_ops


class Execution(Progress):
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
        pruned = prune_gradient(gradient, pattern, self._buffer(("gradient", gradient.shape), gradient), groups, rng)
        length = gradient.shape[-1] // groups
        size = gradient.size // length, length
        self._masks.tell((layer, "BP"), prune, pattern, self.step, *size)
        if self.recipe.rescale and gradient.ndim > 2:
            for row in recipe_ops.rescaling(self.recipe, gradient.size):
                self._tell(layer, row)
            pruned = rescaled(pruned, gradient)
        return pruned, pattern

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
            masked(gradient, self.masks[layer, "FF"], gradient)
            return gradient
        if self.recipe.decay:
            used = self._used[layer, "FF"]
            if self.recipe.quantize:
                used = weight * self.masks[layer, "FF"]
            add_decay(gradient, weight, used, self.recipe.decay)
        return gradient

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
        out = self._used[place] = weight if in_place else self._buffer(place, weight)
        masked(base, self.masks[place], out)
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
