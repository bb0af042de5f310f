"""`nmsim check`: find the mistakes in architecture and workload files."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nmsim.errors import NmsimError, Problem, SpecError, unknown

if TYPE_CHECKING:
    from nmsim.specfile import Document

WORKLOAD = "workload"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="architectures and workloads in YAML (their `kind:` tells), products in CSV",
    )


def execute(args: argparse.Namespace) -> int:
    """A line for every good file, every problem of every other one."""
    bad = False
    for file in args.files:
        try:
            print(f"{file}: ok ({_summary(file)})")
        except SpecError as error:
            bad = True
            print(error, file=sys.stderr)
        except NmsimError as error:
            bad = True
            print(Problem(file, 1, 1, "", str(error)), file=sys.stderr)
    return 2 if bad else 0


def _summary(file: str) -> str:
    """What the file holds; raises NmsimError if it cannot be used."""
    from nmsim.arch.load import from_document
    from nmsim.arch.schema import MODELS
    from nmsim.report.tables import quantity
    from nmsim.specfile import read
    from nmsim.workloads.tables import read_products

    if file.lower().endswith(".csv"):
        return f"{len(read_products(file))} products"
    document = read(file)
    kind = document.data.get("kind") if isinstance(document.data, dict) else None
    if kind == WORKLOAD:
        return _workload(document)
    if not isinstance(kind, str) or kind not in MODELS:
        raise SpecError([_wrong_kind(document, kind, [WORKLOAD, *MODELS])])
    arch = from_document(document)
    return f"{arch.kind} machine, {quantity(arch.clock, 'Hz')}, {len(arch.assumptions)} assumed numbers"


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


def _wrong_kind(document: Document, kind: object, kinds: list[str]) -> Problem:
    if kind is None:
        return document.problem(("kind",), f"is missing: the kind of file; allowed: {', '.join(kinds)}")
    return document.problem(("kind",), unknown("kind of file", kind, kinds))
