"""`nmsim list`: what there is to choose from, and what the figures of a result are called."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from nmsim.cli.parser import add_formats, one_of, word
from nmsim.errors import UnsupportedError

Row = dict[str, object]

FORMAT_MEANINGS = {
    "dense": "every element, no indices",
    "packed": "the n elements kept of each group, and the place of each: ceil(log2 m) bits",
    "bitmask": "the non-zeros, and one bit per element",
    "combinatorial": "the elements kept, and ceil(log2 C(m, n)) bits per group",
    "csr": "the non-zeros, a column index each, and 32-bit row pointers",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("kind", type=one_of("list", LISTS), metavar="KIND", help=", ".join(LISTS))
    parser.add_argument("arch", nargs="?", type=word, metavar="ARCH", help="with `assumptions`: the machine")
    add_formats(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the list."""
    from nmsim.report.tables import csv_text
    from nmsim.results.io import dump

    rows = _rows(args.kind, args.arch)
    if args.json:
        sys.stdout.write(dump(rows))
    elif args.csv:
        sys.stdout.write(csv_text(rows))
    else:
        print(_text(rows) if rows else "Every number of the machine has a source.")
    return 0


def _rows(kind: str, arch: str | None) -> list[Row]:
    if kind == "assumptions":
        if arch is None:
            raise UnsupportedError("list assumptions needs a machine: nmsim list assumptions ARCH")
        return _assumptions(arch)
    if arch is not None:
        raise UnsupportedError(f"list {kind} takes no further argument, got {arch!r}")
    return LISTS[kind]()


def _text(rows: list[Row]) -> str:
    """The rows as a table; a key that ends in a unit is a quantity, and its column is named without the unit."""
    from nmsim.report.tables import quantity, table

    units = {key: unit for key in rows[0] for suffix, unit in _SUFFIXES.items() if key.endswith(suffix)}
    headers = [
        next((key.removesuffix(s) for s in _SUFFIXES if key.endswith(s)), key).replace("_", " ") for key in rows[0]
    ]
    cells = [
        [quantity(float(str(value)), units[key]) if key in units else value for key, value in row.items()]
        for row in rows
    ]
    return table(cells, headers, "".join("r" if key in units else "l" for key in rows[0]), indent=0)


_SUFFIXES = {"_hz": "Hz", "_mac_per_s": "MAC/s", "_macs": "MAC", "_count": ""}


def _arches() -> list[Row]:
    from nmsim import library
    from nmsim.arch.capability import modes
    from nmsim.arch.load import load_arch
    from nmsim.report.machines import peak

    rows: list[Row] = []
    for name in library.names("arch_configs"):
        arch = load_arch(name)
        dtype, rate = peak(arch)
        rows.append({
            "name": name, "clock_hz": arch.clock, "peak_mac_per_s": rate, "dtype": dtype,
            "sparse": modes(arch), "title": arch.title,
        })  # fmt: skip
    return rows


def _workloads() -> list[Row]:
    from nmsim import library
    from nmsim.workloads.load import load_workload

    rows: list[Row] = []
    for name in library.names("workloads"):
        model = load_workload(name).require_model()
        rows.append({
            "name": name, "parameters_count": model.parameters, "sample_macs": model.macs, "title": model.file.title
        })  # fmt: skip
    return rows


def _recipes() -> list[Row]:
    """Each recipe with the products that become sparse, and the bound on the speed-up at 2:4 and 1:8: of a training
    step, or, where training is dense or there is none, of an inference."""
    from nmsim.sparsity.recipe import all_recipes

    rows: list[Row] = []
    for r in all_recipes():
        shares = r.stage_shares(0.5)
        sparse, of = [stage for stage, share in shares.items() if share < 1], "training step"
        bound = r.speedup_bound
        if not sparse and r.prunes:
            sparse, bound, of = ["FF"], r.inference_bound, "inference"
        rows.append({
            "name": r.name, "sparse": "+".join(sparse) or "-", "bound_2:4": f"{bound(0.5):.2f}",
            "bound_1:8": f"{bound(0.125):.2f}", "of": of, "vectors": r.vectors or "-", "paper": r.paper or "-",
        })  # fmt: skip
    return rows


def _metrics() -> list[Row]:
    from nmsim.results.metrics import METRICS

    return [{"name": m.name, "unit": m.unit, "meaning": m.meaning} for m in METRICS.values()]


def _causes() -> list[Row]:
    from nmsim.engines.timing import CAUSES

    return [{"name": name, "meaning": meaning} for name, meaning in CAUSES.items()]


def _components() -> list[Row]:
    from nmsim.energy.account import COMPONENTS

    return [{"name": name, "meaning": meaning} for name, meaning in COMPONENTS.items()]


def _energy_tables() -> list[Row]:
    from nmsim import library
    from nmsim.energy.files import FOLDER, load_files

    rows: list[Row] = []
    for name in library.names(FOLDER):
        file = load_files(name)[0]
        parts = [*(e.component for e in file.entries), *(f.component for f in file.factors)]
        kinds = ", ".join(dict.fromkeys(parts))
        rows.append({"name": name, "version": file.version, "based on": file.base or "", "components": kinds})
    return rows


def _formats() -> list[Row]:
    return [{"name": name, "stores": meaning} for name, meaning in FORMAT_MEANINGS.items()]


def _dtypes() -> list[Row]:
    from nmsim.workloads.optable import DTYPE_BITS

    return [{"name": name, "bits": bits} for name, bits in DTYPE_BITS.items()]


def _assumptions(arch: str) -> list[Row]:
    from nmsim.arch.load import load_arch
    from nmsim.specfile import format_path

    marks = load_arch(arch).provenance.items()
    return [{"number": format_path(path), "known": p.kind, "why": p.text} for path, p in marks if p.kind != "source"]


def _training() -> list[Row]:
    from nmsim import library
    from nmsim.specfile import read, validate
    from nmsim.train.config import TrainingFile

    rows: list[Row] = []
    for name in library.names("workloads/training"):
        run = validate(TrainingFile, read(library.find("workloads/training", name)))
        recipe = run.described.name if run.pattern == "dense" else f"{run.described.name} {run.pattern}"
        rows.append(
            {"name": name, "model": run.model.name, "data": run.data.name, "recipe": recipe, "steps": run.steps}
        )
    return rows


def _sweeps() -> list[Row]:
    from nmsim import library
    from nmsim.specfile import read
    from nmsim.sweeps.points import Points
    from nmsim.sweeps.space import space_of

    rows: list[Row] = []
    for name in library.names("workloads/sweeps"):
        space = space_of(read(library.find("workloads/sweeps", name)))
        rows.append({"name": name, "points": len(Points(space)), "title": space.title})
    return rows


LISTS: dict[str, Callable[[], list[Row]]] = {
    "arch": _arches,
    "workloads": _workloads,
    "training": _training,
    "recipes": _recipes,
    "sweeps": _sweeps,
    "metrics": _metrics,
    "causes": _causes,
    "components": _components,
    "energy": _energy_tables,
    "formats": _formats,
    "dtypes": _dtypes,
    "assumptions": list,
}
