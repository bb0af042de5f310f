"""A recipe at work: when masks are searched, which weights and gradients the products of a layer get."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from nmsim.errors import ShapeError, UnsupportedError
from nmsim.sparsity.groups import Mask
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Operand, Prune, Recipe, Stage, get_recipe
from nmsim.train.layers.base import Array, Sparsifier
from nmsim.train.products import Listener
from nmsim.train.recipes.rules import AXES, add_decay, rescaled, search, search_gradient, search_size
from nmsim.workloads.model import Model
from nmsim.workloads.pruning import Plan, mask_search
from nmsim.workloads.shapes import weight_of

Place = tuple[str, Stage]
"""A layer and the stage whose operand a mask prunes."""

EXECUTABLE: tuple[tuple[Stage, Operand, str], ...] = (
    ("FF", "weight", "in"), ("BP", "weight", "in"), ("BP", "weight", "out"), ("BP", "gradient", "out"),
)  # fmt: skip


class Execution(Sparsifier):
    """A recipe with its pattern on the layers of a model.

    `pruned` gives for each layer the stages in which the plan prunes it; layers it does not name stay dense.
    `groups` are the groups of grouped convolutions, 1 where not given.

    `begin_step` says how many updates the weights have had, before a step as before an evaluation. A mask is searched
    at its first use after `start` and again at the first use in each further period of `refresh` steps; `searches`
    counts them by layer and stage, and `listener` hears of each as a PRUNE op, except of a mask found before
    training. `masks` holds the weight masks [..., in, out] last found, True where kept; a search makes a new array,
    so that masks taken from it stay as they were.

    Weights and gradients returned live in buffers that the next call for the same layer overwrites. With the
    gradient rule `masked` the weight itself is multiplied by its mask, in place, by every forward pass.
    """

    def __init__(
        self,
        recipe: str | Recipe,
        pattern: str | Pattern,
        pruned: Mapping[str, Collection[str]],
        groups: Mapping[str, int] | None = None,
        listener: Listener | None = None,
    ):
        self.recipe = _executable(get_recipe(recipe))
        self.pattern = Pattern.parse(pattern).along(-1)
        self.groups = dict(groups or {})
        self.listener = listener
        self.step = 0
        self.masks: dict[Place, Mask] = {}
        self.searches: Counter[Place] = Counter()
        prunes = [] if self.pattern.is_dense else self.recipe.prunes
        self._prunes = {(layer, p.stage): p for layer, stages in pruned.items() for p in prunes if p.stage in stages}
        self._found: dict[Place, int] = {}
        self._used: dict[Place, Array] = {}
        self._buffers: dict[object, Array] = {}

    @classmethod
    def of(
        cls, model: Model, recipe: str | Recipe, pattern: str | Pattern, keep_dense: str | Sequence[str] = (),
        start: int | None = None, listener: Listener | None = None,
    ) -> Execution:  # fmt: skip
        """The recipe on the layers that the planner would prune; arguments and errors are those of `expand`."""
        recipe = get_recipe(recipe)
        recipe = recipe.starting_at(recipe.start if start is None else start)
        globs = [keep_dense] if isinstance(keep_dense, str) else list(keep_dense)
        plan = Plan.make(model, recipe, Pattern.parse(pattern), globs)
        prunes = [p for stage in ("FF", "BP", "WU") for p in plan.prunes(stage)]
        pruned = {x.name: {p.stage for p in prunes if not plan.dense_because(x, p)} for x in model.layers}
        groups = {layer.name: weight.groups for layer in model.layers if (weight := weight_of(layer))}
        return cls(recipe, pattern, pruned, groups, listener)

    @property
    def prunes_anything(self) -> bool:
        """Whether any layer has an operand that the recipe prunes."""
        return bool(self._prunes)

    @property
    def phase(self) -> str:
        """`dense` before the recipe starts, `sparse` from there on."""
        return "dense" if self.step < self.recipe.start else "sparse"

    def masked_elements(self, layer: str) -> int:
        """Elements of the layer's weight whose gradient the recipe's rule treats by the FF mask; 0 if none."""
        if self._prune(layer, "FF", "weight") is None:
            return 0
        return self.masks[layer, "FF"].size

    def begin_step(self, step: int) -> None:
        """The weights have had `step` updates; masks whose period is over are searched at their next use."""
        self.step = step

    def forward_weight(self, layer: str, weight: Array) -> tuple[Array, Pattern | None]:
        """W times its FF mask, groups along `in`."""
        if (prune := self._prune(layer, "FF", "weight")) is None:
            return weight, None
        return self._masked(layer, prune, weight, in_place=self.recipe.gradient == "masked"), self.pattern

    def backward_weight(self, layer: str, weight: Array) -> tuple[Array, Pattern | None, int]:
        """W times its BP mask; or the weight that FF used, where the recipe prunes it and BP has to use the same."""
        if (prune := self._prune(layer, "BP", "weight")) is not None:
            return self._masked(layer, prune, weight), self.pattern, AXES[prune.direction]
        if self.recipe.forward_mask_in_backward and self._prune(layer, "FF", "weight"):
            return self._used[layer, "FF"], self.pattern, AXES["in"]
        return weight, None, AXES["out"]

    def backward_gradient(self, layer: str, gradient: Array) -> tuple[Array, Pattern | None]:
        """The gradient times its mask, searched at every call; rescaled if the recipe says so."""
        if (prune := self._prune(layer, "BP", "gradient")) is None:
            return gradient, None
        groups = self.groups.get(layer, 1)
        mask = search_gradient(gradient, self.pattern, groups)
        length = gradient.shape[-1] // groups
        self._searched((layer, "BP"), prune, gradient.size // length, length)
        pruned = np.multiply(gradient, mask, out=self._buffer((layer, "gradient"), gradient))
        return rescaled(pruned, gradient) if self.recipe.rescale else pruned, self.pattern

    def weight_gradient(self, layer: str, weight: Array, gradient: Array) -> Array:
        """The gradient by the recipe's rule, written over `gradient`; unchanged where FF did not prune the weight."""
        if self._prune(layer, "FF", "weight") is None:
            return gradient
        if self.recipe.gradient != "ste":
            return np.multiply(gradient, self.masks[layer, "FF"], out=gradient)
        if self.recipe.decay:
            used, spare = self._used[layer, "FF"], self._buffer(("decay", weight.shape), weight)
            add_decay(gradient, weight, used, self.recipe.decay, spare)
        return gradient

    def state(self) -> dict[str, Array]:
        """What a checkpoint keeps: by name: the step, the searches so far, each mask and the step that found it."""
        state: dict[str, Array] = {"step": np.array(self.step)}
        state |= {f"searches/{stage}/{layer}": np.array(n) for (layer, stage), n in self.searches.items()}
        for (layer, stage), mask in self.masks.items():
            state[f"found/{stage}/{layer}"] = np.array(self._found[layer, stage])
            state[f"mask/{stage}/{layer}"] = mask
        return state

    def restore(self, state: Mapping[str, Array]) -> None:
        """Continue from what `state` gave; raises ShapeError for the state of other layers or another recipe."""
        if "step" not in state:
            raise ShapeError("the state of a recipe has no 'step'")
        held: dict[str, dict[Place, Array]] = {"searches": {}, "found": {}, "mask": {}}
        places = {f"{stage}/{layer}": (layer, stage) for layer, stage in self._prunes}
        for name, value in state.items():
            what, _, place = name.partition("/")
            if name == "step":
                continue
            if what not in held or place not in places:
                raise ShapeError(f"the state holds {name!r}, which recipe {self.recipe.name!r} does not have here")
            held[what][places[place]] = value
        self.step = int(state["step"])
        self.searches = Counter({place: int(n) for place, n in held["searches"].items()})
        self._found = {place: int(n) for place, n in held["found"].items()}
        self.masks = {place: np.array(mask, dtype=np.bool_) for place, mask in held["mask"].items()}
        self._used = {}

    def _prune(self, layer: str, stage: Stage, operand: str) -> Prune | None:
        """What is pruned here at this step."""
        prune = self._prunes.get((layer, stage))
        return prune if prune and prune.operand == operand and self.step >= self.recipe.start else None

    def _masked(self, layer: str, prune: Prune, weight: Array, in_place: bool = False) -> Array:
        place = (layer, prune.stage)
        if self._is_due(place, prune):
            groups = self.groups.get(layer, 1)
            self.masks[place] = search(weight, self.pattern, prune.direction, groups)
            self._found[place] = self.step
            self._searched(place, prune, *search_size(weight, prune.direction, groups))
        out = weight if in_place else self._buffer(place, weight)
        self._used[place] = np.multiply(weight, self.masks[place], out=out)
        return out

    def _is_due(self, place: Place, prune: Prune) -> bool:
        if place not in self.masks:
            return True
        start = self.recipe.start
        return bool(prune.refresh) and (
            (self.step - start) // prune.refresh != (self._found[place] - start) // prune.refresh
        )

    def _searched(self, place: Place, prune: Prune, m: int, n: int) -> None:
        self.searches[place] += 1
        before_training = prune.refresh == 0 and self.recipe.start == 0
        if self.listener is not None and not before_training:
            self.listener.op(place[0], "PRUNE", "prune", **mask_search(prune, self.pattern, m, n))

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
    stages = [prune.stage for prune in recipe.prunes]
    if len(set(stages)) < len(stages):
        raise UnsupportedError(f"recipe {recipe.name!r} prunes two operands of a product, which training does not")
    return recipe
