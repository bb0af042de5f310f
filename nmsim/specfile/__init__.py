"""Files that a user writes: YAML 1.2 to plain data with positions, and to validated models."""

from nmsim.specfile.document import Document, MisfitError, Path, format_path, parse_path
from nmsim.specfile.overrides import set_path
from nmsim.specfile.quantities import (
    Bandwidth,
    BytesPerCycle,
    Count,
    Energy,
    EnergyPerBit,
    Frequency,
    Node,
    Power,
    Size,
    Time,
)
from nmsim.specfile.read import read, read_text
from nmsim.specfile.validate import Spec, validate

__all__ = [
    "Bandwidth",
    "BytesPerCycle",
    "Count",
    "Document",
    "Energy",
    "EnergyPerBit",
    "Frequency",
    "MisfitError",
    "Node",
    "Path",
    "Power",
    "Size",
    "Spec",
    "Time",
    "format_path",
    "parse_path",
    "read",
    "read_text",
    "set_path",
    "validate",
]
