"""Entries of the index of reference vectors, and the checks that compare nmsim with them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Entry:
    """One file of the index: its `name` (the file without its set), arrays, parameters and relative tolerance."""

    name: str
    arrays: dict[str, np.ndarray]
    params: dict[str, Any]
    rtol: float

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def equals(self, name: str, found: np.ndarray) -> None:
        """`found` within the tolerance; atol is rounding of sums of terms of order 1, which may cancel."""
        np.testing.assert_allclose(found, self[name], rtol=self.rtol, atol=1e-14, err_msg=name)

    def tags(self, array: str) -> list[str]:
        """What follows the name of an array in the names of its variants: `mask_2_4` gives `2_4` for `mask`."""
        return [name.removeprefix(f"{array}_") for name in self.arrays if name.startswith(f"{array}_")]

    def patterns(self, array: str) -> list[tuple[str, str]]:
        """The tags that are patterns, with the pattern: `mask_2_4` gives ("2_4", "2:4")."""
        return [(tag, tag.replace("_", ":")) for tag in self.tags(array) if re.fullmatch(r"\d+_\d+", tag)]


Check = Callable[[Entry], None]
CHECKS: list[tuple[re.Pattern[str], Check]] = []


def checks(pattern: str) -> Callable[[Check], Check]:
    """Register a check of every entry with a name that is the regular expression, or goes on from it after a `_`."""

    def register(check: Check) -> Check:
        CHECKS.append((re.compile(rf"(?:{pattern})(?:_\w+)?"), check))
        return check

    return register


def checks_of(name: str) -> list[Check]:
    """The checks of the entry of that name."""
    return [check for pattern, check in CHECKS if pattern.fullmatch(name)]


def read_index(golden: Path) -> list[dict[str, Any]]:
    """The entries as the index has them; empty where there is none."""
    path = golden / "recipes" / "index.json"
    return json.loads(path.read_text(encoding="utf-8"))["entries"] if path.is_file() else []


def name_of(entry: dict[str, Any]) -> str:
    """The name of the entry's file without its set and suffix."""
    return entry["file"].removesuffix(".npz").removesuffix(f"_{entry['set']}")


def load(golden: Path, entry: dict[str, Any]) -> Entry:
    """The entry with its arrays; a tolerance that is not stated is exact."""
    with np.load(golden / "recipes" / entry["file"]) as data:
        arrays = dict(data)
    tolerance = re.search(r"rtol ([0-9.e-]+)", entry["tolerance"])
    return Entry(name_of(entry), arrays, entry["params"], float(tolerance[1]) if tolerance else 0.0)
