"""The files that come with nmsim: where they lie, their names, and the file behind a name."""

from __future__ import annotations

import os
from pathlib import Path

from nmsim.errors import UnsupportedError, unknown

KINDS = {
    "workloads": "workload", "arch_configs": "architecture", "workloads/training": "training run",
    "workloads/recipes": "recipe", "arch_configs/energy": "energy table", "workloads/sweeps": "space",
}  # fmt: skip
"""Folder of each kind of file, and what one of its files is called in a message."""

YAML = (".yaml", ".yml")
SWAPPED = {"arch_configs", "workloads"}
"""Kinds whose names stand side by side on a command line."""


def library_dir(kind: str) -> Path:
    """The folder of the files of `kind` (a key of KINDS): inside the package, or beside it in a source checkout."""
    if kind not in KINDS:
        raise UnsupportedError(unknown("kind of file", kind, KINDS))
    package = Path(__file__).resolve().parent
    installed = package / "data" / kind
    return installed if installed.is_dir() else package.parent / kind


def names(kind: str) -> list[str]:
    """The names of all files of `kind`, sorted."""
    return sorted(path.stem for path in library_dir(kind).glob("*.yaml"))


def find(kind: str, name: str) -> Path:
    """The file called `name`; raises UnsupportedError listing the nearest names."""
    if name not in (known := names(kind)):
        if other := next((folder for folder in KINDS if name in names(folder)), None):
            swapped = "; did you swap machine and workload?" if {kind, other} <= SWAPPED else ""
            raise UnsupportedError(f"unknown {KINDS[kind]} {name!r}: it is among the {KINDS[other]}s{swapped}")
        raise UnsupportedError(unknown(KINDS[kind], name, known))
    return library_dir(kind) / f"{name}.yaml"


def locate(kind: str, name_or_path: str | os.PathLike[str], suffixes: tuple[str, ...] = YAML) -> Path:
    """The file meant: a text without a folder and without one of the suffixes is a name of the library.

    Raises UnsupportedError for an unknown name, and for what is neither a name nor a path.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise UnsupportedError(f"expected the name of a file of {kind}/, or a path; got {name_or_path!r:.60}")
    path = Path(os.fsdecode(name_or_path))
    bare = isinstance(name_or_path, str) and path.name == name_or_path
    return find(kind, path.name) if bare and path.suffix.lower() not in suffixes else path
