"""What the runs of the recipe study cost on machines: the very network that was trained, and a large one like it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

import nmsim
from nmsim.report.footprint import kept_bytes
from nmsim.train.config import TrainingFile
from nmsim.train.tasks import network_for
from nmsim.train.update import rule_name
from nmsim.workloads.optable import Workload
from studies.recipes.budget import data_of, macs
from studies.recipes.points import Point

MACHINES = {"sat": "sat_vcu1525", "a100": "a100_sxm4_80gb", "h100": "h100_sxm5"}
LARGE = {"resnet9": ("resnet9", 128), "vit": ("vit_cifar", 128), "translation": ("transformer_base", 64)}
"""The large network of a task and the samples of its batch."""
SCALES = ("trained", "large")


def costs(point: Point) -> dict[str, float]:
    """Training FLOPs, time and energy of the whole run, and latency and bytes of the pruned network, by scale.

    FLOPs count two for each multiply-accumulate that groups along k do not let a machine skip. Seconds and joules are
    those of as many steps as the run had, at both scales.
    """
    config = point.config()
    return {
        f"{scale}.{name}": value
        for scale in SCALES
        for name, value in _costs(_network(point, config, scale), config).items()
    }


def _network(point: Point, config: TrainingFile, scale: str) -> Workload:
    """The forward pass of the network at a scale."""
    if scale == "large":
        return _large(*LARGE[point.task])
    rng = np.random.default_rng(config.seed)
    return network_for(data_of(config), config.model.name, config.model.sizes, rng).plan(config.batch).forward()


@lru_cache
def _large(name: str, batch: int) -> Workload:
    return nmsim.load_workload(name, batch=batch)


@lru_cache
def _machine(name: str) -> Any:
    return nmsim.load_arch(name)


def _costs(network: Workload, config: TrainingFile) -> dict[str, float]:
    recipe = config.described
    run = network.training(recipe, config.pattern, steps=config.steps, optimizer=rule_name(config))
    forward = any(prune.stage == "FF" for prune in recipe.prunes)
    deployed = network.inference(config.pattern if forward else "dense")
    counted = macs(run)
    found = {
        "flops": 2 * sum(counted[f"macs_{stage}"] for stage in ("FF", "BP", "WU")),
        "flops_dense": 2 * counted["macs_dense"],
        "weight_bytes": kept_bytes(deployed),
    }
    for name, arch in MACHINES.items():
        machine = _machine(arch)
        trained, used = nmsim.simulate(machine, run), nmsim.simulate(machine, deployed)
        found |= {
            f"{name}.train_s": trained.latency_s, f"{name}.train_j": trained.energy_j,
            f"{name}.infer_s": used.latency_s, f"{name}.infer_j": used.energy_j,
        }  # fmt: skip
    return found


def cost_table(points: Mapping[str, Point]) -> pd.DataFrame:
    """A row of costs for each named point; points that differ in their seed alone are simulated once."""
    known: dict[Any, dict[str, float]] = {}
    rows = {}
    for key, point in points.items():
        same = Point(point.task, point.recipe, point.pattern, 1, point.changes, point.training).key()
        if same not in known:
            known[same] = costs(point)
        rows[key] = known[same]
    return pd.DataFrame.from_dict(rows, orient="index")
