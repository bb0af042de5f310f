"""What goes with data sets: the machine of each device, the overhead of each way of measuring, stated tolerances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field

from nmsim.arch.load import load_arch
from nmsim.arch.schema import AnyArch
from nmsim.library import YAML, names
from nmsim.specfile import Spec, Time, read, validate
from nmsim.validation.points import VENDORS, slug

DATA = Path(__file__).resolve().parent / "data"


class Device(Spec):
    """The machine that stands for a device."""

    arch: str = Field(min_length=1)
    overrides: dict[str, str] = {}
    note: str = ""


class Devices(Spec):
    """The file of devices."""

    kind: Literal["devices"]
    devices: dict[str, Device]


class Known(Spec):
    """How something is known: fitted, cited, or neither."""

    calibrated: str = ""
    source: str = ""
    assumed: str = ""


class Overhead(Known):
    """Time added to every point of a data set, and how it is known; with `beside` it passes while the device works."""

    value: Time
    beside: bool = False

    def added_s(self, operations_s: np.ndarray) -> np.ndarray:
        """What is added to operations that take so long [points]: with `beside` only what is left of the value."""
        if not self.beside:
            return np.full(len(operations_s), self.value)
        return np.maximum(self.value - operations_s, 0.0)


class Overheads(Spec):
    """The file of overheads."""

    kind: Literal["overheads"]
    overheads: dict[str, Overhead]


class Library(Known):
    """What the kernels that ran a data set do otherwise than those of the machine's file, and how it is known."""

    overrides: dict[str, Any]


class Libraries(Spec):
    """The file of libraries."""

    kind: Literal["libraries"]
    libraries: dict[str, Library]


class Tolerance(Spec):
    """The mean absolute error in per cent that a data set may have, and its speed-ups over dense, and why."""

    mape: Annotated[float, Field(gt=0)]
    speedup: Annotated[float, Field(gt=0)] | None = None
    why: str = Field(min_length=1)


class Tolerances(Spec):
    """The file of tolerances."""

    kind: Literal["tolerances"]
    tolerances: dict[str, Tolerance]


@dataclass(frozen=True)
class Settings:
    """Overheads and tolerances by the names of data sets, with * and ?; the first that matches holds."""

    overheads: Mapping[str, Overhead]
    tolerances: Mapping[str, Tolerance]
    libraries: Mapping[str, Library] = field(default_factory=dict)

    @classmethod
    def beside(cls, directory: Path) -> Settings:
        """Those in `directory`: overheads.yaml and libraries.yaml, or the shipped ones; tolerances.yaml, or none.

        Raises SpecError.
        """
        own, stated = directory / "overheads.yaml", directory / "tolerances.yaml"
        overheads = validate(Overheads, read(own if own.is_file() else DATA / "overheads.yaml")).overheads
        tolerances = validate(Tolerances, read(stated)).tolerances if stated.is_file() else {}
        named = directory / "libraries.yaml"
        libraries = validate(Libraries, read(named if named.is_file() else DATA / "libraries.yaml")).libraries
        return cls(overheads, tolerances, libraries)

    def overhead(self, name: str) -> Overhead:
        """What measuring adds to every point of the data set; nothing where nothing is said."""
        return _first(self.overheads, name) or Overhead.model_validate({"value": "0 s"})

    def overhead_s(self, name: str) -> float:
        """The seconds of it."""
        return self.overhead(name).value

    def library(self, name: str) -> Library | None:
        """The kernels that ran the data set, None where they are those of the machine's file."""
        return _first(self.libraries, name)

    def tolerance(self, name: str) -> float | None:
        """The error, as a share, that the data set may have; None where none is stated."""
        found = _first(self.tolerances, name)
        return found.mape / 100 if found else None

    def speedup_tolerance(self, name: str) -> float | None:
        """The error, as a share, that the data set's speed-ups over dense may have; None where none is stated."""
        found = _first(self.tolerances, name)
        return found.speedup / 100 if found and found.speedup else None


T = TypeVar("T")


def _first(entries: Mapping[str, T], name: str) -> T | None:
    return next((entry for glob, entry in entries.items() if fnmatchcase(name, glob)), None)


def machine(device: str, library: Library | None = None) -> AnyArch | None:
    """The machine of a device: by devices.yaml, by the name of an architecture file, or a path to one; else None.

    The overrides of `library` are applied to it.
    """
    more = library.overrides if library is not None else {}
    known = _devices().get(slug(device))
    if known is not None:
        return load_arch(known.arch, known.overrides | more) if known.arch in _arches() else None
    if device.lower().endswith(YAML):
        return load_arch(device, more)
    name = slug(device)
    for vendor in VENDORS:
        name = name.removeprefix(vendor)
    return load_arch(name, more) if name in _arches() else None


@cache
def _devices() -> dict[str, Device]:
    entries = validate(Devices, read(DATA / "devices.yaml")).devices
    return {slug(name): device for name, device in entries.items()}


def _arches() -> list[str]:
    return names("arch_configs")
