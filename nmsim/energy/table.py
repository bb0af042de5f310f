"""Energy per action at one technology node with one kind of DRAM, each with its interval and its origin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from math import expm1, hypot, log, log1p
from typing import Any

from nmsim import library
from nmsim.energy.files import FOLDER, Entry, Known, TableFile, load_files
from nmsim.energy.memory import FINEST, SIZES, WIDTHS, SramModel
from nmsim.energy.scaling import REACH, at_node
from nmsim.errors import Problem, SpecError, UnsupportedError, nearest, unknown
from nmsim.specfile import Document
from nmsim.units import format_quantity

NINETY = 1.6448536269514722
"""Standard deviations on each side of the middle of a 90 % interval."""


@dataclass(frozen=True)
class PerAction:
    """Joules of one action, and the half-width u of its 90 % interval: joules/(1 + u) to joules (1 + u).

    Actions of one `group` come from one source and err together.
    """

    joules: float
    uncertainty: float
    group: str

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return log1p(self.uncertainty) / NINETY


@dataclass(frozen=True)
class EnergyTable:
    """What each action costs. `values` are by (component, action); `assumptions` what they rest on that no source
    vouches for."""

    name: str
    place: str
    node_m: float
    dram: str
    values: dict[tuple[str, str], PerAction]
    sram: SramModel
    sram_uncertainty: float
    gated_share: float
    assumptions: tuple[str, ...] = field(repr=False)

    def value(self, component: str, action: str) -> PerAction:
        """The energy of an action; raises UnsupportedError that says where one may be added."""
        if (component, action) not in self.values:
            names = [" ".join(key) for key in self.values]
            close = nearest(f"{component} {action}", names)
            hint = f"; nearest: {', '.join(close)}" if close else ""
            raise UnsupportedError(
                f"energy of component {component!r}, action {action!r}: the table {self.name!r} has no value "
                f"for it{hint}; {_add('entries', self.place)}"
            )
        return self.values[component, action]

    def mac_j(self, dtype: str) -> float:
        """Energy of one multiply-accumulate; raises UnsupportedError for a data type without an entry."""
        if ("mac", dtype) not in self.values:
            types = [action for component, action in self.values if component == "mac"]
            raise UnsupportedError(
                f"energy of component 'mac', action {dtype!r}: {unknown('data type', dtype, types)}; "
                f"{_add('mac', self.place)}"
            )
        return self.values["mac", dtype].joules

    @property
    def dram_byte(self) -> float:
        """Energy per byte to or from DRAM."""
        return 8 * self.values["dram", "read"].joules

    def sram_byte(self, size_bytes: float) -> float:
        """Energy per byte read from the memory beside the units: of a GPU its L2, else an SRAM of this size."""
        if ("l2", "bit") in self.values:
            return 8 * self.values["l2", "bit"].joules
        return self.sram.read_j(size_bytes) / 8


def _add(section: str, place: str) -> str:
    """Where a value that is missing may be added."""
    return f"add it under `{section}:` of {place}, or of a table of your own that `energy.table` names"


@cache
def energy_table(node_m: float, dram: str, name: str = "asic") -> EnergyTable:
    """The table `name` (of the library, or a path) at `node_m` (metres) with DRAM of kind `dram`, as `hbm2e`.

    Raises UnsupportedError for an unknown table or kind of DRAM and for a section that is missing, SpecError for a
    file with mistakes.
    """
    files = load_files(name)
    place = f"{FOLDER}/{name}.yaml" if name in library.names(FOLDER) else name
    entries, factors = _merged(files)
    alone = any(len(known) == 1 and known[0].node != node_m for known in entries.values())
    exponent = _section(files, "scaling", place).exponent if alone else 0.0
    raw = {key: _at(known, node_m, exponent, factors.get(key[0], NO_FACTOR)) for key, known in entries.items()}
    sram = _section(files, "sram", place)
    drams = {kind: entry for file in reversed(files) for kind, entry in file.dram.items()}
    if dram not in drams:
        raise UnsupportedError(
            f"energy of component 'dram', action 'read': {unknown('kind of DRAM', dram, drams)}; {_add('dram', place)}"
        )
    for action in ("read", "write"):
        raw["dram", action] = PerAction(drams[dram].value, drams[dram].uncertainty, "dram")
    factor, own = factors.get("sram", NO_FACTOR)
    known = sram.uncertainty if node_m >= FINEST else sram.uncertainty_below_22nm
    return EnergyTable(
        files[0].name, place, node_m, dram, raw | _composed(files, raw, place), SramModel(sram, node_m, factor),
        both(known, own), _section(files, "gated", place).share,
        tuple(_assumptions(files, entries, node_m, dram)),
    )  # fmt: skip


NODES = (45e-9, 28e-9, 16e-9, 12e-9, 7e-9, 5e-9)
"""The nodes, in metres, at which a table is shown."""
SHOWN = 65536.0
"""The size in bytes of the memory that is shown with it."""


def at_nodes(name: str) -> dict[str, list[PerAction]]:
    """Every action of a table with its energy at each of NODES; DRAM, whose bits cost the same at all, by kind."""
    kinds = dict.fromkeys(kind for file in load_files(name) for kind in file.dram)
    tables = [energy_table(node, next(iter(kinds)), name) for node in NODES]
    found = {" ".join(key): [t.values[key] for t in tables] for key in tables[0].values if key[0] != "dram"}
    for access in ("read_j", "write_j"):
        costs = [PerAction(getattr(t.sram, access)(SHOWN, WIDTHS[0]), t.sram_uncertainty, "sram") for t in tables]
        found[f"sram 64 KiB, 64 bit, {access[:-2]}"] = costs
    return found | {f"dram {kind}": [energy_table(NODES[0], kind, name).values["dram", "read"]] for kind in kinds}


NO_FACTOR = 1.0, 0.0


def both(one: float, other: float) -> float:
    """The half-width of the interval of a product of two that err apart, from theirs: their spreads add in squares."""
    return expm1(hypot(log1p(one), log1p(other)))


def _section(files: tuple[TableFile, ...], name: str, place: str) -> Any:
    """The section of the file nearest to the table that has it; raises UnsupportedError where none has."""
    found = next((section for file in files if (section := getattr(file, name)) is not None), None)
    if found is None:
        raise UnsupportedError(
            f"the energy table {files[0].name!r} has no `{name}:`, which {SECTIONS[name]}; {_add(name, place)}, or set "
            "`base: asic`"
        )
    return found


SECTIONS = {
    "sram": "gives the energy of component 'buffers', actions 'read' and 'write'",
    "gated": "gives the energy of component 'mac', actions 'gated …'",
    "scaling": "brings actions that are known at one node to others",
}
"""What each section of a table is for."""


def _at(known: list[Entry], node_m: float, exponent: float, factor: tuple[float, float]) -> PerAction:
    """The energy of an action at a node, times the factor of its component."""
    joules = factor[0] * at_node(node_m, [(e.node, e.value) for e in known], exponent)
    near = min(known, key=lambda e: abs(log(e.node / node_m)))
    return PerAction(joules, both(near.uncertainty, factor[1]), near.component)


def _merged(
    files: tuple[TableFile, ...],
) -> tuple[dict[tuple[str, str], list[Entry]], dict[str, tuple[float, float]]]:
    """The entries of each action, those of the file nearest to the table itself; and the factors by component."""
    found: dict[tuple[str, str], list[Entry]] = {}
    factors: dict[str, tuple[float, float]] = {}
    for file in files:
        own: dict[tuple[str, str], list[Entry]] = {}
        for entry in file.entries:
            own.setdefault((entry.component, entry.action), []).append(entry)
        found = own | found
        for f in file.factors:
            factor, known = factors.get(f.component, NO_FACTOR)
            factors[f.component] = factor * f.factor, both(known, f.uncertainty)
    return found, factors


def _composed(
    files: tuple[TableFile, ...], raw: dict[tuple[str, str], PerAction], place: str
) -> dict[tuple[str, str], PerAction]:
    """Multiply-accumulates, element-wise operations and comparisons, as sums of arithmetic."""

    def close_to(action: str) -> str:
        close = nearest(action, [name for component, name in raw if component == "arithmetic"])
        return f"; nearest: {', '.join(close)}" if close else ""

    def part(action: str) -> PerAction:
        if ("arithmetic", action) not in raw:
            raise UnsupportedError(
                f"energy of component 'arithmetic', action {action!r}: {files[0].name!r} composes actions of it but "
                f"has no value{close_to(action)}; {_add('entries', place)}"
            )
        return raw["arithmetic", action]

    found: dict[tuple[str, str], PerAction] = {}
    for file in reversed(files):
        for name, mac in file.mac.items():
            product, add = part(mac.multiply), part(mac.add)
            joules = product.joules * mac.scale + add.joules
            found["mac", name] = PerAction(joules, max(product.uncertainty, add.uncertainty), "arithmetic")
    multiply, add, compare = part("fp32 multiply"), part("fp32 add"), part("fp16 add")
    lane = PerAction((multiply.joules + add.joules) / 2, max(multiply.uncertainty, add.uncertainty), "arithmetic")
    found["vector", "op"] = raw.get(("vector", "op"), lane)
    found["update", "op"] = raw.get(("update", "op"), found["vector", "op"])
    found["reduction", "compare"] = raw.get(("reduction", "compare"), compare)
    return found


def _assumptions(
    files: tuple[TableFile, ...], entries: dict[tuple[str, str], list[Entry]], node_m: float, dram: str
) -> Iterator[str]:
    """A line for each distinct reason behind a number in use that no source vouches for."""
    shown, lines = format_quantity(node_m, "length"), []
    nodes = sorted({e.node for (component, _), known in entries.items() if component == "arithmetic" for e in known})
    low = max((n for n in nodes if n <= node_m), default=None)
    high = min((n for n in nodes if n >= node_m), default=None)
    if low is None or high is None:
        edge = format_quantity(nodes[0] if low is None else nodes[-1], "length")
        lines.append(f"energy at {shown}: taken as at {edge}, the outermost node known")
    elif low != high:
        both = " and ".join(format_quantity(n, "length") for n in (low, high))
        lines.append(f"energy at {shown}: interpolated between {both}, log-linearly in feature size")
    for (component, action), known in entries.items():
        below = max((e.node for e in known if e.node <= node_m), default=min(e.node for e in known))
        above = min((e.node for e in known if e.node >= node_m), default=max(e.node for e in known))
        for e in known:
            if e.node in (below, above) and e.source is None:
                label = format_quantity(e.node, "length") if component == "arithmetic" else f"{component} {action}"
                lines.append(f"energy, {label}: {_why(e)}")
    for file in files:
        lines += [f"energy, mac {name}: {_why(mac)}" for name, mac in file.mac.items() if mac.source is None]
        if dram in file.dram and file.dram[dram].source is None:
            lines.append(f"energy, dram {dram}: {_why(file.dram[dram])}")
        lines += [f"energy, {f.component}: {_why(f)}" for f in file.factors if f.source is None]
        lines += [f"energy, sram: fitted to {file.sram.calibrated}"] if file.sram and file.sram.calibrated else []
        lines += file.general
    yield from dict.fromkeys(lines)


def _why(known: Known) -> str:
    return next((text for _, text in known.origins), "")


def problems(document: Document, node_m: float, dram: str, table: str = "asic") -> Iterator[Problem]:
    """What is wrong with `energy.table`, `energy.node` and `energy.dram` of an architecture file."""
    try:
        files = load_files(table)
    except UnsupportedError as error:
        yield document.problem(("energy", "table"), str(error))
        return
    except SpecError as error:
        yield from error.problems
        return
    kinds = {kind for file in files for kind in file.dram}
    if dram not in kinds:
        yield document.problem(("energy", "dram"), unknown("kind of DRAM", dram, kinds))
    nodes = [e.node for file in files for e in file.entries]
    lowest, highest = min(nodes) / REACH, max(nodes) * REACH
    if not lowest <= node_m <= highest:
        allowed = " to ".join(format_quantity(bound, "length", 3) for bound in (lowest, highest))
        message = f"{format_quantity(node_m, 'length')} is far from every node with known energies; allowed: {allowed}"
        yield document.problem(("energy", "node"), message)


def extrapolated(size_bytes: float) -> bool:
    """Whether an SRAM of this size lies beyond those that the law was fitted to."""
    return not SIZES[0] <= size_bytes <= SIZES[1]
