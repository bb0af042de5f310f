"""What papers say about recipes, beside what was seen here: one line for each comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from studies.recipes.figures import gradient_gap, moving
from studies.recipes.points import DECAYING, LENGTHENED, RANKED, RATES
from studies.recipes.table import Difference, difference, lengthened, pick

FAR = 5.0
"""Points that one must lie below another to be `far` below; sources have 7 to 8 on ImageNet."""


@dataclass(frozen=True)
class Line:
    """One comparison: the claim it belongs to, what is compared, the figure by task and in all, the verdict."""

    claim: str
    compared: str
    by_task: tuple[str, ...]
    overall: str
    verdict: str


def lines(table: pd.DataFrame) -> Iterator[Line]:
    """Every comparison, in the order of the claims."""
    yield from _decay(table)
    yield from _order(table)
    yield from _groups(table)
    yield from _random(table)
    yield from _two_directions(table)
    yield from _growth(table)
    yield from _equal_budget(table)
    yield from _explanations(table)
    yield from _language(table)


def _compared(claim: str, what: str, a: pd.DataFrame, b: pd.DataFrame, least: float = 0.0) -> Line:
    """A line that says whether a lies above b by more than `least` points."""
    total = difference(a, b)
    return Line(claim, what, _by_task(a, b), str(total), total.above(least))


def _by_task(a: pd.DataFrame, b: pd.DataFrame) -> tuple[str, ...]:
    found = (difference(a[a["task"] == task], b[b["task"] == task]) for task in RANKED)
    return tuple(f"{d.mean:+.1f} ± {d.error:.1f}" if d.runs else "" for d in found)


def best_rate(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """The runs of SR-STE at the coefficient that is best in the mean of each task: chosen with hindsight."""
    best = []
    for task in RANKED:
        here = table[table["task"] == task]
        best.append(max((pick(here, "srste", column, coefficient=r) for r in (2e-4, *RATES)), key=_mean))
    return pd.concat(best)


def _mean(rows: pd.DataFrame) -> float:
    return float(rows["accuracy"].mean()) if len(rows) else -1.0


def _decay(table: pd.DataFrame) -> Iterator[Line]:
    for name in DECAYING:
        a, b = pick(table, "srste", "2:4"), pick(table, name, "2:4")
        yield _compared("SR-STE at or above decay at 2:4", f"srste - {name}", a, b)
    for name in DECAYING:
        a, b = pick(table, name, "1:16"), pick(table, "srste", "1:16")
        yield _compared("decay above SR-STE (lambda 2e-4) at 1:16", f"{name} - srste", a, b)
    for name in DECAYING:
        a = pick(table, name, "1:16")
        yield _compared("decay above SR-STE at its best lambda at 1:16", f"{name} - srste", a, best_rate(table, "1:16"))
    for name in DECAYING:
        a = pick(table, name, "1:16", gradient="autodiff")
        claim = "decay with the autodiff gradient above SR-STE at 1:16"
        yield _compared(claim, f"{name} - srste", a, pick(table, "srste", "1:16"))


def _order(table: pd.DataFrame) -> Iterator[Line]:
    order = ("mdgf_exponential", "sdgf_geometric", "mdgf_linear", "sdgf_stepwise", "srste")
    claim = "at 1:16 (there on ViT-Base): MdGf-Exp > SdGf-Geo > MdGf-Lin > SdGf-Step > SR-STE"
    for a, b in pairwise(order):
        yield _compared(claim, f"{a} - {b}", pick(table, a, "1:16"), pick(table, b, "1:16"))
    a, b = pick(table, "pdp", "1:4"), pick(table, "srste", "1:4")
    yield _compared("PDP more than 3.6 points above others at 1:4", "pdp - srste", a, b, 3.6)


def _equal_budget(table: pd.DataFrame) -> Iterator[Line]:
    dense = pick(table, "dense", "dense")
    for column in ("2:4", "1:16"):
        for name in LENGTHENED:
            claim = "at the executed MACs of dense, lengthened: at or above dense"
            yield _compared(claim, f"{name} {column} - dense", lengthened(table, name, column), dense)
    for name in ("mask_decay", "mdgf_linear", "sdgf_geometric", "bdwp", "static"):
        a, b = lengthened(table, name, "1:16"), lengthened(table, "srste", "1:16")
        yield _compared("at equal executed MACs, 1:16: above SR-STE", f"{name} - srste", a, b)


def _groups(table: pd.DataFrame) -> Iterator[Line]:
    claim = "SR-STE: 4:8 > 2:4 > 2:8 > 1:4"
    for a, b in (("4:8", "2:4"), ("2:4", "2:8"), ("2:8", "1:4"), ("1:4", "1:8"), ("1:8", "1:16")):
        yield _compared(claim, f"{a} - {b}", pick(table, "srste", a), pick(table, "srste", b))


def _random(table: pd.DataFrame) -> Iterator[Line]:
    claim = f"random far below magnitude (more than {FAR:g} points)"
    for a, b in (("sdgp", "sdgp_random"), ("static", "random"), ("srste", "random")):
        for column in ("2:4", "1:16"):
            yield _compared(claim, f"{a} - {b}, {column}", pick(table, a, column), pick(table, b, column), FAR)


def _two_directions(table: pd.DataFrame) -> Iterator[Line]:
    a, b = pick(table, "bdwp", "2:8"), pick(table, "dense", "dense")
    total = difference(a, b)
    yield Line("BDWP within a point of dense at 2:8", "bdwp - dense", _by_task(a, b), str(total), total.within(1.0))
    for column in ("2:4", "1:16"):
        a, b = pick(table, "bimask", column), pick(table, "srste", column)
        total = difference(a, b)
        claim, what = "Bi-Mask within a point of SR-STE", f"bimask - srste, {column}"
        yield Line(claim, what, _by_task(a, b), str(total), total.within(1.0))


def _growth(table: pd.DataFrame) -> Iterator[Line]:
    names = {"2:4": "50 %", "1:4": "25 %", "1:8": "12.5 %", "1:16": "6.25 %", "2%": "2 %"}
    for column, kept in names.items():
        a, b = pick(table, "srigl", column), pick(table, "srigl_fixed", column)
        yield _compared("SRigL with ablation at or above without", f"{kept} kept", a, b)
    many, few = _gaps(table, "2:4"), _gaps(table, "2%")
    yield _compared("that gap grows with sparsity", "gap at 2 % - gap at 50 %", few, many)


def _gaps(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """The gap between SRigL with ablation and without, in place of an accuracy."""
    both = pick(table, "srigl", column).merge(pick(table, "srigl_fixed", column), on=["task", "seed"])
    return both.assign(accuracy=both["accuracy_x"] - both["accuracy_y"])[["task", "seed", "accuracy"]]


def _explanations(table: pd.DataFrame) -> Iterator[Line]:
    for column in ("2:4", "1:16"):
        for name in DECAYING:
            a, b = (pick(table, name, column, gradient=mode) for mode in ("autodiff", "ste"))
            total = gradient_gap(table, name, column)
            what = f"{name}, {column}: autodiff - ste"
            yield Line("autodiff gradient above straight-through", what, _by_task(a, b), str(total), total.above())
    found = [_rank_correlation(table, task) for task in RANKED]
    total = Difference(float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(len(found))), len(found))
    verdict = {"yes": "no", "no": "yes"}.get(total.above(), total.above())
    by_task, overall = tuple(f"{r:+.2f}" for r in found), f"{total.mean:+.2f} ± {total.error:.2f} (3 tasks)"
    yield Line("accuracy falls as churn rises", "rank correlation at 1:16", by_task, overall, verdict)


def _rank_correlation(table: pd.DataFrame, task: str) -> float:
    means = moving(table, task, "1:16")
    return float(spearmanr(means["churn"], means["accuracy"]).statistic) if len(means) > 2 else np.nan


def _language(table: pd.DataFrame) -> Iterator[Line]:
    table = table[table["task"] == "language"]
    learned = pick(table, "maskllm", "2:4", prior="sparsegpt")
    sparsegpt, wanda, magnitude = (pick(table, f"oneshot_{n}", "2:4") for n in ("sparsegpt", "wanda", "magnitude"))
    claim = "perplexity at 2:4: MaskLLM < SparseGPT < Wanda far below magnitude"
    pairs = {
        "magnitude - wanda": (magnitude, wanda), "wanda - sparsegpt": (wanda, sparsegpt),
        "sparsegpt - maskllm (prior sparsegpt)": (sparsegpt, learned),
        "sparsegpt - maskllm (prior magnitude)": (sparsegpt, pick(table, "maskllm", "2:4")),
    }  # fmt: skip
    for what, (a, b) in pairs.items():
        total = difference(a, b, "loss", 1.0)
        figure = f"{total.mean:+.3f} ± {total.error:.3f} nats ({total.runs})" if total.runs else "not run"
        yield Line(claim, what, ("", "", ""), figure, total.above())
