"""Recipes: when and where patterns apply during training; the trainer executes and the planner enumerates them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from nmsim.errors import UnsupportedError, unknown

Stage = Literal["FF", "BP", "WU"]
Operand = Literal["weight", "activation", "gradient"]
Direction = Literal["in", "out"]


@dataclass(frozen=True)
class Prune:
    """One pruned operand of one product.

    `direction` is the channel axis along which the groups run: `in` is the reduction axis of FF, `out` that of BP.
    `refresh` is the number of steps between two mask searches; 0 means one search, at the recipe's `start`, which is
    before training where that is step 0.
    """

    stage: Stage
    operand: Operand
    direction: Direction
    refresh: int = 1


@dataclass(frozen=True)
class Recipe:
    """A training recipe for n:m sparsity.

    `prunes` are the operands whose groups a machine can skip. `forward_mask_in_backward`: BP multiplies by the
    weight that FF used, whose groups run along the wrong axis, so its zeros cannot be skipped. Steps before `start`
    are dense.

    `gradient` is the rule for the weight gradient G, taken at the weight that FF used: `ste` passes it straight
    through the mask; `autodiff` gives G times the mask; `masked` the same, and pruned weights themselves become zero.
    `decay` is the SR-STE coefficient on weights pruned in FF. `rescale`: a pruned gradient of a convolution keeps its
    L1 norm over positions, for each sample and channel.
    """

    name: str
    prunes: tuple[Prune, ...] = ()
    trains: bool = True
    forward_mask_in_backward: bool = False
    gradient: Literal["ste", "masked", "autodiff"] = "ste"
    decay: float = 0.0
    rescale: bool = False
    start: int = 0
    title: str = ""
    source: str = ""

    def prune(self, stage: Stage) -> Prune | None:
        """The pruned operand of a stage, None where the stage runs dense."""
        return next((p for p in self.prunes if p.stage == stage), None)

    def starting_at(self, step: int) -> Recipe:
        """The recipe with that many dense steps first; raises UnsupportedError where there is nothing to start."""
        if isinstance(step, bool) or not hasattr(step, "__index__") or step < 0:
            raise UnsupportedError(f"start must be a whole number of at least 0, not {step!r}")
        if step and not (self.trains and self.prunes):
            raise UnsupportedError(f"recipe {self.name!r} has no masks that could start at step {step}")
        return replace(self, start=step.__index__())


_APEX = "github.com/NVIDIA/apex apex/contrib/sparsity"
_SDGP = "github.com/BradMcDanel/sdgp sdgp.py"
_SRSTE = "github.com/NM-sparsity/NM-sparsity devkit/sparse_ops/sparse_ops.py"
_SAT = "arXiv 2309.13015 (abstract; group directions follow from which axis each product reduces over)"

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("dense", title="no sparsity"),
        Recipe("ste", (Prune("FF", "weight", "in"),), forward_mask_in_backward=True,
               title="STE: forward weights pruned every step, dense gradient", source=_SRSTE),
        Recipe("srste", (Prune("FF", "weight", "in"),), forward_mask_in_backward=True, decay=2e-4,
               title="SR-STE: forward weights pruned every step, dense gradient plus decay of pruned weights",
               source=_SRSTE),
        Recipe("sdgp", (Prune("BP", "gradient", "out"),),
               title="SDGP: output gradient pruned in the input-gradient product",
               source=_SDGP),
        Recipe("sdgp_maxnorm", (Prune("BP", "gradient", "out"),), rescale=True,
               title="SDGP with the L1 norm of each sample and channel restored (convolutions)", source=_SDGP),
        Recipe("sdwp", (Prune("BP", "weight", "out"),),
               title="SDWP: weights pruned in the input-gradient product only", source=_SAT),
        Recipe("bdwp", (Prune("FF", "weight", "in"), Prune("BP", "weight", "out")), decay=2e-4,
               title="BDWP: weights pruned in both passes, with a mask for each direction", source=_SAT),
        Recipe("static", (Prune("FF", "weight", "in", refresh=0),), forward_mask_in_backward=True, gradient="masked",
               title="fixed mask found before training (ASP retraining)", source=_APEX),
        Recipe("asp", (Prune("FF", "weight", "in", refresh=0),), forward_mask_in_backward=True, gradient="masked",
               title="ASP: dense up to step `start`, then retraining with the mask found there", source=_APEX),
        Recipe("inference", (Prune("FF", "weight", "in", refresh=0),), trains=False,
               title="forward pass only, weights pruned beforehand"),
    )
}  # fmt: skip


def get_recipe(name: str | Recipe) -> Recipe:
    """The recipe of that name; raises UnsupportedError listing the nearest names."""
    if isinstance(name, Recipe):
        return name
    if name not in RECIPES:
        raise UnsupportedError(unknown("recipe", name, RECIPES))
    return RECIPES[name]
