"""The questions of the battery: prompts, their answers, and what one reaches who knows the form but not the content."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nmsim.errors import UnsupportedError
from nmsim.train.data.dataset import Dataset
from nmsim.train.data.world import Items, World

SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions of a task and a split, answered by generation, with the share that is right by `chance`.

    `offered` [N, C], where there is a choice, are the answers to choose from and `right` [N] the place of the right
    one; `labelled` are the same choices as a prompt that is answered with a label.
    """

    task: str
    split: str
    items: Items
    chance: float
    offered: np.ndarray | None = None
    right: np.ndarray | None = None
    labelled: Items | None = None


def world_of(data: Dataset) -> World:
    """The world of a dataset `knowledge`; raises UnsupportedError for other data."""
    world = data.info.get("world")
    if not isinstance(world, World):
        raise UnsupportedError(f"the battery asks about the world of data 'knowledge'; {data.name!r} has none")
    return world


def closed_book(world: World, rng: np.random.Generator) -> Iterator[Questions]:
    """Every fact of the world: those of frequent subjects, then those of rare ones. Training has seen them all."""
    every, frequent = world.facts()
    for task, chosen in (("fact_frequent", frequent), ("fact_rare", ~frequent)):
        if not chosen.any():
            continue
        items = Items(every.prompts[chosen], every.answers[chosen])
        offered, right = world.choices(items.answers[:, 0], rng)
        labels = world.first["label"] + right[:, None]
        labelled = Items(world.pick_prompts(items, offered), labels)
        yield Questions(task, "train", items, 1 / world.sizes["object"], offered, right, labelled)


def open_book(world: World, rng: np.random.Generator, count: int) -> Iterator[Questions]:
    """Lookups, sums and lists to be sorted, up to `count` different ones of those that training had and had not."""
    for task in ("find", "add", "sort"):
        for split in SPLITS:
            drawn = world.items(task, rng, count, held_out=split == "test")
            _, once = np.unique(drawn.prompts, axis=0, return_index=True)
            items = Items(drawn.prompts[once], drawn.answers[once])
            yield Questions(task, split, items, chance_level(world, task))


def chance_level(world: World, task: str) -> float:
    """The share of right answers of one who says one of the values told, any number, the items in any order."""
    told, values = world.sizes["told"], world.sizes["value"]
    levels = {
        "find": (1 + (told - 1) / values) / told,  # another of the values told may be the same
        "add": 1 / world.sizes["number"],
        "sort": 1 / math.factorial(world.sizes["listed"]),
    }
    return levels[task]
