"""The report: results.csv, the figures, and the tables within README.md."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from nmsim.sparsity.recipe import STAGES
from studies.output import grid, write_results
from studies.recipes.claims import lines
from studies.recipes.figures import TITLES, draw_all
from studies.recipes.points import DECAYING, RANKED, RATES, all_points
from studies.recipes.table import HERE, collect, pick, usual

COLUMNS = ("4:8", "2:4", "1:4", "2:8", "1:8", "1:16", "2%")
README = HERE / "README.md"
BEGIN = "<!-- results: written by `python -m studies.recipes --report` -->"


def write_report() -> None:
    """Write all that is made from the runs there are; the text around the tables stays as it is."""
    table = collect()
    errors = table[table["error"].notna()] if "error" in table else table[:0]
    table = table.drop(errors.index)
    draw_all(table, HERE)
    write_results(README, BEGIN, _sections(table, errors))


def _sections(table: pd.DataFrame, errors: pd.DataFrame) -> Iterator[str]:
    yield f"\n{len(table) + len(errors)} of {len(all_points())} runs, {len(errors)} of them ended in an error.\n"
    yield from _claims(table)
    for task in RANKED:
        yield from _accuracies(table[table["task"] == task], task)
    yield from _variants(table)
    yield from _costs(table)
    yield from _perplexities(table)
    yield from _errors(errors)


def _spread(rows: pd.DataFrame, value: str = "accuracy", scale: float = 100.0, digits: int = 1) -> str:
    """Mean ± standard deviation over seeds, with their number where it is not 3."""
    if rows.empty:
        return ""
    number = f" ({len(rows)})" if len(rows) != 3 else ""
    spread = f" ± {scale * rows[value].std():.{digits}f}" if len(rows) > 1 else ""
    return f"{scale * rows[value].mean():.{digits}f}{spread}{number}"


def _claims(table: pd.DataFrame) -> Iterator[str]:
    yield "## What is said, and what was seen\n"
    head = ["claim", "compared", *(TITLES[task] for task in RANKED), "all", "agrees"]
    body, last = [], ""
    for x in lines(table):
        body.append([x.claim if x.claim != last else "", x.compared, *x.by_task, x.overall, x.verdict])
        last = x.claim
    yield grid(head, body)


def _accuracies(table: pd.DataFrame, task: str) -> Iterator[str]:
    rows = usual(table)
    dense = pick(table, "dense", "dense")
    yield f"## {TITLES[task]}\n\nDense: {_spread(dense)} %.\n"
    columns = [c for c in COLUMNS if c in set(rows["column"])]
    names = sorted(set(rows["recipe"]) - {"dense"}, key=lambda name: (-_mean(pick(table, name, "1:16")), name))
    body = []
    for name in names:
        found = rows[rows["recipe"] == name]
        if found.empty:
            continue
        first = found.iloc[0]
        cells = [_spread(found[found["column"] == c]) for c in columns]
        body.append([name, f"{first['coefficient']:g}", first["gradient"], *cells])
    yield grid(["recipe", "lambda", "gradient", *columns], body)


def _mean(rows: pd.DataFrame) -> float:
    return float(rows["accuracy"].mean()) if len(rows) else -1.0


def _variants(table: pd.DataFrame) -> Iterator[str]:
    yield "## Lambda of SR-STE, and the other gradient mode\n"
    kinds = [("srste", {"coefficient": rate}) for rate in sorted({*RATES, 2e-4})]
    kinds += [(name, {"gradient": mode}) for name in DECAYING for mode in ("ste", "autodiff")]
    body = []
    for name, other in kinds:
        cells = [_spread(_at(pick(table, name, c, **other), task)) for task in RANKED for c in ("2:4", "1:16")]
        rate, mode = other.get("coefficient", 0.0), other.get("gradient", "ste")
        body.append([name, f"{rate:g}", str(mode), *cells])
    yield grid(["recipe", "lambda", "gradient", *(f"{task} {c}" for task in RANKED for c in ("2:4", "1:16"))], body)


def _at(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    return rows[rows["task"] == task]


def _costs(table: pd.DataFrame) -> Iterator[str]:
    """Training MACs by stage, the share of MACs reached by the pattern, and churn, at 2:4 and 1:16 on ResNet9."""
    yield "## What the training executed: ResNet9\n"
    yield "MACs of FF, BP, WU and in all over those of the dense run; the first step whose forward products are sparse;"
    yield "the share of the MACs of the pruned stages that the pattern reached; churn of the masks per 25 steps.\n"
    rows, body = usual(_at(table, "resnet9")), []
    dense = pick(_at(table, "resnet9"), "dense", "dense").mean(numeric_only=True)
    for (name, column), found in rows[rows["column"].isin(["2:4", "1:16"])].groupby(["recipe", "column"], sort=False):
        mean = found.mean(numeric_only=True)
        stages = [f"{mean[f'macs_{s}'] / dense[f'macs_{s}']:.2f}" for s in STAGES]
        first = "never" if np.isnan(mean["first_sparse_step"]) else f"{mean['first_sparse_step']:.0f}"
        churn = "" if np.isnan(mean["churn"]) else f"{100 * mean['churn']:.1f} %"
        reached = f"{100 * mean['pruned_share']:.0f} %"
        body.append([str(name), str(column), *stages, f"{mean['relative']:.3f}", first, reached, churn])
    head = ["recipe", "pattern", *STAGES, "all", "sparse from", "reached", "churn"]
    yield grid(head, sorted(body))


def _perplexities(table: pd.DataFrame) -> Iterator[str]:
    rows = _at(table, "language")
    if rows.empty:
        return
    rows = rows.assign(perplexity=np.exp(rows["loss"]))
    yield "## Language model, 2:4\n"
    groups = rows.groupby(["recipe", "prior"], sort=False)
    body = [[name, prior, _spread(found, "perplexity", 1.0, 3), _spread(found)] for (name, prior), found in groups]
    yield grid(["recipe", "prior", "perplexity", "accuracy, %"], body)


def _errors(errors: pd.DataFrame) -> Iterator[str]:
    if errors.empty:
        return
    yield "## Runs that could not be\n"
    groups = errors.groupby(["recipe", "pattern", "error"], sort=False).size()
    yield grid(["recipe", "pattern", "runs", "why"], [[r, p, str(n), e] for (r, p, e), n in groups.items()])
