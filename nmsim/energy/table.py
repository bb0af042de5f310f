"""Energy per action: the cited figures of actions.yaml, brought to a technology node and a kind of DRAM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np

from nmsim.arch.provenance import Provenance, split
from nmsim.errors import Problem, SpecError, UnsupportedError, unknown
from nmsim.specfile import Document, read
from nmsim.units import format_quantity, parse_quantity

ACCESS_BYTES = 8
"""The SRAM energies of actions.yaml are those of one 64-bit access."""

REACH = 3.0
"""How many times finer or coarser than the outermost node of the file a node may be and still take its energies."""

_FILE = Path(__file__).with_name("actions.yaml")


@dataclass(frozen=True)
class ActionTable:
    """Joules per action at one technology node with one kind of DRAM.

    `mac` is per multiply-accumulate, by data type; `vector_op` per fp32 operation; `compare` per 16-bit comparison;
    `dram_byte` per byte to or from DRAM; `sram` lists (size in bytes, J per byte), ascending in size. `assumptions`
    names what the numbers rest on that no source vouches for.
    """

    node_m: float
    dram: str
    mac: dict[str, float]
    vector_op: float
    compare: float
    dram_byte: float
    sram: tuple[tuple[float, float], ...]
    assumptions: tuple[str, ...]

    def mac_j(self, dtype: str) -> float:
        """Energy of one multiply-accumulate; raises UnsupportedError for a data type without an entry."""
        if dtype not in self.mac:
            raise UnsupportedError(f"energy of arithmetic, action mac: {unknown('data type', dtype, self.mac)}")
        return self.mac[dtype]

    def sram_byte(self, size_bytes: Any) -> Any:
        """Energy per byte of an access to a macro of `size_bytes`: log-log interpolation, clamped at the ends.

        For an array of sizes an array.
        """
        sizes, energies = zip(*self.sram, strict=True)
        if isinstance(size_bytes, np.ndarray):
            distinct, spread = np.unique(size_bytes, return_inverse=True)
            return np.array([_log_interpolated(x, sizes, energies) for x in distinct.tolist()])[spread]
        return _log_interpolated(size_bytes, sizes, energies)


@cache
def action_table(node_m: float, dram: str) -> ActionTable:
    """The energies at `node_m` (metres, 7e-9 is 7 nm) with DRAM of kind `dram`, as `hbm2e`.

    Between two nodes of the file the logarithm of each energy is linear in that of the feature size; beyond the
    outermost node its energies are taken, and an assumption says so. Raises UnsupportedError for an unknown kind of
    DRAM.
    """
    data, provenance = _actions()
    if dram not in data["dram"]:
        raise UnsupportedError(f"energy of dram, action read: {unknown('kind of DRAM', dram, data['dram'])}")
    nodes = {parse_quantity(name, "length"): name for name in data["nodes"]}
    at_node = {
        component: {
            action: _log_interpolated(node_m, *_by_node(data["nodes"], component, action))
            for action in data["nodes"][nodes[min(nodes)]][component]
        }
        for component in ("arithmetic", "sram")
    }
    logic = at_node["arithmetic"]
    sram = ((parse_quantity(size, "size"), energy / ACCESS_BYTES) for size, energy in at_node["sram"].items())
    used, remark = _nodes_used(node_m, nodes)
    return ActionTable(
        node_m=node_m,
        dram=dram,
        mac={name: logic[m["multiply"]] * m["scale"] + logic[m["add"]] for name, m in data["mac"].items()},
        vector_op=(logic["fp32 multiply"] + logic["fp32 add"]) / 2,
        compare=logic["fp16 add"],
        dram_byte=8 * parse_quantity(data["dram"][dram], "energy_per_bit"),
        sram=tuple(sorted(sram)),
        assumptions=(*remark, *_assumed(provenance, used, dram), *(f"energy: {line}" for line in data["general"])),
    )


def problems(document: Document, node_m: float, dram: str) -> Iterator[Problem]:
    """What is wrong with `energy.node` and `energy.dram` of an architecture file: no figures there, or near there."""
    data, _ = _actions()
    if dram not in data["dram"]:
        yield document.problem(("energy", "dram"), unknown("kind of DRAM", dram, data["dram"]))
    nodes = [parse_quantity(name, "length") for name in data["nodes"]]
    lowest, highest = min(nodes) / REACH, max(nodes) * REACH
    if not lowest <= node_m <= highest:
        allowed = " to ".join(format_quantity(bound, "length", 3) for bound in (lowest, highest))
        message = f"{format_quantity(node_m, 'length')} is far from every node with known energies; allowed: {allowed}"
        yield document.problem(("energy", "node"), message)


@cache
def _actions() -> tuple[Any, Mapping[tuple[str | int, ...], Provenance]]:
    """The data of actions.yaml, and where each of its numbers comes from."""
    document, provenance, problems = split(read(_FILE))
    if problems:
        raise SpecError(problems)
    return document.data, provenance


def _by_node(nodes: Any, component: str, action: str) -> tuple[list[float], list[float]]:
    """The nodes of the file, ascending, and the energy of one action at each."""
    pairs = sorted(
        (parse_quantity(name, "length"), parse_quantity(entry[component][action], "energy"))
        for name, entry in nodes.items()
    )
    return [node for node, _ in pairs], [energy for _, energy in pairs]


def _log_interpolated(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """y at `x` on straight lines through (log xs, log ys), xs ascending; constant beyond the ends."""
    x = min(max(x, xs[0]), xs[-1])
    if x in xs:
        return ys[xs.index(x)]  # as cited, to the last digit
    return exp(float(np.interp(log(x), np.log(xs), np.log(ys))))


def _nodes_used(node_m: float, nodes: Mapping[float, str]) -> tuple[list[str], list[str]]:
    """The entries of the file that a table at `node_m` is made of, and a remark where it is none of them itself."""
    below = [node for node in nodes if node <= node_m]
    above = [node for node in nodes if node >= node_m]
    shown = format_quantity(node_m, "length")
    if not below or not above:
        outermost = nodes[max(below) if below else min(above)]
        return [outermost], [f"energy at {shown}: taken as at {outermost}, the outermost node known"]
    used = list(dict.fromkeys([nodes[max(below)], nodes[min(above)]]))
    if len(used) == 1:
        return used, []
    return used, [f"energy at {shown}: interpolated between {' and '.join(used)}, log-linearly in feature size"]


def _assumed(provenance: Mapping[tuple[str | int, ...], Provenance], used: list[str], dram: str) -> list[str]:
    """A line for each distinct reason behind a number in use that no source vouches for."""
    lines = []
    for (section, name, *_), origin in provenance.items():
        in_use = {"nodes": name in used, "dram": name == dram}.get(str(section), True)
        if in_use and origin.kind != "source":
            label = "" if section == "nodes" else f"{section} "
            lines.append(f"energy, {label}{name}: {origin.text}")
    return list(dict.fromkeys(lines))
