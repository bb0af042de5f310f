"""TASD in an evaluation: FF reads its weights or its activations as a sum of structured terms."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nmsim.errors import PatternError, UnsupportedError
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe, get_recipe
from nmsim.sparsity.series import decompose
from nmsim.train.layers.base import Array, Sparsifier
from nmsim.train.loop import Trainer
from nmsim.train.recipes.execution import Execution
from nmsim.workloads.pruning import Plan


def evaluate_series(
    trainer: Trainer, pattern: str, recipe: str | Recipe = "tasd", split: str = "test"
) -> tuple[float, float]:
    """Loss and accuracy of a trained network whose operand is the series `pattern`, as 2:4+1:8, in each layer that the
    planner would take apart; the run is left as it is.

    `recipe` is `tasd` (weights) or `tasd_activations`. FF multiplies the sum of the terms at once, which is the sum of
    their products, rounding apart. Raises UnsupportedError for a recipe without a series, PatternError for terms that
    are none or that no layer can have.
    """
    described = get_recipe(recipe)
    if not described.series:
        raise UnsupportedError(f"recipe {described.name!r} has no series of terms; tasd and tasd_activations have")
    terms = [Pattern.parse(term) for term in pattern.split("+")]
    model, (prune,) = trainer.model, described.prunes
    plans = [Plan.make(model, described, term, trainer.config.keep_dense)[0] for term in terms]
    layers = {x.name for x in model.layers if not any(plan.dense_because(x, prune) for plan in plans)}
    if not layers:
        raise PatternError(f"recipe {described.name!r} with {pattern} takes nothing of {model.file.name!r} apart")
    judge = trainer.execution.snapshot()
    judge.begin_step(trainer.step)
    return trainer.evaluate(split, SeriesJudge(judge, terms, prune.operand, layers))


class SeriesJudge(Sparsifier):
    """What `base` makes of weights, and then weights or activations of these layers as the sum of `terms`."""

    def __init__(self, base: Execution, terms: Sequence[Pattern], operand: str, layers: Collection[str]):
        self.base, self.terms, self.operand, self.layers = base, tuple(terms), operand, frozenset(layers)

    def forward_weight(self, layer: str, weight: Array) -> tuple[Array, Pattern | None]:
        """The weight [..., in, out], its groups along in."""
        used, pattern = self.base.forward_weight(layer, weight)
        if self.operand != "weight" or layer not in self.layers:
            return used, pattern
        return decompose(used, self.terms, -2).sum(), None

    def forward_input(self, layer: str, x: Array) -> Array:
        """The input [..., in], its groups along in."""
        if self.operand != "activation" or layer not in self.layers:
            return x
        return decompose(x, self.terms, -1).sum()

    def order(self, layer: str, stage: str) -> Array | None:
        """As `base` has it."""
        return self.base.order(layer, stage)

    def weight_dtype(self, layer: str) -> str:
        """As `base` has it."""
        return self.base.weight_dtype(layer)
