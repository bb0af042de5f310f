"""Simulating the points: a row for each, with dense training and BDWP side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

import nmsim
from nmsim.results.result import Result
from nmsim.workloads.optable import Workload
from studies.sat.points import MACHINE, PATTERN, Point, all_points

HERE = Path(__file__).parent
RESULTS = HERE / "results.csv"
ENGINES = ("analytic", "event")
PASSES = ("FF", "BP", "WU")
STAGES = (*PASSES, "PRUNE", "UPDATE", "VECTOR")


def run_all(engines: Sequence[str] = ENGINES) -> None:
    """Write results.csv, a row per point and engine; rows of other engines that are there stay."""
    points = [(point, engine) for engine in engines for point in all_points()]
    table = pd.DataFrame([row(point, engine) for point, engine in tqdm(points, unit="point", mininterval=2)])
    if RESULTS.exists():
        there = pd.read_csv(RESULTS)
        table = pd.concat([there[~there["engine"].isin(engines)], table])
    table.to_csv(RESULTS, index=False, float_format="%.6g")


@lru_cache(maxsize=64)
def step(workload: str, batch: int, recipe: str) -> Workload:
    """One training step."""
    model = nmsim.load_workload(workload, batch=batch)
    return model.training() if recipe == "dense" else model.training(recipe, PATTERN)


def row(point: Point, engine: str = "analytic") -> dict[str, Any]:
    """Latencies of a step by stage, dense and sparse, in seconds."""
    arch = nmsim.load_arch(MACHINE, overrides=point.changes)
    found: dict[str, Any] = {
        "study": point.study, "label": point.label, "network": point.network, "workload": point.workload,
        "batch": point.batch, "engine": engine,
    }  # fmt: skip
    for recipe in ("dense", "bdwp"):
        result = nmsim.simulate(arch, step(point.workload, point.batch, recipe), engine=engine)
        found |= {f"{recipe}_{name}": value for name, value in figures(result).items()}
    return found


def figures(result: Result) -> dict[str, float]:
    """Latency in all and by stage (s), and executed multiply-accumulates."""
    stages = result.breakdown("stage")["latency_s"]
    by_stage = {stage: float(stages.get(stage, 0.0)) for stage in STAGES}
    return {"s": result.latency_s, **by_stage, "macs": result.macs_executed}


def with_speedups(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `speedup` of a whole step and `products`, that of FF, BP and WU alone."""
    passes = {recipe: table[[f"{recipe}_{stage}" for stage in PASSES]].sum(axis=1) for recipe in ("dense", "bdwp")}
    return table.assign(
        speedup=table["dense_s"] / table["bdwp_s"],
        products=passes["dense"] / passes["bdwp"],
        bound=table["dense_macs"] / table["bdwp_macs"],
    )


def pick(table: pd.DataFrame, study: str, label: str = "") -> pd.DataFrame:
    """The rows of a study, in the order of the networks; with a label those of one machine."""
    rows = table[table["study"] == study]
    return rows[rows["label"] == label] if label else rows
