"""The points of the study: tasks, recipes with their patterns, and the runs in order of importance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from nmsim.sparsity.recipe import get_recipe
from nmsim.train.config import TrainingFile
from studies.recipes.budget import relative_macs

EVERY = 25
"""Steps between two measurements of masks and gradients."""

TASKS: dict[str, dict[str, Any]] = {
    "resnet9": {
        "model": {"name": "resnet9_narrow", "sizes": {"width": 16}},
        "data": {
            "name": "images",
            "options": {"classes": 12, "size": 12, "train": 4096, "test": 512, "shift": 1, "noise": 0.15},
        },
        "steps": 225, "batch": 32, "smoothing": 0.1,
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "cosine", "rate": 0.05, "warmup": 20},
    },
    "vit": {
        "model": {"name": "vit_tiny", "sizes": {"dim": 64, "depth": 2, "heads": 2}},
        "data": {
            "name": "images",
            "options": {"classes": 8, "size": 12, "train": 4096, "test": 512, "shift": 0, "noise": 0.2},
        },
        "steps": 300, "batch": 32, "smoothing": 0.1,
        "optimizer": {"name": "adamw", "weight_decay": 0.05},
        "schedule": {"name": "cosine", "rate": 3e-3, "warmup": 20},
    },
    "translation": {
        "model": {"name": "transformer", "sizes": {"dim": 64, "depth": 1, "heads": 4}},
        "data": {
            "name": "translation",
            "options": {"train": 4096, "test": 512, "source_length": 10, "target_length": 11},
        },
        "steps": 275, "batch": 32,
        "optimizer": {"name": "adamw", "weight_decay": 0.01},
        "schedule": {"name": "cosine", "rate": 3e-3, "warmup": 30},
    },
    "language": {
        "model": {"name": "language_model", "sizes": {"dim": 48, "depth": 2, "heads": 4}},
        "data": {"name": "markov", "options": {"vocabulary": 12, "length": 24, "train": 8192, "test": 512}},
        "steps": 600, "batch": 32,
        "optimizer": {"name": "adamw", "weight_decay": 0.01},
        "schedule": {"name": "cosine", "rate": 3e-3, "warmup": 40},
    },
}  # fmt: skip
"""Sizes were set by looking at dense and at SR-STE 1:16 alone, before any two recipes were compared."""

RANKED = ("resnet9", "vit", "translation")
"""The tasks on which every recipe runs."""

ADAMW = {
    "optimizer": {"name": "adamw", "weight_decay": 0.05},
    "schedule": {"name": "cosine", "rate": 3e-3, "warmup": 20},
}
"""In place of SGD for recipes that need Adam, and for their controls."""

SEEDS, MORE_SEEDS = (1, 2, 3), (4, 5)
LATER = ("2:8", "1:8")
FREE = {"2:4": 0.5, "1:4": 0.25, "2:8": 0.25, "1:8": 0.125, "1:16": 0.0625}
"""The density that recipes without groups have beside each pattern."""

DECAYING = {
    "mask_decay": "ste", "structure_decay": "ste", "mdgf_linear": "autodiff", "mdgf_cosine": "autodiff",
    "mdgf_exponential": "autodiff", "sdgf_stepwise": "autodiff", "sdgf_geometric": "autodiff",
}  # fmt: skip
"""Recipes that let go of weights step by step, with the gradient mode that is not their own."""

WITHOUT_GROUPS = {
    "rigl": {"growth": {"every": 20}}, "srigl": {"growth": {"every": 20}}, "srigl_fixed": {"growth": {"every": 20}},
    "pdp_channels": {},
}  # fmt: skip
CORE = (
    "srste", "ste", "random", "static", "bdwp", "mask_decay", "mdgf_linear", "mdgf_exponential", "sdgf_stepwise",
    "sdgf_geometric", "srigl", "srigl_fixed", "sdgp", "sdgp_random", "asp",
)  # fmt: skip
OTHERS = (
    "bimask", "transposable", "slope", "sdwp", "structure_decay", "mdgf_cosine", "pdp", "step", "maskllm",
    "oneshot_magnitude", "oneshot_wanda", "oneshot_sparsegpt", "rigl", "pdp_channels", "powerprop", "sdgp_maxnorm",
    "asp_permuted", "maskllm_joint",
)  # fmt: skip
LENGTHENED = ("srste", "static", "bdwp", "mask_decay", "mdgf_linear", "sdgf_geometric")
"""Recipes that also run at the executed multiply-accumulates of the dense run."""
RATES = (2e-5, 2e-3, 2e-2)
"""Coefficients of SR-STE beside its own, 2e-4."""


PROSE = {"title", "paper", "source", "vectors", "note"}
"""What a recipe's file says of it, by which no run differs."""


@dataclass(frozen=True)
class Point:
    """One run: a recipe with what differs from its file, on a task with one seed."""

    task: str
    recipe: str
    pattern: str
    seed: int
    changes: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> TrainingFile:
        """The training file of the run; raises pydantic's ValidationError where the parts do not go together."""
        recipe: Any = {"base": self.recipe, **self.changes} if self.changes else self.recipe
        fields = {
            "kind": "training", "name": self.task, "recipe": recipe, "pattern": self.pattern, "seed": self.seed,
            "measure_every": EVERY, "evaluate_every": TASKS[self.task]["steps"], "check_every": 50,
        }  # fmt: skip
        return TrainingFile.model_validate({**TASKS[self.task], **fields, **self.training}, strict=False)

    def key(self) -> str:
        """A name by the content: training file and recipe as they are, not as they are called or described."""
        config = self.config()
        parts = [config.model_dump(mode="json", exclude_defaults=True)]
        parts.append(config.described.model_dump(mode="json", exclude_defaults=True, exclude=PROSE))
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def all_points() -> list[Point]:
    """Every run once, the most important first; all seeds of a comparison follow each other."""
    return list({point.key(): point for point in _in_order()}.values())


def _in_order() -> Iterator[Point]:
    for task in RANKED:
        yield from _seeds(task, "dense", "dense")
    for pattern, name in product(("2:4", "1:16"), CORE):
        yield from _ranked(name, pattern)
    for name, pattern in (("bdwp", "2:8"), *(("srste", pattern) for pattern in ("4:8", "1:4", *LATER))):
        yield from _ranked(name, pattern)
    yield from _language(SEEDS)
    yield from _sweeps(SEEDS)
    for pattern, name in product(("2:4", "1:16"), OTHERS):
        yield from _ranked(name, pattern)
    for name, task in product(("srigl", "srigl_fixed", "rigl"), RANKED):
        yield from _seeds(task, name, "unstructured:0.02", WITHOUT_GROUPS[name])
    yield from _adamw_controls()
    yield from _equal_budget()
    for pattern, name in product(("1:4", *LATER), CORE + OTHERS):
        yield from _ranked(name, pattern)
    for name in ("ste", "mdgf_linear", "mask_decay"):
        yield from _ranked(name, "4:8")
    yield from _again()


def _again() -> Iterator[Point]:
    """More seeds where claims are decided."""
    yield from _language(MORE_SEEDS)
    for task in RANKED:
        yield from _seeds(task, "dense", "dense", seeds=MORE_SEEDS)
    for name, pattern in product(("srste", *DECAYING, "random", "static"), ("2:4", "1:16")):
        yield from _ranked(name, pattern, seeds=MORE_SEEDS)
    yield from _ranked("bdwp", "2:8", seeds=MORE_SEEDS)
    for pattern in ("4:8", "2:8", "1:4"):
        yield from _ranked("srste", pattern, seeds=MORE_SEEDS)
    yield from _sweeps(MORE_SEEDS)


def _sweeps(seeds: tuple[int, ...]) -> Iterator[Point]:
    """SR-STE over lambda, and each decaying recipe in the other gradient mode."""
    for rate, pattern in product(RATES, ("2:4", "1:16")):
        yield from _ranked("srste", pattern, {"decay": rate}, seeds)
    for (name, mode), pattern in product(DECAYING.items(), ("2:4", "1:16")):
        yield from _ranked(name, pattern, {"gradient": mode}, seeds)


def _language(seeds: tuple[int, ...]) -> Iterator[Point]:
    """One-shot masks and learned ones on a language model."""
    yield from _seeds("language", "dense", "dense", seeds=seeds)
    for name in ("oneshot_magnitude", "oneshot_wanda", "oneshot_sparsegpt", "maskllm", "srste"):
        yield from _seeds("language", name, "2:4", seeds=seeds)
    for prior in ("sparsegpt", "wanda", "none"):
        yield from _seeds("language", "maskllm", "2:4", {"soft": {"prior": prior}}, seeds=seeds)


def _equal_budget() -> Iterator[Point]:
    """Dense runs made shorter, and sparse ones made longer until they execute what the dense run does."""
    for task, share in product(RANKED, (0.4, 0.6, 0.8)):
        yield from _seeds(task, "dense", "dense", training=_long(TASKS[task]["steps"] * share))
    for name, pattern, task in product(LENGTHENED, ("2:4", "1:16"), RANKED):
        relative = relative_macs(Point(task, name, pattern, SEEDS[0]).config())
        yield from _seeds(task, name, pattern, training=_long(TASKS[task]["steps"] / relative))


def _long(steps: float) -> dict[str, int]:
    """A run of that many steps, rounded to whole intervals of measurement."""
    rounded = EVERY * round(steps / EVERY)
    return {"steps": rounded, "evaluate_every": rounded}


def _adamw_controls() -> Iterator[Point]:
    """What `step` on ResNet9 is to be compared with: the same optimizer without it."""
    yield from _seeds("resnet9", "dense", "dense", training=ADAMW)
    for pattern in ("2:4", "1:16", "1:4", *LATER):
        yield from _seeds("resnet9", "srste", pattern, training=ADAMW)


def _ranked(
    name: str, pattern: str, changes: Mapping[str, Any] | None = None, seeds: tuple[int, ...] = SEEDS
) -> Iterator[Point]:
    """The recipe at a pattern, or at the same density, on every task that it can run on."""
    if name in WITHOUT_GROUPS:
        pattern, changes = f"unstructured:{FREE[pattern]}", {**WITHOUT_GROUPS[name], **(changes or {})}
    for task in ("resnet9",) if name == "sdgp_maxnorm" else RANKED:
        needs_adam = name == "step" and task == "resnet9"
        yield from _seeds(task, name, pattern, changes, seeds, ADAMW if needs_adam else None)


def _seeds(
    task: str, name: str, pattern: str, changes: Mapping[str, Any] | None = None, seeds: tuple[int, ...] = SEEDS,
    training: Mapping[str, Any] | None = None,
) -> Iterator[Point]:  # fmt: skip
    for seed in seeds:
        yield Point(task, name, pattern, seed, changes or {}, training or {})


def described(point: Point) -> dict[str, Any]:
    """What a row of the table says of the run: lambda and gradient mode in every row."""
    config, recipe = point.config(), get_recipe({"base": point.recipe, **point.changes})
    soft = point.changes.get("soft", {})
    return {
        "task": point.task, "recipe": point.recipe, "pattern": point.pattern, "seed": point.seed,
        "lambda": recipe.decay, "gradient": recipe.gradient, "optimizer": config.optimizer.name,
        "prior": soft.get("prior", "magnitude" if point.recipe.startswith("maskllm") else ""),
        "steps": config.steps,
    }  # fmt: skip
