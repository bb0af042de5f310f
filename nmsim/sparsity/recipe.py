"""Recipes: when and where patterns apply during training; the trainer executes and the planner enumerates them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nmsim.errors import UnsupportedError, unknown

Stage = Literal["FF", "BP", "WU"]
Operand = Literal["weight", "activation", "gradient"]
Direction = Literal["in", "out"]


@dataclass(frozen=True)
class Prune:
    """One pruned operand of one product.

    `direction` is the channel axis along which the groups run: `in` is the reduction axis of FF, `out` that of BP.
    `refresh` is the number of steps between two mask searches; 0 means the mask was found before training.
    """

    stage: Stage
    operand: Operand
    direction: Direction
    refresh: int = 1


@dataclass(frozen=True)
class Recipe:
    """A training recipe for n:m sparsity.

    `prunes` are the operands whose groups a machine can skip. `forward_mask_in_backward`: BP multiplies by the
    weight that FF used, whose groups run along the wrong axis, so its zeros cannot be skipped. `gradient` is the
    rule for the weight gradient (`ste`: straight through the mask; `masked`: pruned weights get none), `decay` the
    SR-STE coefficient on pruned weights.
    """

    name: str
    prunes: tuple[Prune, ...] = ()
    trains: bool = True
    forward_mask_in_backward: bool = False
    gradient: Literal["ste", "masked"] = "ste"
    decay: float = 0.0
    title: str = ""
    source: str = ""

    def prune(self, stage: Stage) -> Prune | None:
        """The pruned operand of a stage, None where the stage runs dense."""
        return next((p for p in self.prunes if p.stage == stage), None)


_SRSTE = "github.com/NM-sparsity/NM-sparsity devkit/sparse_ops/sparse_ops.py"
_SAT = "arXiv 2309.13015 (abstract; group directions follow from which axis each product reduces over)"

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("dense", title="no sparsity"),
        Recipe("srste", (Prune("FF", "weight", "in"),), forward_mask_in_backward=True, decay=2e-4,
               title="SR-STE: forward weights pruned every step, dense gradient plus decay of pruned weights",
               source=_SRSTE),
        Recipe("sdgp", (Prune("BP", "gradient", "out"),),
               title="SDGP: output gradient pruned in the input-gradient product",
               source="github.com/BradMcDanel/sdgp sdgp.py"),
        Recipe("sdwp", (Prune("BP", "weight", "out"),),
               title="SDWP: weights pruned in the input-gradient product only", source=_SAT),
        Recipe("bdwp", (Prune("FF", "weight", "in"), Prune("BP", "weight", "out")), decay=2e-4,
               title="BDWP: weights pruned in both passes, with a mask for each direction", source=_SAT),
        Recipe("static", (Prune("FF", "weight", "in", refresh=0),), forward_mask_in_backward=True, gradient="masked",
               title="fixed mask found before training (ASP retraining)",
               source="github.com/NVIDIA/apex apex/contrib/sparsity"),
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
