"""Fits what a way of measuring adds to each row (overheads.yaml), and tells rows fitted from rows held out.

    python -m benchmarks.fit_overheads

For each entry of overheads.yaml one number is fitted, in steps of half a microsecond, to every other row (the first,
third, ...) of the data sets that it is for: those of its glob, but only of the boards that it says were fitted. It
minimises the mean absolute relative error, each set counting alike. The other rows, and the sets of boards that were
not fitted, are held out: the error there validates. Constants of the machines stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmsim.validation.datasets import OVERHEAD, DataSet, validate
from nmsim.validation.settings import DATA, Settings

STEP_S, MOST_S = 0.5e-6, 60e-6
FITTED_ON = {
    "neusight_*_fp32_dense": ("a100_pcie", "h100"),
    "neusight_*": ("a100_pcie",),
    "deepbench_*_dense": ("v100", "t4"),
}
"""Words in the names of the sets that an entry is fitted on, where those are not all of its sets."""


@dataclass(frozen=True)
class Rows:
    """What a set took and what its operations take without the overhead [rows], whether it is fitted at all, and
    whether the overhead passes while the device works."""

    measured_s: np.ndarray
    operations_s: np.ndarray
    fitted: bool
    beside: bool

    def errors(self, overhead_s: float, fitted: bool) -> np.ndarray:
        """Absolute relative errors of the rows that are fitted, or of those held out."""
        both = np.maximum(self.operations_s, overhead_s) if self.beside else self.operations_s + overhead_s
        error = np.abs(both / self.measured_s - 1.0)
        if not self.fitted:
            return error[:0] if fitted else error
        return error[0::2] if fitted else error[1::2]


def rows_of(data_set: DataSet, words: tuple[str, ...], beside: bool) -> Rows:
    """The rows of a data set."""
    overhead = np.concatenate([part.causes[OVERHEAD] for part in data_set.parts])
    named = not words or any(word in data_set.name for word in words)
    return Rows(data_set.measured_s, data_set.predicted_s - overhead, named, beside)


def mean(rows: list[Rows], overhead_s: float, fitted: bool) -> float:
    """The mean over sets of the mean error; NaN where there are no such rows."""
    found = [errors.mean() for part in rows if len(errors := part.errors(overhead_s, fitted))]
    return float(np.mean(found)) if found else float("nan")


def main() -> None:
    """A line for each entry: the value in the file, the one that fits best, and the errors with it."""
    entries = Settings.beside(Path(DATA)).overheads
    taken: dict[str, list[DataSet]] = {glob: [] for glob in entries}
    for data_set in validate().sets:
        glob = next(glob for glob in entries if Path(data_set.name).match(glob))
        taken[glob].append(data_set)
    print(f"{'overhead of':42} {'sets':>4} {'file':>8} {'fitted':>8} {'rows fitted':>12} {'held out':>9}")
    for glob, sets in taken.items():
        if glob == "*" or not sets:
            continue
        words = next((words for key, words in FITTED_ON.items() if Path(glob).match(key)), ())
        rows = [rows_of(data_set, words, entries[glob].beside) for data_set in sets]
        grid = np.arange(0.0, MOST_S + STEP_S / 2, STEP_S)
        best = min(grid, key=lambda value: mean(rows, value, True))
        fitted, held = (100 * mean(rows, float(best), kind) for kind in (True, False))
        now = entries[glob].value * 1e6
        print(f"{glob:42} {len(sets):4} {now:5.1f} us {best * 1e6:5.1f} us {fitted:10.1f} % {held:7.1f} %")


if __name__ == "__main__":
    main()
