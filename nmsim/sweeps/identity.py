"""What a sweep's rows depend on, as a digest: the space, the files it names, the version and the code of nmsim."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nmsim
from nmsim import library
from nmsim.errors import NmsimError
from nmsim.sweeps.space import SpaceFile

_FILES = {"arch": "arch_configs", "workload": "workloads", "recipe": "workloads/recipes"}


def identity(space: SpaceFile) -> str:
    """A digest of all that the rows of `space` depend on."""
    told = hashlib.blake2b(digest_size=12)
    told.update(json.dumps(space.model_dump(by_alias=True), sort_keys=True).encode())
    told.update(f"{nmsim.__version__} {_code()}".encode())
    for text in _contents(space):
        told.update(hashlib.blake2b(text).digest())
    return told.hexdigest()


def _contents(space: SpaceFile) -> Iterator[bytes]:
    for field, folder in _FILES.items():
        given = space.axes.get(field)
        names = [*(given if isinstance(given, list) else ()), space.fixed.get(field), space.baseline.get(field)]
        for name in dict.fromkeys(str(x) for x in names if x is not None):
            try:
                yield library.locate(folder, name, (".yaml", ".yml", ".csv")).read_bytes()
            except (NmsimError, OSError):  # a row tells of it
                yield b"missing"


@cache
def _code() -> str:
    """A digest of the source and the data of the package: figures change with them, whatever the version says."""
    told = hashlib.blake2b(digest_size=12)
    root = Path(nmsim.__file__).parent
    for path in sorted((*root.rglob("*.py"), *root.rglob("*.yaml"))):
        told.update(path.read_bytes())
    return told.hexdigest()
