"""Recipes: when and where patterns apply during training; the trainer executes and the planner enumerates them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import to_jsonable_python

from nmsim import library
from nmsim.errors import NmsimError, SpecError, UnsupportedError
from nmsim.sparsity.consistency import contradictions
from nmsim.sparsity.moment import Start, is_end
from nmsim.sparsity.parts import STAGES, Adapters, Choice, Decay, Growth, Prune, Quantize, Sigmoid, Stage, Structure
from nmsim.specfile import Document, MisfitError, Spec, parse_path, read, validate

FOLDER = "workloads/recipes"


class Recipe(Spec):
    """A training recipe for n:m sparsity.

    `prunes` are the operands whose groups a machine can skip. `forward_mask_in_backward`: BP multiplies by the
    weight that FF used, whose groups run along the wrong axis unless the mask is transposable.

    `gradient` is the rule for the weight gradient G, taken at the weight that FF used: `ste` passes it straight
    through the mask; `autodiff` gives G times the derivative of the weight that FF used; `masked` is G times the
    mask, and pruned weights themselves become zero.
    """

    kind: Literal["recipe"] = "recipe"
    name: str
    title: str = ""
    paper: str = Field(default="", description="the paper whose recipe it is")
    source: str = Field(default="", description="where the rule was read")
    vectors: Literal["", "official", "re-expressed"] = Field(
        default="", description="whether reference vectors are from published code or re-expressed"
    )
    note: str = Field(default="", description="what differs from the source, and what is not known")
    prunes: tuple[Prune, ...] = ()
    trains: bool = True
    forward_mask_in_backward: bool = False
    gradient: Literal["ste", "masked", "autodiff"] = "ste"
    decay: Annotated[float, Field(ge=0)] = Field(default=0.0, description="SR-STE coefficient on weights pruned in FF")
    rescale: bool = Field(
        default=False, description="a pruned gradient of a convolution keeps its L1 norm for each sample and channel"
    )
    start: Start = Field(
        default=0, description="steps before are dense; auto: where Adam's variance has settled (STEP's AutoSwitch)"
    )
    soft: Annotated[Decay | Sigmoid | Choice, Field(discriminator="kind")] | None = None
    structure: Structure | None = None
    distribution: Literal["uniform", "erk"] = Field(
        default="uniform", description="how a pattern without groups shares its density among layers"
    )
    growth: Growth | None = None
    adapters: Adapters | None = None
    power: Annotated[float, Field(ge=1)] = Field(default=1.0, description="alpha of w = theta |theta|^(alpha - 1)")
    freeze_variance: bool = Field(default=False, description="Adam's second moment stays as it is from the start on")
    series: bool = Field(
        default=False, description="the operand is a sum of structured terms, each a product of its own (TASD)"
    )
    permute: bool = Field(default=False, description="input channels are permuted before the mask is searched")
    quantize: Quantize | None = None

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if found := next(contradictions(self), None):
            raise MisfitError(found[1], found[0])
        return self

    def prune(self, stage: Stage) -> Prune | None:
        """The pruned operand of a stage, None where the stage runs dense."""
        return next((p for p in self.prunes if p.stage == stage), None)

    def with_(self, **fields: Any) -> Recipe:
        """The recipe with other fields, checked as a file is; raises MisfitError naming the mistake and its field."""
        data = to_jsonable_python({**_given(self), **_merged(self, fields)})
        try:
            return validate(Recipe, Document(self.name, data, {(): (1, 1)}))
        except SpecError as error:
            first = error.problems[0]
            at = parse_path(first.path) if first.path else ()
            raise MisfitError(first.message, at, f"recipe {self.name!r}") from None

    def starting_at(self, step: int | float) -> Recipe:
        """The recipe with that many dense steps first; raises UnsupportedError where there is nothing to start."""
        if step and not (self.trains and self.prunes):
            raise UnsupportedError(f"recipe {self.name!r} has no masks that could start at step {step}")
        return self.with_(start=step)

    def stage_shares(self, density: float) -> dict[str, float]:
        """The share of each product's multiply-accumulates that a machine cannot skip once the masks are hard.

        Groups serve the product that reduces along them. Kept weights of a growing mask may lie anywhere and serve FF
        and BP alike; WU needs the gradients of kept weights alone, but all of them once in `every` steps: d + (1 - d) /
        every. That is a bound: no product of a plan computes a part of its result only.
        """
        if not self.trains or self.trains_dense:
            return dict.fromkeys(STAGES, 1.0)
        if self.growth:
            return {"FF": density, "BP": density, "WU": density + (1.0 - density) / self.growth.every}
        along = {("FF", "in"), ("BP", "out"), ("WU", "tokens")}
        skips = {p.stage for p in self.prunes if (p.stage, p.direction) in along}
        return {stage: density if stage in skips else 1.0 for stage in STAGES}

    @property
    def trains_dense(self) -> bool:
        """Whether masks are hard only after the last step, so that no product of training is sparse."""
        return is_end(self.start) or (self.soft is not None and is_end(self.soft.end))

    def speedup_bound(self, density: float) -> float:
        """What a training step on equal products can gain at most: 3 / the sum of its stages' shares."""
        return 3.0 / sum(self.stage_shares(density).values())

    def inference_bound(self, density: float) -> float:
        """What an inference with the masks that the recipe ends with can gain at most: 1 / the share left of FF."""
        return 1.0 / density if any(p.stage == "FF" and p.direction == "in" for p in self.prunes) else 1.0


def _given(recipe: Recipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in type(recipe).model_fields}


def _merged(recipe: Recipe, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, a mapping for a part laid over the part that the recipe has, unless it is of another kind."""
    merged = dict(fields)
    for name, value in fields.items():
        part = getattr(recipe, name, None)
        if isinstance(value, Mapping) and isinstance(part, Spec):
            same = value.get("kind", getattr(part, "kind", None)) == getattr(part, "kind", None)
            merged[name] = {**part.model_dump(), **value} if same else dict(value)
    return merged


def get_recipe(recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe) -> Recipe:
    """The recipe of that name or file; or of a mapping with a `base` and the fields that differ from it.

    Raises UnsupportedError listing the nearest names, SpecError with every mistake of a file.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        fields = dict(recipe)
        base = fields.pop("base", None)
        if base is None:
            raise UnsupportedError("a recipe written out names its `base`, as {base: srste, decay: 2.0e-3}")
        return get_recipe(base).with_(**fields)
    path = library.locate(FOLDER, recipe)
    return _library_recipe(path.stem) if path.parent == library.library_dir(FOLDER) else recipe_of(read(path))


def at_its_line(recipe: str | os.PathLike[str], error: MisfitError) -> NmsimError:
    """The mistake at its line in the file of a recipe that was given as a path; the error itself for one by name."""
    path = library.locate(FOLDER, recipe)
    if path.parent == library.library_dir(FOLDER):
        return error
    return SpecError([read(path).problem(error.at, error.message)])


def recipe_of(document: Document) -> Recipe:
    """The recipe that a file describes; raises SpecError with every mistake.

    A file whose weights or patterns decay says its `gradient`: published codes differ in it, and results with them.
    """
    recipe = validate(Recipe, document)
    if (isinstance(recipe.soft, Decay) or recipe.structure) and "gradient" not in recipe.model_fields_set:
        message = "is missing: a recipe that decays says whether weights learn by ste or autodiff, since results differ"
        raise SpecError([document.problem(("gradient",), message)])
    return recipe


@cache
def _library_recipe(name: str) -> Recipe:
    return recipe_of(read(library.find(FOLDER, name)))


def all_recipes() -> list[Recipe]:
    """The recipes that come with nmsim, by name."""
    return [_library_recipe(name) for name in library.names(FOLDER)]
