"""The files of energy tables: their schema, reading one with the table it is based on, and what is refused in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from math import log
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from nmsim import library
from nmsim.errors import Problem, SpecError, unknown
from nmsim.specfile import Count, Document, Energy, EnergyPerBit, Node, Power, Spec, format_path, read, validate

FOLDER = "arch_configs/energy"
KIND = "energy_table"
ABSURD = 1e4
"""How many times more or less than at the nearest node an action may cost before its value is refused."""


def _share(value: Any) -> Any:
    """0.4 of the text "40 %"; anything else is left for the schema to refuse."""
    text = str(value).strip()
    number = text.removesuffix("%").strip()
    if not text.endswith("%") or not number.replace(".", "", 1).isdigit():
        raise ValueError(f"expected per cent, as '40 %', got {value!r:.60}")
    return float(number) / 100


Uncertainty = Annotated[float, BeforeValidator(_share), Field(gt=0, le=10)]
"""Half-width u of a 90 % interval: value/(1 + u) to value (1 + u)."""


ACTIONS = {
    "registers": ("bit",), "select": ("mux bit",), "noc": ("bit mm",), "vector": ("op",), "update": ("op",),
    "reduction": ("compare",), "stream": ("bit",), "l2": ("bit",), "cores": ("slot",),
}  # fmt: skip
"""What machines ask a table for by entry; `arithmetic` has any actions, since `mac:` says which it is made of."""
FACTORS = ("arithmetic", "sram", *ACTIONS)


class Known(Spec):
    """A number of the file says where it comes from: one of `source`, `assumed` and `calibrated`."""

    source: str | None = Field(default=None, min_length=1)
    assumed: str | None = Field(default=None, min_length=1)
    calibrated: str | None = Field(default=None, min_length=1)

    @property
    def origins(self) -> list[tuple[str, str]]:
        """The marks that are given, with their texts."""
        marks = ("source", "assumed", "calibrated")
        return [(mark, text) for mark in marks if (text := getattr(self, mark)) is not None]


class Entry(Known):
    """The energy of one action of a component at a node."""

    component: str = Field(min_length=1)
    action: str = Field(min_length=1)
    node: Node
    width: Count = Field(description="bits that the action handles")
    value: Energy
    uncertainty: Uncertainty
    date: int = Field(description="year of the source")


class Factor(Known):
    """How many times what the base table says an action of this component costs."""

    component: str = Field(min_length=1)
    factor: float = Field(gt=0)
    uncertainty: Uncertainty
    date: int


class DramEntry(Known):
    """The energy of a bit of one kind of DRAM."""

    value: EnergyPerBit
    uncertainty: Uncertainty
    date: int


class Mac(Known):
    """Of what a multiply-accumulate is made."""

    multiply: str
    add: str
    scale: float = Field(gt=0)


class Gated(Known):
    """What a unit costs that is clocked but has no data, as a share of its multiply-accumulate."""

    share: float = Field(ge=0, le=1)


class Scaling(Known):
    """The exponent of the feature size for actions known at one node only."""

    exponent: float = Field(gt=0)


class Law(Spec):
    """base (node/45 nm)^node (size/1 KiB)^size (width/64 bit)^width, with what a fit left of it."""

    base: Energy
    node: float
    size: float
    width: float
    rms: float = Field(description="root mean square of the logarithm's residuals")
    worst: float = Field(description="largest relative residual")


class LeakageLaw(Law):
    """The same for a power."""

    base: Power


class Sram(Known):
    """The laws of SRAM: an access, and leakage of fast and of low-power cells."""

    read: Law
    write: Law
    leakage: LeakageLaw
    low_power_leakage: LeakageLaw
    below_22nm: float = Field(gt=0)
    port: float = Field(ge=0)
    uncertainty: Uncertainty
    uncertainty_below_22nm: Uncertainty


class TableFile(Spec):
    """A file of energies per action."""

    kind: Literal["energy_table"]
    version: Literal[1]
    name: str
    base: str | None = Field(default=None, description="the table that holds what this one does not")
    scaling: Scaling | None = None
    entries: list[Entry] = []
    factors: list[Factor] = []
    mac: dict[str, Mac] = {}
    gated: Gated | None = None
    dram: dict[str, DramEntry] = {}
    sram: Sram | None = None
    general: list[str] = []


@cache
def load_files(name_or_path: str) -> tuple[TableFile, ...]:
    """The file of a table and those it is based on, itself first.

    Raises SpecError with every mistake, UnsupportedError for a name that the library does not have.
    """
    return tuple(_chain(name_or_path, ()))


def _chain(name: str, above: tuple[str, ...]) -> Iterator[TableFile]:
    path = str(library.locate(FOLDER, name))
    document = read(path)
    if path in above:
        raise SpecError([document.problem(("base",), f"{name!r} is based on itself")])
    file = checked(document)
    yield file
    if file.base is not None:
        beside = os.path.join(os.path.dirname(path), file.base)
        known = file.base in library.names(FOLDER)
        below = list(_chain(file.base if known or not os.path.exists(beside) else beside, (*above, path)))
        found = list(_absurd(document, file.entries, [e for f in below for e in f.entries]))
        if found := [*found, *_absurd_dram(document, file, below)]:
            raise SpecError(found)
        yield from below


def checked(document: Document) -> TableFile:
    """The table in a document; raises SpecError with every mistake."""
    file = validate(TableFile, document)
    if found := list(_problems(document, file)):
        raise SpecError(found)
    return file


def _problems(document: Document, file: TableFile) -> Iterator[Problem]:
    marked: list[tuple[tuple[str | int, ...], Known]] = [(("entries", i), e) for i, e in enumerate(file.entries)]
    marked += [(("factors", i), f) for i, f in enumerate(file.factors)]
    marked += [(("dram", name), e) for name, e in file.dram.items()] + [(("mac", n), e) for n, e in file.mac.items()]
    singles = {"gated": file.gated, "scaling": file.scaling, "sram": file.sram}
    marked += [((name,), known) for name, known in singles.items() if known is not None]
    for path, known in marked:
        if len(known.origins) != 1:
            yield document.problem(path, "needs one of source:, assumed: or calibrated:")
    yield from _repeated(document, file)
    valued: dict[tuple[str | int, ...], float] = {("entries", i): e.value for i, e in enumerate(file.entries)}
    valued |= {("dram", kind): e.value for kind, e in file.dram.items()}
    zero = [path for path, value in valued.items() if value == 0]
    yield from (document.problem((*path, "value"), "must be above 0; what costs nothing has no entry") for path in zero)
    yield from _unused(document, file)
    yield from _absurd(document, file.entries, file.entries)


def _unused(document: Document, file: TableFile) -> Iterator[Problem]:
    """Entries and factors that no machine would ever ask for: slips of a name, which would change nothing."""
    for i, e in enumerate(file.entries):
        if e.component != "arithmetic" and e.component not in ACTIONS:
            allowed = ("arithmetic", *ACTIONS)
            yield document.problem(("entries", i, "component"), unknown("component", e.component, allowed))
        elif e.component != "arithmetic" and e.action not in ACTIONS[e.component]:
            what = f"action of {e.component}"
            yield document.problem(("entries", i, "action"), unknown(what, e.action, ACTIONS[e.component]))
    for i, f in enumerate(file.factors):
        if f.component not in FACTORS:
            yield document.problem(("factors", i, "component"), unknown("component", f.component, FACTORS))


def _repeated(document: Document, file: TableFile) -> Iterator[Problem]:
    seen: dict[tuple[str, str, float], int] = {}
    for i, e in enumerate(file.entries):
        key = (e.component, e.action, e.node)
        if key in seen:
            first = format_path(("entries", seen[key]))
            yield document.problem(("entries", i), f"{e.component}, {e.action} at this node stands in {first} already")
        seen.setdefault(key, i)


def _absurd_dram(document: Document, file: TableFile, below: list[TableFile]) -> Iterator[Problem]:
    """The same of a kind of DRAM, against what the table below has for it; of a new kind, against its dearest."""
    known = {kind: e.value for f in reversed(below) for kind, e in f.dram.items()}
    for kind, e in file.dram.items():
        other = known.get(kind, max(known.values(), default=e.value))
        if e.value > 0 and not 1 / ABSURD <= e.value / other <= ABSURD:
            message = (
                f"{kind}: {e.value:.3g} J/bit is {e.value / other:.3g} times what the table below has; "
                f"allowed: 1/{ABSURD:g} to {ABSURD:g} times. Is the unit right?"
            )
            yield document.problem(("dram", kind, "value"), message)


def _absurd(document: Document, entries: list[Entry], known: list[Entry]) -> Iterator[Problem]:
    """Values more than ABSURD times above or below the same action at the nearest other node: a slip of the unit.

    Of two nodes in one file the finer is told of.
    """
    for i, e in enumerate(entries):
        same = [o for o in known if (o.component, o.action) == (e.component, e.action) and o.value > 0]
        others = [o for o in same if o.node > e.node] if known is entries else same
        if not others or e.value == 0:
            continue
        near = min(others, key=lambda o: abs(log(o.node / e.node)))
        if not 1 / ABSURD <= e.value / near.value <= ABSURD:
            message = (
                f"{e.component}, {e.action}: {e.value:.3g} J is {e.value / near.value:.3g} times what the "
                f"nearest node has; allowed: 1/{ABSURD:g} to {ABSURD:g} times. Is the unit right?"
            )
            yield document.problem(("entries", i, "value"), message)
