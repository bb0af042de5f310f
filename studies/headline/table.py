"""Accuracy of the recipe study and costs on machines in one table, a row per recipe, pattern and length of run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from nmsim.files import atomic_write
from nmsim.sweeps import pareto
from studies.headline.costs import MACHINES, SCALES, cost_table
from studies.recipes.points import LENGTHENED, RANKED, TASKS, all_points
from studies.recipes.table import collect, lengthened, usual

HERE = Path(__file__).parent
TABLE = HERE / "headline.csv"
LEAST_SEEDS = 3


def make() -> pd.DataFrame:
    """Every recipe at every pattern of which there are three seeds, with its costs; saved as headline.csv."""
    runs = _runs()
    points = {point.key(): point for point in all_points()}
    groups = runs.groupby(["task", "recipe", "column", "steps"], sort=False)
    rows = groups["accuracy"].agg(["mean", "std", "count"]).set_axis(["accuracy", "spread", "seeds"], axis=1)
    rows["key"] = groups["key"].first()
    rows = rows[rows["seeds"] >= LEAST_SEEDS].reset_index().rename(columns={"column": "pattern"})
    rows = rows.join(cost_table({key: points[key] for key in rows["key"]}), on="key").drop(columns="key")
    rows["usual_length"] = rows["steps"] == rows["task"].map({task: TASKS[task]["steps"] for task in TASKS})
    rows = _relative(rows)
    atomic_write(TABLE, rows.to_csv(index=False, float_format="%.5g"))
    return read()


def read() -> pd.DataFrame:
    """The table as it was saved."""
    return pd.read_csv(TABLE, keep_default_na=False, na_values=[""])


def _runs() -> pd.DataFrame:
    """Runs of recipes as their files have them, and the shorter and longer ones of the comparison at equal cost."""
    runs = collect()
    runs = runs[runs["task"].isin(RANKED) & runs["accuracy"].notna()]
    dense = runs[(runs["recipe"] == "dense") & ((runs["task"] != "resnet9") | (runs["optimizer"] == "sgd"))]
    longer = [lengthened(runs, recipe, pattern) for recipe in LENGTHENED for pattern in ("2:4", "1:16")]
    return pd.concat([usual(runs), dense, *longer]).drop_duplicates("key")


def cost_columns() -> list[str]:
    """The names of the columns of what a run takes."""
    of_machines = [f"{name}.{what}" for name in MACHINES for what in ("train_s", "train_j", "infer_s", "infer_j")]
    return [f"{scale}.{name}" for scale in SCALES for name in ("flops", "weight_bytes", *of_machines)]


def _relative(rows: pd.DataFrame) -> pd.DataFrame:
    """With every cost over that of the dense run of the task, as `….over_dense`."""
    dense = rows[(rows["recipe"] == "dense") & rows["usual_length"]].set_index("task")
    ratios = {f"{name}.over_dense": rows[name] / rows["task"].map(dense[name]) for name in cost_columns()}
    return rows.assign(**ratios)


def front(costs: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """Which rows no other equals or beats in cost and accuracy while beating it in one (boolean [rows])."""
    return pareto.front(np.column_stack([costs, -accuracies]))
