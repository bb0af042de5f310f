"""The report: the figures, and the tables within README.md."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

import nmsim
from studies.output import grid, write_results
from studies.sat.claims import claims
from studies.sat.figures import SWITCHED_OFF, draw_all
from studies.sat.points import ARRAYS, BANDWIDTHS, BATCH, MACHINE, NETWORKS
from studies.sat.run import ENGINES, HERE, STAGES, pick, with_speedups

README = HERE / "README.md"
BEGIN = "<!-- results: written by `python -m studies.sat` -->"


def write_report(table: pd.DataFrame) -> None:
    """Write all that is made from the simulated points; the text around the tables stays as it is."""
    table = with_speedups(table)
    analytic, event = (table[table["engine"] == engine] for engine in ENGINES)
    draw_all(analytic, HERE)
    write_results(README, BEGIN, _sections(analytic, event))


def _sections(analytic: pd.DataFrame, event: pd.DataFrame) -> Iterator[str]:
    yield "\nAnalytic engine, layer after layer, where nothing else is said.\n"
    yield "## What was expected, and what was seen\n"
    yield grid(
        ["expected", "seen", "appears", "seen with overlap (event engine)", "appears"], verdicts(analytic, event)
    )
    yield from _networks(analytic)
    yield from _ablation(analytic)
    yield from _sweeps(analytic)
    yield from _sensitivity(analytic)
    yield from _overlap(analytic, event)
    yield "## What the machine's file assumes\n"
    yield from (
        f"- `{line.partition(' ')[0]}` {line.partition(' ')[2]}" for line in nmsim.load_arch(MACHINE).assumptions
    )


def verdicts(*tables: pd.DataFrame) -> list[list[str]]:
    """Rows of what was expected: the expectation, and of each table what was seen and whether it was that."""
    return [
        [found[0].expected, *(text for claim in found for text in (claim.seen, "yes" if claim.holds else "no"))]
        for found in zip(*map(claims, tables), strict=True)
    ]


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


def _overlap(analytic: pd.DataFrame, event: pd.DataFrame) -> Iterator[str]:
    yield "## With overlap: the event engine\n"
    yield "Seconds of a step and speed-up of both engines; stages by what they add to the step.\n"
    after, beside = (pick(table, "ablation", "none") for table in (analytic, event))
    body = [
        [
            y["network"], *(f"{r[f'{recipe}_s']:.3f}" for recipe in ("dense", "bdwp") for r in (x, y)),
            *(f"{r['speedup']:.2f}" for r in (x, y)),
            *(f"{100 * y[f'bdwp_{s}'] / y['bdwp_s']:.1f} %" for s in STAGES),
        ]
        for (_, x), (_, y) in zip(after.iterrows(), beside.iterrows(), strict=True)
    ]  # fmt: skip
    means = [f"{rows['speedup'].mean():.2f}" for rows in (after, beside)]
    body.append(["mean", *[""] * 4, *means, *[""] * len(STAGES)])
    times = [f"{what}, {how}" for what in ("dense", "2:8", "speed-up") for how in ("in turn", "overlap")]
    yield grid(["network", *times, *(f"2:8 {stage}" for stage in STAGES)], body)
    for study, title in (("ablation", "off"), ("array", "array"), ("bandwidth", "GB/s"), ("sensitivity", "changed")):
        yield grid([title, "2:8, time", "speed-up, overlap", "in turn"], list(_means(analytic, event, study)))


def _means(analytic: pd.DataFrame, event: pd.DataFrame, study: str) -> Iterator[list[str]]:
    """Of each machine of a study that runs all networks: mean time of a 2:8 step over that of the machine as it is,
    and mean speed-ups."""
    base = pick(event, "ablation", "none")["bdwp_s"].to_numpy()
    for label in pick(event, study)["label"].unique():
        rows, turns = (pick(table, study, label) for table in (event, analytic))
        if len(rows) == len(base):
            time = (rows["bdwp_s"].to_numpy() / base).mean() if rows["batch"].eq(BATCH).all() else None
            name = SWITCHED_OFF.get(label, label)
            means = (f"{table['speedup'].mean():.2f}" for table in (rows, turns))
            yield [name, "" if time is None else f"{time:.3f}", *means]


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
