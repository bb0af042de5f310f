"""An energy table out of the models of the hwcomponents family, an optional extra that nothing else needs.

    pip install 'nmsim[hwcomponents]'    # Python 3.12 or newer

What is taken is what these models have and nmsim's tables ask for: integer arithmetic and registers of its library, and
DRAM. All else stays with the table that the written one is based on; SRAM does, whose law was fitted to runs of the
same CACTI.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from importlib.metadata import version
from typing import Any

from nmsim.errors import UnsupportedError
from nmsim.files import atomic_write
from nmsim.units import format_quantity, parse_quantity

LIBRARY, CACTI = "hwcomponents-library", "hwcomponents-cacti"


@dataclass(frozen=True)
class Pick:
    """An action of a table, and the model, its width in bits and the action that stand for it."""

    component: str
    action: str
    model: str
    width: int
    call: str
    package: str = LIBRARY


ENTRIES = (
    Pick("arithmetic", "int8 add", "AladdinAdder", 8, "add"),
    Pick("arithmetic", "int32 add", "AladdinAdder", 32, "add"),
    Pick("arithmetic", "int8 multiply", "AladdinMultiplier", 8, "multiply"),
    Pick("arithmetic", "int32 multiply", "AladdinMultiplier", 32, "multiply"),
    Pick("registers", "bit", "AladdinRegister", 1, "read"),
)
DRAMS = (
    Pick("dram", "ddr3", "DDR3", 64, "read", CACTI),
    Pick("dram", "lpddr4", "LPDDR4", 64, "read", CACTI),
    Pick("dram", "hbm2", "HBM2", 1024, "read", CACTI),
    Pick("dram", "hbm3", "HBM3", 1024, "read", CACTI),
)


def write_table(
    path: str | os.PathLike[str], node: str, base: str = "asic", uncertainty: str = "100 %", name: str = "hwcomponents"
) -> None:
    """Write a table of what the models say at `node` ("22 nm") to a YAML file that `energy.table` may name.

    `uncertainty` is the half-width that each value gets, since the models state none. Raises UnsupportedError where
    the family is not installed or a model does not answer, UnitError for a node that is no length, OSError.
    """
    atomic_write(path, table_text(node, base, uncertainty, name).encode())


def table_text(node: str, base: str = "asic", uncertainty: str = "100 %", name: str = "hwcomponents") -> str:
    """The YAML of the table."""
    node_m = parse_quantity(node, "length")
    head = ["kind: energy_table", "version: 1", f"name: {name}", f"base: {base}", "entries:"]
    return "\n".join([*head, *_entries(node_m, uncertainty), "dram:", *_drams(node_m, uncertainty)]) + "\n"


def _entries(node_m: float, uncertainty: str) -> Iterator[str]:
    shown = format_quantity(node_m, "length")
    for pick in ENTRIES:
        yield (
            f"  - {{component: {pick.component}, action: {pick.action}, node: {shown}, width: {pick.width}, "
            f"value: {1e12 * energy_j(pick, node_m):.6g} pJ, {_known(pick, uncertainty)}}}"
        )


def _drams(node_m: float, uncertainty: str) -> Iterator[str]:
    for pick in DRAMS:
        value = 1e12 * energy_j(pick, node_m) / pick.width
        yield f"  {pick.action}: {{value: {value:.6g} pJ/bit, {_known(pick, uncertainty)}}}"


def _known(pick: Pick, uncertainty: str) -> str:
    source = f"{pick.model}.{pick.call} of {pick.package} {version(pick.package)}"
    return f'uncertainty: {uncertainty}, date: {date.today().year}, source: "{source}"'


def energy_j(pick: Pick, node_m: float) -> float:
    """Joules of an action at a node (metres), by the model that hwcomponents finds for it."""
    family = _family()
    attributes: dict[str, Any] = {"width": pick.width}
    if pick.component != "dram":
        attributes["tech_node"] = node_m
    try:
        return float(family.get_action_cost(pick.model, attributes, pick.call, {}).energy)
    except Exception as error:  # the family raises bare exceptions
        reason = str(error).strip().splitlines()
        raise UnsupportedError(
            f"hwcomponents has no energy of {pick.model} ({pick.package}) at {format_quantity(node_m, 'length')}: "
            f"{reason[0] if reason else type(error).__name__}"
        ) from error


def _family() -> Any:
    try:
        return import_module("hwcomponents")
    except ImportError:
        raise UnsupportedError(
            "energies of hwcomponents need the extra of that name, on Python 3.12 or newer: "
            "pip install 'nmsim[hwcomponents]'"
        ) from None
