"""The collected table of the study: a row per run, and the comparison of two sets of runs seed by seed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nmsim.files import atomic_write
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import STAGES, get_recipe
from studies.recipes.points import FREE, TASKS, WITHOUT_GROUPS, all_points
from studies.recipes.run import RESULTS, record_path

HERE = Path(__file__).parent
SERIES = ("gradient_variance", "second_moment_variance")
PRIOR = "magnitude"


def collect() -> pd.DataFrame:
    """The rows of all records there are, and those that results.csv has of other runs, saved there in order."""
    paths = [path for path in map(record_path, all_points()) if path.exists()]
    rows = pd.DataFrame([{"key": path.stem, **_row(json.loads(path.read_text()))} for path in paths])
    if RESULTS.exists():
        saved = _read()
        rows = pd.concat([saved[~saved["key"].isin({path.stem for path in paths})], rows]) if paths else saved
    if rows.empty:
        raise SystemExit("nothing has been run yet")
    order = {point.key(): i for i, point in enumerate(all_points())}
    rows = rows[rows["key"].isin(order)].sort_values("key", key=lambda keys: keys.map(order))
    atomic_write(RESULTS, rows.to_csv(index=False, float_format="%.5g"))
    table = _read()
    table["prior"] = table["prior"].fillna("")
    return _labelled(table)


def _read() -> pd.DataFrame:
    return pd.read_csv(RESULTS, keep_default_na=False, na_values=[""])


def _row(record: dict[str, Any]) -> dict[str, Any]:
    """A record with its series of measurements as their mean, or as their first, middle and last."""
    row = {k: v for k, v in record.items() if not isinstance(v, list)}
    churn = [c for c in record.get("churn", []) if c is not None]
    row["churn"] = float(np.mean(churn)) if churn else math.nan
    for name in SERIES:
        values = [math.nan if v is None else v for v in record.get(name) or [math.nan]]
        for place, i in (("early", 0), ("middle", len(values) // 2), ("late", -2 if len(values) > 1 else -1)):
            row[f"{name}_{place}"] = values[i]
    return row


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """With what the figures go by: MACs over dense ones, and in `column` the n:m of each density.

    A run is `plain` that is as long as others of its task and has their optimizer.
    """
    table = table.rename(columns={"lambda": "coefficient"})
    executed = sum(table[f"macs_{stage}"] for stage in STAGES)
    full = table["task"].map({task: TASKS[task]["steps"] for task in TASKS})
    table["relative"] = executed / table["macs_dense"]
    table["budget"] = table["relative"] * table["steps"] / full
    table["column"] = [_column(r, p) for r, p in zip(table["recipe"], table["pattern"], strict=True)]
    control = (table["task"] == "resnet9") & (table["optimizer"] == "adamw") & (table["recipe"] != "step")
    table["plain"] = (table["steps"] == full) & ~control
    return table


def _column(recipe: str, pattern: str) -> str:
    """The n:m whose density a pattern has; of two, a recipe without groups stands under the first (1:4, not 2:8)."""
    if recipe not in WITHOUT_GROUPS:
        return pattern
    density = Pattern.parse(pattern).density
    return next((name for name, d in FREE.items() if d == density), f"{density:.0%}")


@dataclass(frozen=True)
class Difference:
    """The mean of differences between runs of one seed and task, its standard error, and how many there are."""

    mean: float
    error: float
    runs: int

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ± {self.error:.1f} ({self.runs})" if self.runs else "not run"

    def above(self, least: float = 0.0) -> str:
        """Whether it lies above `least`: yes or no beyond two standard errors, else undecided."""
        if self.runs < 3:
            return "not run"
        low, high = self.mean - 2 * self.error, self.mean + 2 * self.error
        return "yes" if low > least else "no" if high < least else "undecided"

    def within(self, most: float) -> str:
        """Whether it lies within `most` of 0 on either side, two standard errors included."""
        if self.runs < 3:
            return "not run"
        far = abs(self.mean)
        return "yes" if far + 2 * self.error < most else "no" if far - 2 * self.error > most else "undecided"


def difference(a: pd.DataFrame, b: pd.DataFrame, value: str = "accuracy", scale: float = 100.0) -> Difference:
    """a - b over the runs that share task and seed, in points; the error is that of the mean over these pairs."""
    keys = ["task", "seed"]
    both = a.dropna(subset=value).merge(b.dropna(subset=value), on=keys, suffixes=("_a", "_b"))
    values = scale * (both[f"{value}_a"] - both[f"{value}_b"]).to_numpy()
    if not len(values):
        return Difference(math.nan, math.nan, 0)
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return Difference(float(values.mean()), error, len(values))


def pick(table: pd.DataFrame, recipe: str, column: str, **other: float | str) -> pd.DataFrame:
    """The runs of a recipe at a density, as its file has it but for `other`: coefficient, gradient or prior."""
    own = get_recipe(recipe)
    wanted = {"coefficient": own.decay, "gradient": own.gradient, "prior": PRIOR if _learns(recipe) else ""} | other
    rows = table[table["plain"] & (table["recipe"] == recipe) & (table["column"] == column)]
    for name, value in wanted.items():
        rows = rows[np.isclose(rows[name], value) if isinstance(value, float) else rows[name] == value]
    return rows


def lengthened(table: pd.DataFrame, recipe: str, column: str) -> pd.DataFrame:
    """The runs of a recipe made longer until they execute what the dense run does."""
    full = table["task"].map({task: TASKS[task]["steps"] for task in TASKS})
    return table[(table["recipe"] == recipe) & (table["column"] == column) & (table["steps"] > full)]


def usual(table: pd.DataFrame) -> pd.DataFrame:
    """The runs of every recipe as its file has it."""
    names = table["recipe"].unique()
    return pd.concat([pick(rows, name, c) for name in names for c, rows in table.groupby("column")])


def _learns(recipe: str) -> bool:
    soft = get_recipe(recipe).soft
    return soft is not None and soft.kind == "choice"
