"""The error of a dataset, and the checks its makers share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nmsim.errors import NmsimError


class DataError(NmsimError, ValueError):
    """A dataset that cannot be made or read: a missing, damaged or misshapen file, an option out of range."""


def file_error(path: Path, message: str) -> DataError:
    """A DataError that begins with the file it is about."""
    return DataError(f"{path}: {message}")


def generator(seed: int | np.random.Generator) -> np.random.Generator:
    """The generator itself, or a new one from an integer seed; raises DataError for anything else, None included."""
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise DataError(f"seed must be a non-negative integer or a numpy Generator, not {seed!r}")
    return np.random.default_rng(int(seed))


def check_integers(least: int = 1, most: int | None = None, **values: int) -> None:
    """Raise DataError, naming the option, for a value that is no integer or outside least..most."""
    for name, value in values.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < least or (most is not None and value > most):
            allowed = f"at least {least}" if most is None else f"from {least} to {most}"
            raise DataError(f"{name} must be an integer {allowed}, not {value!r}")


def check_amounts(**values: float) -> None:
    """Raise DataError, naming the option, for a value that is not a finite number of zero or more."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < np.inf:
            raise DataError(f"{name} must be a finite number, zero or more, not {value!r}")
