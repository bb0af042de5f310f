"""`nmsim check`: find the mistakes in architecture, workload, training, recipe, schedule and energy files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nmsim import library
from nmsim.cli.parser import word
from nmsim.errors import NmsimError, Problem, SpecError, unknown

if TYPE_CHECKING:
    from nmsim.arch.schema import AnyArch
    from nmsim.specfile import Document


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "files",
        nargs="+",
        type=word,
        metavar="FILE",
        help="architectures, workloads, training runs, recipes, schedules, energy tables or spaces in YAML (`kind:` "
        "tells), names of them, products in CSV",
    )


def execute(args: argparse.Namespace) -> int:
    """A line for every good file, every problem of every other one."""
    bad = False
    for file in (path for given in args.files for path in _meant(given)):
        try:
            print(f"{file}: ok ({_summary(file)})")
        except SpecError as error:
            bad = True
            print(error, file=sys.stderr)
        except NmsimError as error:
            bad = True
            print(Problem(file, 1, 1, "", str(error)), file=sys.stderr)
    return 2 if bad else 0


def _meant(file: str) -> list[str]:
    """The file itself; of a name that files of several kinds have, the path of each."""
    found = [library.find(folder, file) for folder in library.KINDS if file in library.names(folder)]
    return [file] if len(found) < 2 else [str(path) for path in found]


def _summary(file: str) -> str:
    """What the file holds; raises NmsimError if it cannot be used."""
    from nmsim.arch.schema import MODELS
    from nmsim.report.tables import quantity
    from nmsim.specfile import read
    from nmsim.workloads.tables import read_products

    if file.lower().endswith(".csv"):
        count = len(read_products(file))
        return f"{count} product" if count == 1 else f"{count} products"
    document = read(_path(file))
    kind = document.data.get("kind") if isinstance(document.data, dict) else None
    if isinstance(kind, str) and kind in SUMMARIES:
        return SUMMARIES[kind](document)
    if not isinstance(kind, str) or kind not in MODELS:
        raise SpecError([_wrong_kind(document, kind, [*SUMMARIES, *MODELS])])
    arch = machine(document)
    return f"{arch.kind} machine, {quantity(arch.clock, 'Hz')}, {len(arch.assumptions)} assumed numbers"


def _path(file: str) -> Path:
    """The file of that path, or of the library if it is a name of it."""
    folder = next((kind for kind in library.KINDS if file in library.names(kind)), None)
    return library.find(folder, file) if folder else Path(file)


def machine(document: Document) -> AnyArch:
    """The machine of an architecture file whose energies are known too; raises SpecError with every mistake."""
    from nmsim.arch.load import from_document
    from nmsim.energy.account import table_name
    from nmsim.energy.table import problems

    arch = from_document(document)
    if found := list(problems(document, arch.energy.node, arch.energy.dram, table_name(arch))):
        raise SpecError(found)
    return arch


def _workload(document: Document) -> str:
    from nmsim.report.tables import prefixed
    from nmsim.specfile import validate
    from nmsim.workloads.check import problems
    from nmsim.workloads.model import Model
    from nmsim.workloads.modelfile import ModelFile

    file = validate(ModelFile, document)
    if found := list(problems(document, file)):
        raise SpecError(found)
    model = Model.build(file)
    sizes = f"{prefixed(model.parameters)} parameters, {prefixed(model.macs, 'MAC')} a sample"
    return f"workload, {len(model.layers)} layers, {sizes}"


def _training(document: Document) -> str:
    from nmsim.specfile import validate
    from nmsim.train.config import TrainingFile

    run = validate(TrainingFile, document)
    name = run.described.name
    return f"training, {run.model.name} on {run.data.name} by {name} {run.pattern}, {run.steps} steps"


def _recipe(document: Document) -> str:
    from nmsim.sparsity.recipe import recipe_of

    recipe = recipe_of(document)
    stages = ", ".join(f"{p.operand} in {p.stage} along {p.direction}" for p in recipe.prunes)
    return f"recipe {recipe.name}, prunes {stages or 'nothing'}"


def _schedule(document: Document) -> str:
    from nmsim.engines.schedule import from_document

    schedule = from_document(document)
    return f"schedule, {len(schedule.ops)} products of {schedule.file.workload} on {schedule.file.machine}"


def _energy(document: Document) -> str:
    from nmsim.energy.files import checked

    file = checked(document)
    return f"energy table {file.name}, {len(file.entries)} entries" + (f", based on {file.base}" if file.base else "")


def _space(document: Document) -> str:
    from nmsim.sweeps.points import Points
    from nmsim.sweeps.space import space_of

    points = Points(space_of(document))
    return f"space of {len(points):,} points, axes {', '.join(axis.name for axis in points.axes)}"


def _wrong_kind(document: Document, kind: object, kinds: list[str]) -> Problem:
    if kind is None:
        return document.problem(("kind",), f"is missing: the kind of file; allowed: {', '.join(kinds)}")
    return document.problem(("kind",), unknown("kind of file", kind, kinds))


SUMMARIES: dict[str, Callable[[Document], str]] = {
    "workload": _workload, "training": _training, "recipe": _recipe, "schedule": _schedule, "energy_table": _energy,
    "space": _space,
}  # fmt: skip
"""What a good file holds, by its kind; machines have kinds of their own."""
