"""Reading architecture files: from a library name or a path to a validated machine, numbers with their origin."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmsim import library
from nmsim.arch.provenance import split
from nmsim.arch.schema import MODELS, AnyArch
from nmsim.errors import Problem, SpecError, unknown
from nmsim.specfile import Document, read, set_path, validate


def load_arch(name_or_path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> AnyArch:
    """The machine of a library name (see `nmsim list arch`) or of a YAML file.

    `overrides` maps paths to values: `{"memories.dram.bandwidth": "12.8 GB/s"}`. Raises SpecError with every
    mistake in the file, UnsupportedError for a name that the library does not have.
    """
    text = os.fspath(name_or_path)
    is_path = os.sep in text or Path(text).suffix in (".yaml", ".yml") or Path(text).exists()
    return from_document(read(text if is_path else library.find("arch_configs", text)), overrides)


def from_document(document: Document, overrides: Mapping[str, Any] | None = None) -> AnyArch:
    """The machine that a parsed file describes, with the values at some paths replaced."""
    for path, value in (overrides or {}).items():
        document = set_path(document, path, value)
    plain, provenance, problems = split(document)
    kind = plain.data.get("kind") if isinstance(plain.data, dict) else None
    if not isinstance(kind, str) or kind not in MODELS:
        raise SpecError([*problems, _no_kind(plain, kind)])
    try:
        arch: AnyArch = validate(MODELS[kind], plain)
    except SpecError as error:
        raise SpecError([*problems, *error.problems]) from None
    if problems:
        raise SpecError(problems)
    arch.provenance.update(provenance)
    return arch


def _no_kind(document: Document, kind: object) -> Problem:
    if kind is None:
        return document.problem(("kind",), f"is missing: the kind of machine; allowed: {', '.join(MODELS)}")
    return document.problem(("kind",), unknown("kind of machine", kind, MODELS))
