"""Recipes: when and where patterns apply during training; the trainer executes and the planner enumerates them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import to_jsonable_python

from nmsim import library
from nmsim.errors import SpecError, UnsupportedError
from nmsim.sparsity.moment import Moment, is_end
from nmsim.sparsity.pattern import Pattern
from nmsim.specfile import Count, Document, Spec, read, validate

Stage = Literal["FF", "BP", "WU"]
STAGES: tuple[Stage, ...] = ("FF", "BP", "WU")
Operand = Literal["weight", "activation", "gradient"]
Direction = Literal["in", "out"]
Search = Literal["magnitude", "random", "transposable", "permuted", "wanda", "sparsegpt"]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]

FOLDER = "workloads/recipes"


class Prune(Spec):
    """One pruned operand of one product."""

    stage: Stage
    operand: Operand
    direction: Direction = Field(
        description="channel axis along which groups run: `in` is the reduction axis of FF, `out` that of BP"
    )
    refresh: Annotated[int, Field(ge=0)] = Field(
        default=1, description="steps between two mask searches; 0: one, where the recipe starts"
    )
    mask: Search = Field(default="magnitude", description="what the kept elements are chosen by")
    within: bool = Field(default=False, description="searched on the weight that FF uses, so it keeps a part of that")


class Decay(Spec):
    """Pruned weights keep a share beta of their value, which falls from 1 at the start and is exactly 0 from `end` on.

    With t the share of that time which has passed: linear 1 - t, cosine (1 + cos pi t) / 2, exponential floor ** t,
    dropped at `end`, where it would have reached `floor`. `rate` sets the pace instead, as published runs do: beta is
    1 - rate u or exp(-rate u) after u changes, and is dropped at `end` at the latest.
    """

    kind: Literal["decay"]
    shape: Literal["linear", "exponential", "cosine"] = "linear"
    end: Moment = Field(description="from here on beta is 0 and the forward product is sparse")
    every: Count = Field(default=1, description="steps between two changes of beta")
    floor: Share = Field(default=0.01, description="exponential: the beta at which the rest is dropped")
    rate: Positive | None = Field(default=None, description="linear, exponential: fall of beta at each change")


class Sigmoid(Spec):
    """PDP: mask values sigmoid((w² - t²) / tau), t between the weakest kept and the strongest pruned weight."""

    kind: Literal["sigmoid"]
    tau: Positive = Field(default=1e-4, description="temperature, in units of w²")
    ramp: Moment = Field(
        default=0.0, description="the share pruned rises linearly from 0 to its final value until here"
    )
    end: Moment = Field(description="from here on the mask is hard")
    channels: bool = Field(default=False, description="mask values for whole output channels, by their mean w²")


class Choice(Spec):
    """MaskLLM: a learned choice among the C(m, n) masks of each group by Gumbel softmax."""

    kind: Literal["choice"]
    end: Moment = Field(description="from here on the most likely candidate is the mask")
    temperature: tuple[Positive, Positive] = Field(default=(4.0, 0.05), description="at the start and the end")
    scale: tuple[Positive, Positive] = Field(default=(100.0, 500.0), description="factor on logits, start and end")
    prior: Literal["none", "magnitude", "wanda", "sparsegpt"] = "magnitude"
    prior_strength: Annotated[float, Field(ge=0)] = 3.0
    regularizer: Annotated[float, Field(ge=0)] = Field(
        default=1e-5, description="coefficient on the sum of (W * mask)², falling linearly to 0"
    )
    rate_factor: Positive = Field(default=10.0, description="learning rate of the logits over that of weights")
    spread: Positive = Field(default=0.01, description="standard deviation of the first logits")
    weights: Literal["frozen", "trained"] = "frozen"


class Structure(Spec):
    """The pattern n:m becomes stricter in equal frames between start and `end`; the last frame has n:m itself.

    stepwise: m-1, m/2, m/4 ... n of m. geometric: 8n:8m, 4n:4m, 2n:2m, n:m. densify: n:8m, n:4m, n:2m, n:m.
    halving: m-1, then ceil(m/2^u) of m.
    """

    kind: Literal["stepwise", "geometric", "densify", "halving"]
    end: Moment = 1.0


class Growth(Spec):
    """RigL and SRigL: every `every` steps the weakest weights are dropped and others grown by their gradient."""

    every: Count = 100
    end: Moment = Field(default=0.75, description="no update from here on")
    fraction: Share = Field(default=0.3, description="share of the kept weights replaced at first; falls by a cosine")
    constant_fan_in: bool = Field(default=True, description="SRigL: every neuron keeps equally many inputs")
    salience: Positive = Field(default=0.3, description="a neuron with a smaller share of salient weights is removed")
    ablate: bool = Field(default=True, description="whether neurons are removed")


class Adapters(Spec):
    """Low-rank adapters y += x L R / rank on pruned linear layers, trained from `start` on."""

    rank: Count
    start: Moment


class Quantize(Spec):
    """Weights of pruned layers are rounded to `format` before the forward product, with a straight-through gradient."""

    format: Literal["int8", "int4", "fp8_e4m3", "fp8_e5m2"]
    order: Literal["prune_first", "quantize_first"] = "prune_first"


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
    start: Moment | Literal["auto"] = Field(
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
        if why := _contradiction(self):
            raise ValueError(why)
        return self

    def prune(self, stage: Stage) -> Prune | None:
        """The pruned operand of a stage, None where the stage runs dense."""
        return next((p for p in self.prunes if p.stage == stage), None)

    def with_(self, **fields: Any) -> Recipe:
        """The recipe with other fields, checked as a file is; raises UnsupportedError naming the mistake."""
        data = to_jsonable_python({**_given(self), **_merged(self, fields)})
        try:
            return validate(Recipe, Document(self.name, data, {(): (1, 1)}))
        except SpecError as error:
            first = error.problems[0]
            where = f"{first.path}: " if first.path else ""
            raise UnsupportedError(f"recipe {self.name!r}: {where}{first.message}") from None

    def starting_at(self, step: int | float) -> Recipe:
        """The recipe with that many dense steps first; raises UnsupportedError where there is nothing to start."""
        if step and not (self.trains and self.prunes):
            raise UnsupportedError(f"recipe {self.name!r} has no masks that could start at step {step}")
        return self.with_(start=step)

    def stage_shares(self, density: float) -> dict[str, float]:
        """The share of each product's multiply-accumulates that a machine cannot skip once the masks are hard."""
        if not self.trains or self.trains_dense:
            return dict.fromkeys(STAGES, 1.0)
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


def _contradiction(recipe: Recipe) -> str:
    """Why the parts do not go together; empty if they do."""
    forward = recipe.prune("FF")
    stages = [prune.stage for prune in recipe.prunes]
    if len(set(stages)) < len(stages):
        return "two operands of one product are pruned"
    needs_mask = {
        "soft": recipe.soft, "structure": recipe.structure, "growth": recipe.growth, "adapters": recipe.adapters,
        "quantize": recipe.quantize, "permute": recipe.permute, "freeze_variance": recipe.freeze_variance,
    }  # fmt: skip
    if not recipe.prunes and (extra := next((name for name, value in needs_mask.items() if value), None)):
        return f"{extra} goes with a pruned operand, and `prunes` is empty"
    if (recipe.soft or recipe.growth) and (forward is None or forward.operand != "weight"):
        return "a soft or growing mask is one of the weight in FF, which `prunes` does not have"
    plain = forward is not None and forward.operand == "weight" and not recipe.soft
    if recipe.decay and not (plain and recipe.gradient == "ste"):
        return "decay pulls at weights that a hard mask of FF drops, with the straight-through gradient (ste) alone"
    if recipe.quantize and not (plain and recipe.forward_mask_in_backward and recipe.prune("BP") is None):
        return "quantize rounds the weight of FF under a hard mask, which BP has to use too (forward_mask_in_backward)"
    if recipe.series and recipe.trains:
        return "a series of structured terms is one of an inference (trains: false)"
    if recipe.soft and (recipe.growth or recipe.structure):
        return "a soft mask goes with neither growth nor structure"
    if recipe.soft and recipe.soft.kind == "choice" and recipe.gradient == "masked":
        return "a learned choice cannot zero the weights it has not chosen (gradient: masked)"
    if recipe.start == "auto" and not recipe.freeze_variance:
        return "start: auto waits for Adam's variance to settle and goes with freeze_variance"
    return _disorder(recipe)


def _disorder(recipe: Recipe) -> str:
    """Which moment ends before the recipe starts, where both are steps or both shares."""
    start = 0 if recipe.start == "auto" else recipe.start
    ends = {"soft.end": recipe.soft, "structure.end": recipe.structure, "growth.end": recipe.growth}
    for name, part in ends.items():
        if part is not None and type(part.end) is type(start) and part.end < start:
            return f"{name} {part.end:g} lies before start {start:g}"
    return ""


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


def recipe_of(document: Document) -> Recipe:
    """The recipe that a file describes; raises SpecError with every mistake."""
    return validate(Recipe, document)


@cache
def _library_recipe(name: str) -> Recipe:
    return recipe_of(read(library.find(FOLDER, name)))


def all_recipes() -> list[Recipe]:
    """The recipes that come with nmsim, by name."""
    return [_library_recipe(name) for name in library.names(FOLDER)]


def needs_pattern(recipe: Recipe) -> bool:
    """Whether training by the recipe makes no sense without a pattern."""
    return bool(recipe.prunes) and recipe.trains


def accepts(recipe: Recipe, pattern: Pattern) -> str:
    """Why the recipe cannot have this pattern; empty if it can."""
    if needs_pattern(recipe) and pattern.is_dense:
        return f"recipe {recipe.name!r} needs a pattern, as 2:4"
    if not recipe.prunes and not pattern.is_dense:
        return f"recipe {recipe.name!r} takes no pattern, but {pattern} was given"
    if recipe.growth and not pattern.is_dense and pattern.kind != "unstructured":
        return f"recipe {recipe.name!r} takes a density, as unstructured:0.1, not {pattern}"
    if not pattern.is_dense and (takes := _takes(recipe, pattern)):
        return f"recipe {recipe.name!r} takes {takes}, not {pattern}"
    return ""


def _takes(recipe: Recipe, pattern: Pattern) -> str:
    """What the recipe takes instead of a pattern that is not dense; empty if it takes that."""
    masks = {prune.mask for prune in recipe.prunes}
    grouped = isinstance(recipe.soft, Choice) or recipe.structure or recipe.permute
    if (grouped or masks & {"transposable", "permuted"}) and pattern.kind != "nm":
        return "n:m, as 2:4"
    if "sparsegpt" in masks and pattern.kind not in ("nm", "unstructured"):
        return "n:m or a density, as unstructured:0.1"
    if isinstance(recipe.soft, Sigmoid) and pattern.kind == "fan_in":
        return "n:m or a density, as unstructured:0.1"
    return ""
