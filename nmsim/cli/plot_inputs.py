"""What `nmsim plot` draws, read from the command line: a simulation, rows, an array."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nmsim.cli.run import workload_of
from nmsim.errors import NmsimError, UnsupportedError, unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from nmsim.results.result import Result

PATTERNS = "4:8,2:4,4:16,2:8,1:4,2:16,1:8,1:16"


class WrongInputsError(UnsupportedError):
    """Inputs that a kind of plot does not take; the message is the end of a sentence that says what it takes."""


def is_saved(text: str) -> bool:
    """Whether an input is a saved result rather than a name."""
    return Path(text).is_dir() or text.endswith(".json")


def simulated(args: argparse.Namespace, engine: str = "analytic") -> Result:
    """The result of the machine and workload named; what a reader must know first goes to stderr."""
    from nmsim.arch.load import read_arch
    from nmsim.cli.check import machine
    from nmsim.engines.run import simulate
    from nmsim.report.footprint import notes

    if len(args.inputs) != 2:
        raise WrongInputsError(f"not {len(args.inputs)} inputs")
    if is_saved(args.inputs[0]):
        raise WrongInputsError("not a saved result: name the machine and workload again, simulating is quick")
    arch, args.workload = args.inputs
    result = simulate(machine(read_arch(arch, dict(args.overrides or []), "--set")), workload_of(args), engine)
    for note in notes(result):
        print(f"nmsim: NOTE: {note}", file=sys.stderr)
    return result


def speedups(args: argparse.Namespace) -> tuple[pd.DataFrame, str]:
    """Rows of the machines named first on the workload named last, over patterns, and a title."""
    from nmsim.arch.load import read_arch
    from nmsim.cli.check import machine
    from nmsim.report.speedups import speedup_rows
    from nmsim.report.summary import run_text

    *names, args.workload = args.inputs
    arches = [machine(read_arch(name, dict(args.overrides or []), "--set")) for name in names]
    recipe, args.recipe = args.recipe or "inference", None
    model = workload_of(args)
    patterns = (args.patterns or PATTERNS).split(",")
    rows = speedup_rows(arches, model, patterns, recipe, **({"dtype": args.dtype} if args.dtype else {}))
    what = run_text(model.info).replace("inference", "inference" if recipe == "inference" else f"training by {recipe}")
    return rows, f"{model.name}: {what}"


def rows(args: argparse.Namespace) -> pd.DataFrame:
    """The rows of a file of a sweep, or of any CSV, those that `--where` keeps."""
    from nmsim.sweeps.rows import SUFFIXES, load

    if len(args.inputs) != 1:
        raise WrongInputsError(f"not {len(args.inputs)} inputs")
    path = args.inputs[0]
    suffix = Path(path).suffix.lower()
    if not Path(path).is_file() or suffix not in SUFFIXES:
        raise WrongInputsError(f"not {path!r}" if Path(path).exists() else f"and there is no {path!r}")
    rows = _csv(path) if suffix == ".csv" else load(path)
    for name, value in args.where or []:
        if name not in rows.columns:
            raise UnsupportedError(unknown("column", name, map(str, rows.columns)))
        kept = _equal(rows[name], value)
        if not kept.any():
            raise UnsupportedError(f"--where: {unknown(f'value of {name}', value, set(rows[name].astype(str)))}")
        rows = rows[kept].reset_index(drop=True)
    return rows


def _equal(column: pd.Series, value: str) -> pd.Series:
    """Where a column has the value as it is written, or as a number: 2e8 is 200000000.0."""
    same = column.astype(str) == value
    try:
        return same | (column == float(value)) if column.dtype.kind in "iuf" else same
    except ValueError:
        return same


def _csv(path: str) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # ParserError, EmptyDataError and UnicodeDecodeError are ValueErrors
        raise NmsimError(f"{path}: cannot be read as CSV: {error}") from None


def array(args: argparse.Namespace, path: str) -> np.ndarray:
    """The matrix in an .npy file, or the one that `--array` names in an .npz file."""
    from zipfile import BadZipFile

    import numpy as np

    if not path.endswith((".npy", ".npz")):
        raise WrongInputsError(f"not {path!r}")
    try:
        found = np.load(path, allow_pickle=False)
        if path.endswith(".npy"):
            return found
        matrices = [name for name in found.files if name != "meta" and found[name].ndim == 2]
        if args.array in found.files:
            return found[args.array]
    except OSError as error:
        raise NmsimError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, BadZipFile):  # NumPy takes what it does not know for a pickle
        raise NmsimError(f"{path}: no array that NumPy wrote, or of objects, or damaged") from None
    if not matrices:
        raise UnsupportedError(f"{path} has no matrix (a trace keeps no weights; a checkpoint or your own .npz does)")
    if args.array is None and len(matrices) == 1:
        return found[matrices[0]]
    raise UnsupportedError(unknown("array (--array)", args.array or "", matrices))


def columns(args: argparse.Namespace, *names: str) -> list[str]:
    """The columns that these options name."""
    if missing := [f"--{name}" for name in names if getattr(args, name) is None]:
        raise WrongInputsError(f"and needs {' and '.join(missing)}")
    return [getattr(args, name) for name in names]
