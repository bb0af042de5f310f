"""The report: the figures, and the tables within README.md."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

import nmsim
from studies.output import grid, write_results
from studies.sat.claims import claims
from studies.sat.figures import SWITCHED_OFF, draw_all
from studies.sat.points import ARRAYS, BANDWIDTHS, MACHINE, NETWORKS
from studies.sat.run import HERE, STAGES, pick, with_speedups

README = HERE / "README.md"
BEGIN = "<!-- results: written by `python -m studies.sat` -->"


def write_report(table: pd.DataFrame) -> None:
    """Write all that is made from the simulated points; the text around the tables stays as it is."""
    table = with_speedups(table)
    draw_all(table, HERE)
    write_results(README, BEGIN, _sections(table))


def _sections(table: pd.DataFrame) -> Iterator[str]:
    yield f"\nEngine: {table['engine'].iloc[0]}.\n"
    yield "## What was expected, and what was seen\n"
    yield grid(
        ["expected", "seen", "appears"], [[c.expected, c.seen, "yes" if c.holds else "no"] for c in claims(table)]
    )
    yield from _networks(table)
    yield from _ablation(table)
    yield from _sweeps(table)
    yield from _sensitivity(table)
    yield "## What the machine's file assumes\n"
    yield from (
        f"- `{line.partition(' ')[0]}` {line.partition(' ')[2]}" for line in nmsim.load_arch(MACHINE).assumptions
    )


def _networks(table: pd.DataFrame) -> Iterator[str]:
    yield "## A training step, dense and BDWP 2:8\n"
    rows = pick(table, "ablation", "none")
    body = [
        [
            x["network"], f"`{x['workload']}`", f"{x['dense_s']:.3f}", f"{x['bdwp_s']:.3f}",
            *(f"{x[name]:.2f}" for name in ("speedup", "products", "bound")),
            *(f"{100 * x[f'bdwp_{s}'] / x['bdwp_s']:.1f} %" for s in STAGES),
        ]
        for _, x in rows.iterrows()
    ]  # fmt: skip
    mean = rows[["speedup", "products", "bound"]].mean()
    body.append(["mean", "", "", "", *(f"{value:.2f}" for value in mean), *([""] * len(STAGES))])
    head = [
        "network",
        "workload",
        "dense, s",
        "2:8, s",
        "speed-up",
        "FF+BP+WU",
        "by MACs",
        *(f"2:8 {s}" for s in STAGES),
    ]
    yield grid(head, body)
    yield "![speed-up](speedup.png) ![stages](stages.png)\n"


def _ablation(table: pd.DataFrame) -> Iterator[str]:
    yield "## The three optimisations\n"
    yield "Time of a step over that with all three on, and speed-up over dense *on that machine*; means.\n"
    base = pick(table, "ablation", "none")
    labels = {label: SWITCHED_OFF.get(label, label) for label in pick(table, "ablation")["label"].unique()}
    body = []
    for label, name in labels.items():
        rows = pick(table, "ablation", label)
        ratios = [(rows[f"{r}_s"].to_numpy() / base[f"{r}_s"].to_numpy()).mean() for r in ("dense", "bdwp")]
        body.append([name, *(f"{ratio:.3f}" for ratio in ratios), f"{rows['speedup'].mean():.2f}"])
    yield grid(["off", "dense, time", "2:8, time", "speed-up"], body)
    yield "![ablation](ablation.png)\n"


def _sweeps(table: pd.DataFrame) -> Iterator[str]:
    yield "## Array size and DRAM bandwidth\n"
    for study, values, what in (("array", ARRAYS, "array"), ("bandwidth", BANDWIDTHS, "GB/s")):
        rows = pick(table, study)
        curves = rows.pivot(index="network", columns="label", values="speedup").loc[list(NETWORKS)]
        labels = [f"{value:g}" for value in values]
        body = [[str(network), *(f"{curves.loc[network, x]:.2f}" for x in labels)] for network in curves.index]
        body.append(["mean", *(f"{curves[x].mean():.2f}" for x in labels)])
        products = rows.groupby("label")["products"].mean()
        body.append(["mean, FF+BP+WU", *(f"{products[x]:.2f}" for x in labels)])
        yield grid([what, *labels], body)
    yield "![sweeps](sweeps.png)\n"


def _sensitivity(table: pd.DataFrame) -> Iterator[str]:
    yield "## What the mean rests on\n"
    rows = pick(table, "sensitivity")
    base = pick(table, "sensitivity", "as assumed").set_index("network")[["speedup", "products"]]
    body = []
    for label, found in rows.groupby("label", sort=False):
        mine = base.copy()
        mine.update(found.set_index("network")[["speedup", "products"]])
        body.append(
            [str(label), *(f"{mine.loc[n, 'speedup']:.2f}" for n in NETWORKS), *(f"{x:.2f}" for x in mine.mean())]
        )
    yield grid(["changed", *NETWORKS, "mean", "mean, FF+BP+WU"], body)
