"""The schema of a training file: model, data, recipe, optimizer and how long."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from nmsim.errors import PatternError, UnsupportedError
from nmsim.sparsity.consistency import accepts
from nmsim.sparsity.moment import Moment
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe, get_recipe
from nmsim.sparsity.timeline import Timeline
from nmsim.specfile import Count, MisfitError, Spec
from nmsim.workloads.recipe_ops import require_adam

Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Steps = Annotated[int, Field(ge=0)]


class ModelChoice(Spec):
    """A network of `nmsim.train.models` and its sizes; sizes that the data decide may be left out."""

    name: str
    sizes: dict[str, Count] = {}


class DataChoice(Spec):
    """A generated dataset with its options, or the path of a file or folder."""

    name: str = Field(description="a generator (images, signals, translation, recall, markov, knowledge) or a path")
    options: dict[str, int | float | str] = {}

    @field_validator("options")
    @classmethod
    def _without_seed(cls, value: dict[str, int | float | str]) -> dict[str, int | float | str]:
        if "seed" in value:
            raise ValueError("the seed of the data is that of the run: `seed` at the top level")
        return value


class OptimizerChoice(Spec):
    """The update rule of the weights."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: Share = Field(default=0.9, description="sgd only")
    weight_decay: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _has_momentum(self) -> OptimizerChoice:
        if self.name != "sgd" and "momentum" in self.model_fields_set:
            raise ValueError(f"momentum belongs to sgd; {self.name} has none")
        return self


class ScheduleChoice(Spec):
    """The learning rate over the run."""

    name: Literal["constant", "step", "cosine"] = "constant"
    rate: Rate = Field(description="highest learning rate")
    warmup: Steps = Field(default=0, description="steps in which the rate rises from 0")
    every: Count | None = Field(default=None, description="step schedule: steps between two drops")
    factor: Rate = Field(default=0.1, description="step schedule: what the rate is multiplied by at a drop")

    @model_validator(mode="after")
    def _fits(self) -> ScheduleChoice:
        if (self.name == "step") != (self.every is not None):
            raise ValueError("`every` belongs to the step schedule, which needs it")
        return self


class TrainingFile(Spec):
    """A training run."""

    kind: Literal["training"]
    name: str = "run"
    model: ModelChoice
    data: DataChoice
    recipe: str | dict[str, Any] = Field(
        default="dense", description="a recipe by name or file, or its `base` with the fields that differ from it"
    )
    pattern: str = "dense"
    start: Moment | None = Field(default=None, description="what comes before is dense; default: the recipe's own")
    keep_dense: list[str] = Field(default=[], description="layers (names or globs) to leave dense beside the usual")
    steps: Count
    batch: Count
    optimizer: OptimizerChoice = OptimizerChoice()
    schedule: ScheduleChoice
    smoothing: Share = Field(default=0.0, description="label smoothing")
    precision: Literal["fp32", "fp64", "fp16", "bf16"] = Field(
        default="fp32", description="type that operands of products are rounded to; sums and weights stay wide"
    )
    seed: Steps = 0
    evaluate_every: Count = 100
    measure_every: Count | None = Field(
        default=None, description="steps between two measurements of masks and gradients; default: at evaluations"
    )
    checkpoint_every: Count = 100
    check_every: Count = Field(
        default=1, description="steps between two checks of every sparse operand; the trace counts the checks"
    )

    @property
    def described(self) -> Recipe:
        """The recipe."""
        return get_recipe(self.recipe)

    @field_validator("recipe")
    @classmethod
    def _is_recipe(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        try:
            if not get_recipe(value).trains:
                raise ValueError(f"recipe {value!r} does not train")
        except MisfitError as error:
            raise MisfitError(error.message, error.at) from None
        except UnsupportedError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        try:
            return str(Pattern.parse(value))
        except PatternError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _in_time(self) -> TrainingFile:
        if self.schedule.warmup > self.steps:
            raise ValueError(f"a warm-up of {self.schedule.warmup} steps is longer than the run of {self.steps}")
        pattern = Pattern.parse(self.pattern)
        try:
            recipe = self.described if self.start is None else self.described.starting_at(self.start)
            if recipe.start != "auto" and not accepts(recipe, pattern):
                Timeline.of(recipe, pattern, self.steps)
        except MisfitError as error:
            raise self._misplaced(error) from None
        except UnsupportedError as error:
            raise MisfitError(str(error), ("start",)) from None
        except PatternError as error:
            raise MisfitError(str(error), ("pattern",)) from None
        if why := accepts(recipe, pattern):
            raise MisfitError(why, ("pattern",))
        try:
            require_adam(recipe, self.optimizer.name)
        except UnsupportedError as error:
            raise MisfitError(str(error), ("optimizer",)) from None
        return self

    def _misplaced(self, error: MisfitError) -> MisfitError:
        """The mistake at its place in this file: at `start`, or in what the file says of the recipe."""
        if error.at == ("start",) and self.start is not None:
            return MisfitError(error.message, error.at)
        return MisfitError(error.message, ("recipe", *error.at))
