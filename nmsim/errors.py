"""The exceptions a user can meet: one base class, messages that name the bad value and the nearest valid one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

MOST_LISTED = 40
"""Names that a message gives of those that there are."""
SHORTEST_BEGINNING = 3
"""Letters from which on a name counts as the beginning of longer ones."""


class NmsimError(Exception):
    """Base of every error nmsim raises for a mistake in its input; the command line exits with status 2."""


class PatternError(NmsimError, ValueError):
    """A sparsity pattern that does not exist or does not fit the array it is applied to."""


class ShapeError(NmsimError, ValueError):
    """Sizes that make no operation: zero, negative, overflowing or inconsistent."""


class UnsupportedError(NmsimError):
    """A machine or engine was asked for something it has no unit for."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a file: where it stands (1-based line and column), its path in the document, what is wrong."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class SpecError(NmsimError):
    """A file that cannot be used; `problems` lists every mistake found in it, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.column)))
        super().__init__("\n".join(str(p) for p in self.problems))


def nearest(name: str, allowed: Iterable[str], limit: int = 3) -> list[str]:
    """The allowed names that begin with `name`, then those most like it, best first; empty when none is close."""
    by_lower, text = {a.lower(): a for a in allowed}, name.lower()
    longer = [s for s in by_lower if s.startswith(text)] if len(text) >= SHORTEST_BEGINNING else []
    close = difflib.get_close_matches(text, by_lower, n=limit, cutoff=0.5)
    return [by_lower[s] for s in dict.fromkeys([*longer, *close])][:limit]


def unknown(what: str, name: object, allowed: Iterable[str]) -> str:
    """The message for a name that does not exist: the nearest valid ones; all where they are few or none is near."""
    options = sorted(allowed)
    close = nearest(str(name), options)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    more = f" and {len(options) - MOST_LISTED} more" if len(options) > MOST_LISTED else ""
    listed = ", ".join(options[:MOST_LISTED]) + more
    listing = f"; allowed: {listed}" if options and (len(options) <= 12 or not close) else ""
    return f"unknown {what} {str(name)!r}{hint}{listing}"
