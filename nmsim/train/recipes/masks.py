"""The masks of a run: which were found last, when they are searched again, and the count of searches."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping

import numpy as np

from nmsim.errors import ShapeError
from nmsim.sparsity.groups import Mask
from nmsim.sparsity.parts import Prune
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe
from nmsim.train.layers.base import Array
from nmsim.train.products import Listener
from nmsim.train.recipes.course import Course, Place
from nmsim.train.recipes.rules import search_size
from nmsim.train.recipes.search import Finder
from nmsim.workloads import recipe_ops
from nmsim.workloads.search_ops import order_row, search_ops

KINDS = ("searches", "found", "pattern", "mask", "order")


class Masks:
    """The weight masks [..., in, out] last found, True where kept; a search makes a new array.

    `searches` counts them by layer and stage, and `listener` hears of each as a PRUNE op, except of a mask that is
    found before training and never renewed.
    """

    def __init__(self, recipe: Recipe, groups: Mapping[str, int], seed: int, listener: Listener | None):
        self.recipe, self.groups, self.listener = recipe, groups, listener
        self.kept: dict[Place, Mask] = {}
        self.searches: Counter[Place] = Counter()
        self.finder = Finder(seed)
        self._found: dict[Place, tuple[int, Pattern]] = {}

    def snapshot(self) -> Masks:
        """The masks as they stand; searches made with them leave these as they are."""
        other = copy.copy(self)
        other.listener, other.kept, other.searches = None, dict(self.kept), Counter(self.searches)
        other._found, other.finder = dict(self._found), self.finder.snapshot()
        return other

    def is_due(self, place: Place, prune: Prune, pattern: Pattern, step: int, start: int) -> bool:
        """Whether the mask is searched at its next use: the first, of another pattern, or of a new period."""
        if place not in self.kept:
            return True
        if self.recipe.growth:
            return False
        at, of = self._found[place]
        if of != pattern or at < start:
            return True
        return bool(prune.refresh) and (step - start) // prune.refresh != (at - start) // prune.refresh

    def search(self, place: Place, prune: Prune, pattern: Pattern, weight: Array, step: int, start: int) -> None:
        """Find the mask of a weight anew, in a run that prunes from `start` on."""
        groups = self.groups.get(place[0], 1)
        forward = self.kept.get((place[0], "FF")) if prune.within else None
        renewed = prune.mask == "permuted" and self._renews(place, prune, pattern, step, start)
        mask = self.finder.mask(place, prune, self.recipe, pattern, weight, groups, step, forward, renewed)
        self.put(place, mask, step, pattern)
        size = search_size(weight, prune.direction, groups)
        self.tell(place, prune, pattern, step, *size)
        if renewed and self.listener is not None and not self._before_training(prune, step):
            row = order_row(prune, *size, pattern)
            self.listener.op(place[0], row.pop("stage"), row.pop("kind"), **row)

    def _renews(self, place: Place, prune: Prune, pattern: Pattern, step: int, start: int) -> bool:
        """Whether the channels are ordered anew: the first time, for another pattern, in a new period of `renew`."""
        if place not in self.finder.orders or place not in self._found:
            return True
        at, of = self._found[place]
        return of != pattern or at < start or (step - start) // prune.renew != (at - start) // prune.renew

    def put(self, place: Place, mask: Mask, step: int, pattern: Pattern) -> None:
        """Keep a mask that was found in a step."""
        self.kept[place], self._found[place] = mask, (step, pattern)

    def tell(
        self, place: Place, prune: Prune, pattern: Pattern, step: int, m: int, n: int, ops: float | None = None
    ) -> None:
        """Count a search of m rows of n elements, and tell the listener; `ops` is the arithmetic of another method."""
        ops = search_ops(prune, self.recipe, pattern, m, n) if ops is None else ops
        self.searches[place] += 1
        if self.listener is not None and not self._before_training(prune, step):
            self.listener.op(place[0], "PRUNE", "prune", **recipe_ops.mask_search(prune, pattern, m, n, ops))

    def _before_training(self, prune: Prune, step: int) -> bool:
        """Whether a mask that is found at this step costs the run nothing."""
        return prune.refresh == 0 and step == 0 and not self.recipe.growth

    def state(self) -> dict[str, Array]:
        """What a checkpoint keeps, by name: the searches so far, each mask, and the step and pattern of its search."""
        state = {f"searches/{stage}/{layer}": np.array(n) for (layer, stage), n in self.searches.items()}
        for (layer, stage), mask in self.kept.items():
            step, pattern = self._found[layer, stage]
            state[f"found/{stage}/{layer}"] = np.array(step)
            state[f"pattern/{stage}/{layer}"] = np.array(str(pattern))
            state[f"mask/{stage}/{layer}"] = mask
        return state | {f"order/{stage}/{layer}": order for (layer, stage), order in self.finder.orders.items()}

    def restore(self, state: Mapping[str, Array], course: Course) -> None:
        """Continue from what `state` gave; raises ShapeError for the state of other layers or another recipe."""
        held: dict[str, dict[Place, Array]] = {kind: {} for kind in KINDS}
        places = {f"{stage}/{layer}": (layer, stage) for layer, stage in course.places}
        for name, value in state.items():
            what, _, place = name.partition("/")
            if what not in held or place not in places:
                raise ShapeError(f"the state holds {name!r}, which recipe {self.recipe.name!r} does not have here")
            held[what][places[place]] = value
        self.searches = Counter({place: int(n) for place, n in held["searches"].items()})
        self._found = {
            place: (int(n), Pattern.parse(str(held["pattern"][place])).along(-1)) for place, n in held["found"].items()
        }
        self.kept = {place: np.array(mask, dtype=np.bool_) for place, mask in held["mask"].items()}
        self.finder.orders = {place: np.array(order) for place, order in held["order"].items()}
