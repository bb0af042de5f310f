"""Fits the constants of the GPUs that are marked `calibrated:` in their files, and prints them beside those there.

    python -m benchmarks.fit_gpus [--data DIR] [--held-out] [MACHINE ...]

A machine has at most four constants, each on a grid; the rows that they are fitted on are those of FITS, of a
measured_gemm.csv. The table that ships with `nmsim validate` has not all of them: single figures of comments in
trackers are cited, not copied. The fit minimises the mean, over the data sets of a machine, of the mean
absolute relative error, one constant at a time until none moves. What a set's way of measuring adds to each of its
rows is fitted first to the skinny rows of all its machines and stands in nmsim/validation/data/overheads.yaml.
Where a library ran the same product in several configurations, the fastest counts. Rows of n:m kernels that
nmsim/validation/data/libraries.yaml describes are left out; what it says of the layouts of dense ones holds.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nmsim
from nmsim.validation.gemm import variant
from nmsim.validation.points import data_type, set_name, slug
from nmsim.validation.settings import DATA, Settings

Space = Mapping[str, tuple[Any, ...]]
Grids = Mapping[tuple[str, ...], Iterable[Any]]


@dataclass(frozen=True)
class Fit:
    """The constants of a machine with their grids, and the rows that they are fitted on: source, device, types."""

    constants: Space
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]


def _nanojoules(*values: float) -> tuple[str, ...]:
    return tuple(f"{value} nJ" for value in values)


TENTHS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SHARES = (0.7, 0.73, 0.75, 0.8, 0.84, 0.85, 0.86, 0.87, 0.88, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 1.0)
STEPS = (0, 50, 100, 128, 150, 175, 200, 210, 220, 230, 240, 250, 300, 400)
HALF = ("fp16", "bf16")

FITS = {
    "rtx3090": Fit(
        {
            "power.core_cycle": _nanojoules(3.0, 3.2, 3.3, 3.4, 3.5, 3.6),
            "kernels.sparse.step_cycles": STEPS,
        },
        (("venom", "RTX3090", HALF),),
    ),
    "rtx3060": Fit(
        {"clock": ("1850 MHz", "1880 MHz", "1910 MHz", "1940 MHz"), "kernels.sparse.step_cycles": STEPS},
        (("ao_174", "RTX3060", HALF),),
    ),
    "rtx4070ti_super": Fit(
        {"clock": ("2610 MHz", "2650 MHz", "2700 MHz", "2750 MHz")}, (("ao_174", "RTX4070TiSuper", HALF),)
    ),
    "a100_sxm4_80gb": Fit(
        {"power.core_cycle": _nanojoules(1.5, 1.6, 1.7, 1.8, 1.9)},
        (("llmcompass", "A100-SXM4-80GB", HALF),),
    ),
    "a100_pcie_40gb": Fit(
        {"kernels.sparse.step_cycles": STEPS}, (("pt_90119", "A100", HALF),)
    ),
    "h100_sxm5": Fit(
        {"power.core_cycle": _nanojoules(2.8, 3.0, 3.2, 3.4, 3.6, 3.8)},
        (("tilelang", "H800-SXM", (*HALF, "fp8")),),
    ),
    "v100_sxm2": Fit(
        {
            "cores.mma_efficiency": SHARES, "memories.dram.efficiency": (0.8, 0.833, 0.85, 0.87, 0.9),
        },
        (("deepbench", "V100-SXM2 (DGX-1)", HALF),),
    ),
    "t4": Fit(
        {
            "kernels.exposed_feed": TENTHS,
            "power.core_cycle": _nanojoules(0.35, 0.4, 0.45, 0.5, 0.55),
        },
        (("deepbench", "T4", HALF),),
    ),
    "mi300x": Fit(
        {
            "cores.mma_efficiency": (0.4, 0.45, 0.5, 0.55), "kernels.sparse.mma_efficiency": (0.25, 0.28, 0.3, 0.35),
            "kernels.fill_cycles": (2500, 5000, 10000),
        },
        (("pt_150578", "MI300X", HALF),),
    ),
    "mi210": Fit(
        {
            "cores.mma_efficiency": SHARES,
            "kernels.dram_efficiency": (0.35, 0.4, 0.45, 0.5, 0.6, 0.8, 1.0),
        },
        (("hipblaslt_mi210", "MI210 (gfx90a 104CU)", HALF), ("llmcompass", "MI210", HALF)),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """The rows of a data set: the products, and what they took, less what measuring added, with that apart; which of
    `libraries`, overrides of the machine, ran each."""

    work: nmsim.Workload
    measured_s: np.ndarray
    overhead_s: np.ndarray
    family: np.ndarray
    libraries: list[dict[str, Any]]
    library: np.ndarray

    def errors(self, name: str, overrides: Mapping[str, Any]) -> list[float]:
        """The mean absolute relative error of each family of patterns on the machine `name` with these overrides."""
        predicted = self.overhead_s.copy()
        for number, own in enumerate(self.libraries):
            rows = np.flatnonzero(self.library == number)
            arch = nmsim.load_arch(name, overrides={**overrides, **own})
            predicted[rows] += nmsim.simulate(arch, self.work.select(rows)).per_op("latency_s")
        error = np.abs(predicted / self.measured_s - 1.0)
        return [float(error[self.family == kind].mean()) for kind in np.unique(self.family)]


def rows_of(table: Path, source: str, device: str, dtypes: tuple[str, ...], part: slice = slice(None)) -> Rows | None:
    """The rows of a source, a device and some data types, of quality A and B, but those of n:m kernels with constants
    of their own; the fastest of a library's equal products; of those `part`; None if the table has none."""
    settings = Settings.beside(Path(DATA))
    fastest: dict[tuple[Any, ...], float] = {}
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            dtype = data_type(row["dtype"])
            wanted = (row["source_key"], row["device"]) == (source, device) and dtype in dtypes
            if wanted and row["quality"] in "AB" and row["time_us"]:
                pattern = row["pattern"].lower().removeprefix("v")
                sizes = [int(float(row[x])) for x in "MNK"]
                kernel = "" if pattern == "dense" else slug(row["kernel"].split(" ")[0])
                if kernel and settings.library(set_name(source, device, dtype, f"{pattern}_{kernel}")):
                    continue
                own = "" if kernel else variant("dense", row["kernel"], "", sizes[2])
                key = (*sizes, pattern, dtype, kernel, own)
                fastest[key] = min(float(row["time_us"]) * 1e-6, fastest.get(key, np.inf))
    fastest = dict(list(fastest.items())[part])
    if not fastest:
        return None
    m, n, k, patterns, types, _, variants = (list(column) for column in zip(*fastest, strict=True))
    work = nmsim.gemms(
        {"m": m, "n": n, "k": k, "pattern": patterns, "operand": ["A"] * len(m), "dtype": types}, name=source
    )
    family = np.array([f"{dtype} {min(pattern.count(':'), 2)}" for pattern, dtype in zip(patterns, types, strict=True)])
    sets = [set_name(source, device, dtype, "dense") for dtype in types]
    named = [f"{name}_{own}" if own else name for name, own in zip(sets, variants, strict=True)]
    names = list(dict.fromkeys(named))
    found = [settings.library(name) for name in names]
    return Rows(
        work, np.array(list(fastest.values())), np.array([settings.overhead_s(name) for name in sets]), family,
        [{} if library is None else library.overrides for library in found],
        np.array([names.index(name) for name in named]),
    )  # fmt: skip


def score(name: str, overrides: Mapping[str, Any], rows: list[Rows]) -> float:
    """The mean over data sets of the mean absolute relative error."""
    return float(np.mean([error for part in rows for error in part.errors(name, overrides)]))


def descend(
    error: Callable[[Mapping[str, Any]], float], grids: Mapping[tuple[str, ...], Iterable[Any]]
) -> dict[str, Any]:
    """The constants of the least error: one after another on its grid, from those of the file, until none moves. A
    constant may stand at several paths."""
    best: dict[str, Any] = {}
    least, moved = error(best), True
    while moved:
        moved = False
        for paths, grid in grids.items():
            for value in grid:
                if (found := error(tried := best | dict.fromkeys(paths, value))) < least - 1e-6:
                    best, least, moved = tried, found, True
    return best


def fitted(name: str, rows: list[Rows]) -> dict[str, Any]:
    """The constants of a machine that fit these rows best."""
    grids = {(path,): grid for path, grid in FITS[name].constants.items()}
    return descend(lambda constants: score(name, constants, rows), grids)


def halves(names: list[str], table: Path) -> Iterator[str]:
    """A line for each machine: the error of constants fitted to every other row, on those rows and on the rest."""
    for name in names:
        fit = FITS[name]
        first, second = (
            [rows for where in fit.rows if (rows := rows_of(table, *where, slice(start, None, 2))) is not None]
            for start in (0, 1)
        )
        if not first or not second:
            yield f"{name:16} too few rows in {table}"
            continue
        found = [(some, rest, fitted(name, some)) for some, rest in ((first, second), (second, first))]
        on, off = (np.mean([score(name, best, x[i]) for *x, best in found]) for i in (0, 1))
        yield f"{name:16} {len(fit.constants)} constants: {100 * on:5.2f} % where fitted, {100 * off:5.2f} % held out"


def report(names: list[str], table: Path) -> Iterator[str]:
    """A line for each machine: its error with the constants of its file, and those that fit better, if any."""
    for name in names:
        fit = FITS[name]
        rows = [part for where in fit.rows if (part := rows_of(table, *where)) is not None]
        if not rows:
            yield f"{name:16} no rows in {table}"
            continue
        better = fitted(name, rows)
        now, then = (score(name, x, rows) for x in ({}, better))
        changes = ", ".join(f"{path} {value}" for path, value in better.items()) or "no better constants"
        yield f"{name:16} {100 * now:5.2f} % -> {100 * then:5.2f} %: {changes}"


def main() -> None:
    """Fit the machines that are named, or all."""
    parser = argparse.ArgumentParser(description="Fit the constants of the GPUs to measured products.")
    parser.add_argument("machines", nargs="*", choices=[*FITS, []], metavar="MACHINE", help=", ".join(FITS))
    parser.add_argument("--data", type=Path, default=Path(DATA), metavar="DIR", help="folder of measured_gemm.csv")
    parser.add_argument("--held-out", action="store_true", help="fit every other row and score the rest, both ways")
    args = parser.parse_args()
    lines = halves if args.held_out else report
    for line in lines(args.machines or list(FITS), args.data / "measured_gemm.csv"):
        print(line, flush=True)


if __name__ == "__main__":
    main()
