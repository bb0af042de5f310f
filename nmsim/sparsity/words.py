"""A recipe in words: what each product prunes, the bound on the speed-up, what happens when."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nmsim.sparsity.moment import is_end
from nmsim.sparsity.parts import STAGES, Choice, Decay, Growth, Prune
from nmsim.sparsity.recipe import Recipe


def stages(recipe: Recipe) -> dict[str, str]:
    """For each product (FF alone where nothing is trained) what is pruned of it, and whether a machine can skip it."""
    names = STAGES if recipe.trains else STAGES[:1]
    return {stage: _stage(recipe, stage) for stage in names}


def _stage(recipe: Recipe, stage: str) -> str:
    prune = next((p for p in recipe.prunes if p.stage == stage), None)
    if prune is not None:
        axis = "" if (stage, prune.direction) in (("FF", "in"), ("BP", "out")) else ", not along the reduction axis"
        return f"{prune.operand} pruned along {prune.direction}{axis}, {_search(prune, recipe)}"
    if stage == "BP" and recipe.forward_mask_in_backward and not recipe.trains_dense:
        if recipe.growth:
            return "the weight of FF, whose kept elements a gathering machine takes one by one"
        return "the weight of FF, whose groups do not run along the axis that BP reduces: none are skipped"
    if stage == "WU" and recipe.growth:
        return "dense; only kept weights need it, but once in every update (a bound: no plan computes a part alone)"
    return "dense"


def _search(prune: Prune, recipe: Recipe) -> str:
    how = "" if prune.mask == "magnitude" else f" ({prune.mask})"
    if isinstance(recipe.soft, Choice):
        return "mask learned"
    if recipe.growth:
        return "mask grown"
    if prune.refresh == 0:
        return f"mask{how} found once"
    return f"mask{how} searched every " + ("step" if prune.refresh == 1 else f"{prune.refresh} steps")


def bounds(recipe: Recipe) -> dict[str, str]:
    """What a training step on equal products, or an inference with the final masks, can gain at most at density d."""
    if not recipe.prunes:
        return {}
    found = {}
    shares = recipe.stage_shares(0.5)
    if any(share < 1 for share in shares.values()):
        every = recipe.growth.every if recipe.growth else 0
        sparse = sum(share < 1 for share in shares.values())
        formula = f"3 / (3d + (1 - d) / {every})" if every else f"3 / ({3 - sparse} + {'' if sparse == 1 else sparse}d)"
        found["bound, training step"] = f"{formula}: {_figures(recipe.speedup_bound)}"
    elif recipe.trains:
        found["bound, training step"] = "1: no product of training is sparse"
    if recipe.inference_bound(0.5) > 1:
        found["bound, inference"] = f"1 / d: {_figures(recipe.inference_bound)}"
    return found


def _figures(bound: Callable[[float], float]) -> str:
    return ", ".join(f"{bound(n / m):.2f} at {n}:{m}" for n, m in ((2, 4), (1, 8)))


def schedule(recipe: Recipe) -> str:
    """What happens when, in order."""
    return "; ".join(_events(recipe)) if recipe.trains and recipe.prunes else ""


def _events(recipe: Recipe) -> Iterator[str]:
    start = recipe.start
    if is_end(start):
        yield "dense to the end, then pruned once"
        return
    if start:
        yield "dense until Adam's variance has settled" if start == "auto" else f"dense up to {_moment(start)}"
    soft = recipe.soft
    if soft is not None:
        what = {"decay": "pruned weights fade", "sigmoid": "mask values are soft", "choice": "masks are learned"}
        shape = f" ({soft.shape})" if isinstance(soft, Decay) else ""
        yield f"{what[soft.kind]}{shape} up to {_moment(soft.end)}"
        yield "masks hard after that" if not is_end(soft.end) else "masks hard after the last step"
    elif recipe.structure:
        yield f"the pattern grows stricter ({recipe.structure.kind}) up to {_moment(recipe.structure.end)}"
    elif isinstance(recipe.growth, Growth):
        rule = recipe.growth
        yield f"weights dropped and grown every {rule.every} steps up to {_moment(rule.end)}, the mask fixed after that"
    else:
        yield "masks hard from there on" if start else "masks hard from the first step on"
    if recipe.adapters:
        yield f"low-rank adapters from {_moment(recipe.adapters.start)} on"


def _moment(moment: int | float) -> str:
    return "the end" if is_end(moment) else f"{100 * moment:g} %" if isinstance(moment, float) else f"step {moment}"
