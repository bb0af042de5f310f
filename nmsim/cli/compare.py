"""`nmsim compare`: two saved results side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nmsim.cli.parser import add_formats, word

PLOT = "compare.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    for name in ("first", "second"):
        parser.add_argument(
            name, type=word, metavar="AB"[name == "second"], help="a directory of `nmsim run -o`, or its JSON file"
        )
    parser.add_argument("-o", "--output", type=word, metavar="DIR", help=f"write {PLOT} into DIR")
    add_formats(parser)


def execute(args: argparse.Namespace) -> int:
    """Load both, plot, print."""
    from nmsim.report import comparison
    from nmsim.report.tables import csv_text
    from nmsim.results import io

    if args.output is not None:
        io.require_directory(args.output)
    first, second = io.load(args.first), io.load(args.second)
    names = short_names(args.first, args.second)
    if args.output is not None:
        _plot([first, second], names, args.output)
    if args.json:
        sys.stdout.write(io.dump(comparison.to_dict(first, second, names)))
    elif args.csv:
        sys.stdout.write(csv_text(comparison.to_rows(first, second)))
    else:
        print(comparison.comparison_text(first, second, names))
    return 0


def short_names(first: str, second: str) -> tuple[str, str]:
    """The names of the two directories or files where they tell the results apart, else the paths, else A and B."""
    paths = [Path(path).resolve() for path in (first, second)]
    stems = [
        path.parent.name if path.name == "result.json" else path.stem if path.is_file() else path.name for path in paths
    ]
    for a, b in ((stems[0], stems[1]), (first, second)):
        if a and b and a != b:
            return a, b
    return "A", "B"


def _plot(results: list, names: tuple[str, str], directory: str) -> None:
    from nmsim.report.plots import plot_comparison, png
    from nmsim.results.io import write_files

    write_files(directory, {PLOT: png(plot_comparison(results, names))})
    print(f"nmsim: wrote {PLOT} to {directory}", file=sys.stderr)
