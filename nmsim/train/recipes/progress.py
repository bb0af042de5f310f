"""A recipe in progress: what a run of it has found, learns and keeps in checkpoints."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from nmsim.errors import ShapeError, UnsupportedError
from nmsim.sparsity.groups import Mask
from nmsim.sparsity.inputs import InputStatistics
from nmsim.sparsity.parts import Choice, Operand, Prune, Stage
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe, get_recipe
from nmsim.sparsity.soft import powerprop_theta
from nmsim.sparsity.timeline import Span, Timeline
from nmsim.train.layers.base import Array, Parameter, Sparsifier
from nmsim.train.layers.linear import Adapter
from nmsim.train.products import Listener
from nmsim.train.recipes import growth
from nmsim.train.recipes.course import ENDLESS, Course, Place
from nmsim.train.recipes.masks import Masks
from nmsim.train.recipes.rules import stream
from nmsim.train.recipes.search import needs_inputs
from nmsim.train.recipes.soft import ChoiceForm, Form
from nmsim.workloads import recipe_ops
from nmsim.workloads.model import Model

EXECUTABLE: tuple[tuple[Stage, Operand, str], ...] = (
    ("FF", "weight", "in"), ("BP", "weight", "in"), ("BP", "weight", "out"), ("BP", "gradient", "out"),
)  # fmt: skip


class Progress(Sparsifier):
    """What a recipe at work knows of its run: the step, masks, forms, adapters, statistics of inputs.

    `Execution` adds what products ask of it.
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
    ) -> Self:  # fmt: skip
        """The recipe on the layers that the planner would prune; arguments and errors are those of `expand`."""
        recipe = _executable(get_recipe(recipe))
        if start is not None:
            recipe = recipe.starting_at(start)
        globs = [keep_dense] if isinstance(keep_dense, str) else list(keep_dense)
        run = cls.__new__(cls)
        run._begin(Course.planned(model, recipe, Pattern.parse(pattern), globs, steps), listener, seed)
        return run

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

    def snapshot(self) -> Self:
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

    def attach(self, parameters: Mapping[str, Parameter]) -> None:
        """Make what the recipe keeps beside the weights: logits of choices, and the first mask of a growing one.

        The weights of a mask that grows from the first step on start anew, as if each neuron had no inputs but those
        kept; one that starts late keeps the largest weights that it finds. What is learned in place of a weight that
        is its power is made so that the network is the one that was given.
        """
        self._sizes = {layer: parameter.value.size for layer, parameter in parameters.items()}
        for layer in self.course.powered:
            theta = powerprop_theta(parameters[layer].value, self.recipe.power)
            parameters[layer].value[...] = theta
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
