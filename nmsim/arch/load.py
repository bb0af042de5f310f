"""Reading architecture files: from a library name or a path to a validated machine, numbers with their origin."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nmsim import library
from nmsim.arch.provenance import split
from nmsim.arch.schema import MODELS, AnyArch
from nmsim.errors import Problem, SpecError, UnsupportedError, unknown
from nmsim.specfile import Document, read, set_path, validate


def load_arch(name_or_path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> AnyArch:
    """The machine of a library name (see `nmsim list arch`) or of a YAML file.

    `overrides` maps paths to values: `{"memories.dram.bandwidth": "12.8 GB/s"}`. Raises SpecError with every
    mistake in the file, UnsupportedError for a name that the library does not have.
    """
    return from_document(read_arch(name_or_path, overrides))


def read_arch(
    name_or_path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None, option: str = "override"
) -> Document:
    """The document of an architecture with the values at some paths replaced; messages call an override `option`."""
    if not isinstance(overrides, Mapping | None) or not all(isinstance(path, str) for path in overrides or {}):
        raise UnsupportedError(f"overrides map paths (texts) to values, as {{'array.rows': 64}}; got {overrides!r:.60}")
    document = replace(read(library.locate("arch_configs", name_or_path)), option=option)
    for path, value in (overrides or {}).items():
        document = set_path(document, path, value)
    return document


def from_document(document: Document) -> AnyArch:
    """The machine that a parsed file describes."""
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
