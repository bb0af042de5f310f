"""Fits the constants of a V100's convolutions (kernels.conv), and tells rows fitted from rows held out.

    python -m benchmarks.fit_convolutions

Each constant is taken from its grid, one after another from those of the architecture file until none moves, to the
least mean over the data sets of DeepBench's convolutions on this machine of the mean absolute relative error. First
all rows are fitted; then every other row (the first, third, ... of each set), and the rest held out: the error there
validates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import numpy as np

import nmsim
from benchmarks.fit_gpus import descend
from nmsim.validation import datasets

MACHINE, SETS = "v100_sxm2", "deepbench_v100_sxm2_*_conv_*"
GRID: Mapping[tuple[str, ...], tuple[Any, ...]] = {
    ("efficiency.strided", "efficiency_of.fp32.WU"): (0.65, 0.7, 0.75, 0.8, 0.85),
    ("gradient_tiles",): ([[128, 128]], [[128, 128], [128, 64]]),
}
"""Constants, each at one or more paths in kernels.conv."""


def errors(constants: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Absolute relative errors of the rows of each set with these constants."""
    arch = nmsim.load_arch(MACHINE, {f"kernels.conv.{path}": value for path, value in constants.items()})
    with patch.object(datasets, "machine", lambda *_: arch):
        return {s.name: np.abs(s.predicted_s / s.measured_s - 1.0) for s in datasets.validate(names=[SETS]).sets}


def fit(rows: slice) -> dict[str, Any]:
    """The constants of the least mean error of these rows of each set."""

    def mean(constants: Mapping[str, Any]) -> float:
        return float(np.mean([error[rows].mean() for error in errors(constants).values()]))

    return descend(mean, GRID)


def main() -> None:
    """The constants fitted to all rows and to every other row, and the errors of each set with them."""
    now = errors({})
    every, other = fit(slice(None)), fit(slice(0, None, 2))
    for title, constants in (("all rows", every), ("every other row", other)):
        print(f"fitted to {title}: {constants or 'no better constants than those of the file'}")
    by_every, by_other = errors(every), errors(other)
    print(f"\n{'mean error, per cent':44} {'file':>6} {'all rows':>9} {'half fitted':>12} {'half held out':>14}")
    for name, error in now.items():
        parts = error, by_every[name], by_other[name][0::2], by_other[name][1::2]
        file, whole, fitted, held = (100 * float(part.mean()) for part in parts)
        print(f"{name:44} {file:6.1f} {whole:9.1f} {fitted:12.1f} {held:14.1f}")


if __name__ == "__main__":
    main()
