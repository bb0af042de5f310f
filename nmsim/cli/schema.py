"""`nmsim schema`: the JSON Schema of a kind of file."""

from __future__ import annotations

import argparse
import json
from typing import Any

from nmsim.cli.parser import one_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("kind", type=one_of("kind of file", KINDS), metavar="KIND", help=" or ".join(KINDS))


def execute(args: argparse.Namespace) -> int:
    """Print the schema."""
    schema = KINDS[args.kind]()
    print(json.dumps({"$schema": DIALECT, **schema}, indent=2, ensure_ascii=False))
    return 0


def _arch() -> dict[str, Any]:
    """One schema for all kinds of machines, told apart by their `kind`."""
    from nmsim.arch.provenance import json_schema
    from nmsim.arch.schema import MODELS

    schemas = [json_schema(model) for model in MODELS.values()]
    parts: dict[str, Any] = {}
    for schema in schemas:
        parts |= schema.pop("$defs", {})
    return {"title": "nmsim architecture", "oneOf": schemas, "$defs": parts}


def _workload() -> dict[str, Any]:
    from nmsim.workloads.modelfile import ModelFile

    return {**ModelFile.model_json_schema(by_alias=True), "title": "nmsim workload"}


def _training() -> dict[str, Any]:
    from nmsim.train.config import TrainingFile

    return {**TrainingFile.model_json_schema(by_alias=True), "title": "nmsim training run"}


def _recipe() -> dict[str, Any]:
    from nmsim.sparsity.recipe import Recipe

    return {**Recipe.model_json_schema(by_alias=True), "title": "nmsim recipe"}


def _schedule() -> dict[str, Any]:
    from nmsim.engines.schedule import ScheduleFile

    return {**ScheduleFile.model_json_schema(by_alias=True), "title": "nmsim schedule"}


def _space() -> dict[str, Any]:
    from nmsim.sweeps.space import SpaceFile

    return {**SpaceFile.model_json_schema(by_alias=True), "title": "nmsim space"}


def _energy() -> dict[str, Any]:
    from nmsim.energy.files import TableFile

    return {**TableFile.model_json_schema(by_alias=True), "title": "nmsim energy table"}


KINDS = {
    "arch": _arch, "workload": _workload, "training": _training, "recipe": _recipe, "schedule": _schedule,
    "space": _space, "energy": _energy,
}  # fmt: skip
