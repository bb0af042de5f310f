"""The report: the figures, and the tables within README.md."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from studies.headline.costs import LARGE, MACHINES
from studies.headline.figures import MACHINE_TITLES, draw_all
from studies.headline.table import HERE, front
from studies.output import grid, write_results
from studies.recipes.figures import TITLES
from studies.recipes.points import RANKED

README = HERE / "README.md"
BEGIN = "<!-- results: written by `python -m studies.headline --report` -->"
SHOWN = ("2:4", "2:8", "1:16")


def write_report(rows: pd.DataFrame) -> None:
    """Draw the figures and write the tables; the text around them stays as it is."""
    draw_all(rows, HERE)
    write_results(README, BEGIN, _sections(rows))


def _sections(rows: pd.DataFrame) -> Iterator[str]:
    usual = rows[rows["usual_length"]]
    yield f"\n{len(usual)} recipes at a pattern, each of at least three seeds.\n"
    yield from _fronts(usual)
    for task in RANKED:
        yield from _table(usual[usual["task"] == task], task)


def _fronts(rows: pd.DataFrame) -> Iterator[str]:
    """What no other recipe and pattern beats in accuracy and in time of the large network, by task and machine."""
    yield "## Pareto fronts: accuracy against training time of the large network\n"
    body = []
    for task in RANKED:
        here = rows[rows["task"] == task]
        for machine in MACHINES:
            cost = here[f"large.{machine}.train_s.over_dense"]
            best = here[front(cost.to_numpy(), here["accuracy"].to_numpy())].assign(cost=cost)
            names = [
                f"{r.recipe} {r.pattern} ({100 * r.accuracy:.1f} % at {r.cost:.2f})"
                for r in best.sort_values("cost").itertuples()
            ]
            body.append([TITLES[task], MACHINE_TITLES[machine], "; ".join(names)])
    yield grid(["task", "machine", "on the front (time over dense)"], body)


def _table(rows: pd.DataFrame, task: str) -> Iterator[str]:
    name, batch = LARGE[task]
    yield f"## {TITLES[task]}, costed as `{name}` at batch {batch}\n"
    yield "Costs over those of the dense run; in the first row its own, for the steps of the study.\n"
    costs = ["flops", *(f"{machine}.{what}" for machine in MACHINES for what in ("train_s", "train_j", "infer_s"))]
    dense = rows[rows["recipe"] == "dense"].iloc[0]
    first = [f"{dense[f'large.{c}']:.3g}" for c in [*costs, "weight_bytes"]]
    body = [["dense", "dense", _accuracy(dense), *first]]
    for pattern in SHOWN:
        for _, row in rows[rows["pattern"] == pattern].sort_values("accuracy", ascending=False).iterrows():
            ratios = [f"{row[f'large.{c}.over_dense']:.2f}" for c in [*costs, "weight_bytes"]]
            body.append([row["recipe"], pattern, _accuracy(row), *ratios])
    heads = [f"{MACHINE_TITLES[m]} {what}" for m in MACHINES for what in ("time, s", "energy, J", "inference, s")]
    yield grid(["recipe", "pattern", "accuracy, %", "FLOPs", *heads, "weights, B"], body)


def _accuracy(row: pd.Series) -> str:
    return f"{100 * row['accuracy']:.1f} ± {100 * row['spread']:.1f}"
