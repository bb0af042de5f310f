"""`nmsim sweep`: simulate every point of a space, and find what is best among the rows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmsim.cli.parser import add_formats, whole, word
from nmsim.errors import NmsimError, UnsupportedError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from nmsim.sweeps.run import Shard

FIXED_COLUMNS = ("point", "error", "digest", "sweep", "nmsim", "speedup", "energy_ratio", "edp_ratio")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.usage = (
        "nmsim sweep SPACE [-o ROWS] [--jobs N | --dask ADDRESS] [--shard I/N] ...\n"
        "       nmsim sweep merge ROWS... -o ROWS\n"
        "       nmsim sweep pareto ROWS --minimize A,B [--maximize C]\n"
        "       nmsim sweep sensitivity ROWS --metric M"
    )
    parser.add_argument(
        "what", type=word, metavar="SPACE", help="a space: a name from workloads/sweeps, or a YAML file"
    )
    parser.add_argument("files", type=word, nargs="*", metavar="ROWS", help="with merge, pareto, sensitivity: rows")
    parser.add_argument("-o", "--output", type=word, metavar="ROWS", help="write rows (.parquet, .npz or .csv)")
    run = parser.add_argument_group("running")
    run.add_argument("--jobs", type=whole, default=1, metavar="N", help="processes (1)")
    run.add_argument(
        "--dask", type=word, metavar="ADDRESS", help="run on the workers of a dask scheduler, as tcp://host:8786"
    )
    run.add_argument("--shard", type=shard, metavar="I/N", help="only the I-th of N parts; `merge` joins them")
    run.add_argument("--chunk", type=whole, metavar="P", help="points that a worker takes at a time")
    run.add_argument("--limit", type=whole, metavar="P", help="most points to take on (20,000,000)")
    run.add_argument(
        "--cache", type=word, metavar="DIR", help="keep finished chunks in DIR (ROWS.parts, until all are done)"
    )
    best = parser.add_argument_group("analysis")
    best.add_argument("--minimize", type=word, metavar="A,B", help="columns, the smaller the better")
    best.add_argument("--maximize", type=word, metavar="A,B", help="columns, the larger the better")
    best.add_argument("--metric", type=word, default="latency_s", metavar="M", help="with sensitivity (latency_s)")
    add_formats(parser)


def shard(text: str) -> Shard:
    """A part of a sweep, written I/N."""
    from nmsim.sweeps.run import Shard

    index, _, count = text.partition("/")
    try:
        return Shard(int(index), int(count))
    except (ValueError, NmsimError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 1 <= I <= N ({error})") from None


def execute(args: argparse.Namespace) -> int:
    """Run, merge or analyse."""
    if action := _ANALYSES.get(args.what):
        if not args.files:
            raise UnsupportedError(f"sweep {args.what} needs a file of rows")
        return action(args)
    if args.files:
        raise UnsupportedError(f"unexpected {args.files[0]!r}: {unknown('analysis', args.what, _ANALYSES)}")
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    from nmsim.sweeps import rows
    from nmsim.sweeps.run import LIMIT, sweep
    from nmsim.sweeps.space import read_space

    space = read_space(args.what)
    output = None if args.output is None else rows.require_format(args.output)
    keep = args.cache or (output and output.with_name(f"{output.name}.parts"))
    with executor(args.jobs, args.dask) as pool:
        frame = sweep(
            space, pool, keep=keep, shard=args.shard, chunk=args.chunk, limit=args.limit or LIMIT, progress=True
        )
    if output is not None:
        try:
            rows.save(frame, output)
        except OSError as error:
            raise NmsimError(f"{output}: {error.strerror or error}; finished chunks are kept in {keep}") from None
        if not args.cache:
            _remove(Path(str(keep)), str(frame["sweep"].iloc[0]) if len(frame) else "")
    failed = int((frame["error"].astype(str) != "").sum())
    print(
        f"nmsim: {len(frame):,} rows, {failed:,} failed" + (f", written to {output}" if output else ""), file=sys.stderr
    )
    if output is None or args.json or args.csv:
        _print(frame, args, head=20)
    return 0


def _remove(folder: Path, key: str) -> None:
    """Remove the chunks of this sweep, and the folder if nothing else is in it."""
    for part in folder.glob(f"{key}-*.npz"):
        part.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def executor(jobs: int, address: str | None) -> Iterator[Executor | None]:
    """Processes of this machine, the workers of a dask scheduler, or None for this process alone."""
    if address is not None:
        from nmsim.sweeps.cluster import dask_executor

        with dask_executor(address) as pool:
            yield pool
    elif jobs > 1:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            yield pool
    else:
        yield None


def _merge(args: argparse.Namespace) -> int:
    from nmsim.sweeps import rows
    from nmsim.sweeps.run import merge

    if args.output is None:
        raise UnsupportedError("sweep merge needs a file to write: -o ROWS")
    rows.require_format(args.output)
    frame = merge([rows.load(file) for file in args.files], args.files)
    rows.save(frame, args.output)
    print(f"nmsim: {len(frame):,} rows, written to {args.output}", file=sys.stderr)
    return 0


def _pareto(args: argparse.Namespace) -> int:
    import numpy as np

    from nmsim.sweeps import pareto

    frame = _only(args)
    lower, higher = _names(args.minimize), _names(args.maximize)
    if not (lower or higher):
        raise UnsupportedError("sweep pareto needs objectives: --minimize latency_s,energy_j, --maximize …")
    table = np.stack([*(_column(frame, n) for n in lower), *(-_column(frame, n) for n in higher)], axis=1)
    kept = pareto.front(table)
    if not kept.any():
        raise UnsupportedError(f"{args.files[0]}: no row has all of {', '.join([*lower, *higher])}")
    best = frame[kept].copy()
    best.insert(1, "knee", np.flatnonzero(kept) == pareto.knee(table))
    best = best.sort_values([*lower, *higher], ascending=[*(True for _ in lower), *(False for _ in higher)])
    volume = pareto.hypervolume(_scaled(table), np.ones(table.shape[1]))
    print(
        f"nmsim: {kept.sum():,} of {len(frame):,} rows are on the front, hypervolume {volume:.4g} of the box of all",
        file=sys.stderr,
    )
    if args.output:
        from nmsim.sweeps import rows

        rows.save(best.reset_index(drop=True), args.output)
    _print(best, args, head=40, show=["knee", *_varied(frame), *lower, *higher])
    return 0


def _scaled(table: Any) -> Any:
    """Objectives with the range over all rows as 0..1."""
    import numpy as np

    low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
    return np.divide(table - low, high - low, out=np.zeros_like(table), where=high > low)


def _sensitivity(args: argparse.Namespace) -> int:
    from nmsim.sweeps.sensitivity import sensitivity

    frame = _only(args)
    _column(frame, args.metric)
    _print(sensitivity(frame, _varied(frame), args.metric), args, head=100)
    return 0


_ANALYSES: dict[str, Callable[[argparse.Namespace], int]] = {
    "merge": _merge, "pareto": _pareto, "sensitivity": _sensitivity,
}  # fmt: skip


def _only(args: argparse.Namespace) -> pd.DataFrame:
    from nmsim.sweeps import rows

    if len(args.files) != 1:
        raise UnsupportedError(f"sweep {args.what} takes one file of rows; join several with `nmsim sweep merge`")
    return rows.load(args.files[0])


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _column(frame: pd.DataFrame, name: str) -> Any:
    import pandas as pd

    numeric = [column for column in frame.columns if pd.api.types.is_numeric_dtype(frame[column])]
    if name not in numeric:
        raise UnsupportedError(unknown("column of numbers", name, numeric))
    return frame[name].to_numpy(float)


def _varied(frame: pd.DataFrame) -> list[str]:
    """The inputs that differ among the rows."""
    from nmsim.results.metrics import METRICS

    inputs = [name for name in frame.columns if name not in METRICS and name not in FIXED_COLUMNS]
    return [name for name in inputs if frame[name].nunique() > 1]


def _print(frame: pd.DataFrame, args: argparse.Namespace, head: int, show: list[str] | None = None) -> None:
    if args.json:
        print(frame.to_json(orient="records"))
    elif args.csv:
        sys.stdout.write(frame.to_csv(index=False))
    else:
        from nmsim.report.tables import table

        names = show or [n for n in frame.columns if n not in ("digest", "sweep", "nmsim")]
        some = frame[names].head(head)
        cells = [[f"{x:.4g}" if isinstance(x, float) else str(x) for x in row] for row in some.itertuples(index=False)]
        print(table(cells, names, indent=0))
        if len(frame) > head:
            print(f"… and {len(frame) - head:,} more rows")
