"""The files that come with nmsim: where they lie, their names, and the file behind a name."""

from __future__ import annotations

from pathlib import Path

from nmsim.errors import UnsupportedError, unknown

KINDS = {"workloads": "workload", "arch_configs": "architecture"}
"""Folder of each kind of file, and what one of its files is called in a message."""


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
        raise UnsupportedError(unknown(KINDS[kind], name, known))
    return library_dir(kind) / f"{name}.yaml"
