"""`nmsim validate`: how far predictions are from measured times, data set by data set."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmsim.cli.parser import add_formats, word
from nmsim.errors import UnsupportedError

if TYPE_CHECKING:
    from nmsim.validation.datasets import Report

PLOT = "scatter.png"
ENERGY = "energy"
ENERGY_FILE = "energy.csv"
OUTSIDE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "names",
        nargs="*",
        type=word,
        metavar="NAME",
        help="data sets to score, with * and ?; default all; `energy`: energies and powers",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=word, metavar="DIR", help="tables of your own, with the names and columns of the shipped ones"
    )
    parser.add_argument(
        "--tolerance", type=_percent, metavar="PERCENT",
        help="end with status 1 if a data set's mean absolute error is larger; default: as stated for each",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=word, metavar="DIR", help=f"write validation.json, sets.csv, points.csv, {PLOT}"
    )
    add_formats(parser, "the data sets")


def execute(args: argparse.Namespace) -> int:
    """Score, write, print; 1 if a data set is outside its tolerance or there is none."""
    from nmsim.report.tables import csv_text
    from nmsim.results.io import dump, require_directory
    from nmsim.validation.datasets import validate
    from nmsim.validation.records import set_record, to_dict

    if args.output is not None:
        require_directory(args.output)
    if ENERGY in args.names:
        return _energy(args)
    limit = None if args.tolerance is None else args.tolerance / 100
    report = validate(args.data, args.names, limit)
    if args.output is not None:
        _write(report, args.output)
    if args.json:
        sys.stdout.write(dump(to_dict(report)))
    elif args.csv:
        sys.stdout.write(csv_text([set_record(s) for s in report.sets]))
    else:
        print(_text(report))
    return 0 if report.sets and report.within else OUTSIDE


def _energy(args: argparse.Namespace) -> int:
    """Energies and powers beside those of other sources; 1 if one is outside its tolerance."""
    from nmsim.report.tables import csv_text, table
    from nmsim.results.io import dump, write_files
    from nmsim.validation.energy import record, validate_energy

    if len(args.names) > 1 or args.data is not None or args.tolerance is not None:
        raise UnsupportedError("`nmsim validate energy` stands alone: without other data sets, --data and --tolerance")
    points = validate_energy()
    records = [record(p) for p in points]
    if args.output is not None:
        write_files(args.output, {ENERGY_FILE: csv_text(records)})
        print(f"nmsim: wrote {ENERGY_FILE} to {args.output}", file=sys.stderr)
    if args.json:
        sys.stdout.write(dump(records))
    elif args.csv:
        sys.stdout.write(csv_text(records))
    else:
        for name in dict.fromkeys(p.set for p in points):
            rows = [
                [
                    p.what, f"{p.stated:.4g} {p.unit}", f"{p.predicted:.4g} {p.unit}", f"{100 * p.error:+.1f}",
                    f"{100 * p.tolerance:.3g}{'' if p.within else ' !'}", p.status,
                ]
                for p in points if p.set == name
            ]  # fmt: skip
            print(f"{name}\n{table(rows, ['what', 'stated', 'nmsim', 'error %', 'limit', ''], 'lrrrrl')}\n")
        bad = [p for p in points if not p.within]
        print(f"{len(points) - len(bad)} of {len(points)} figures are within the error that is stated for them.")
    return 0 if all(p.within for p in points) else OUTSIDE


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of per cent, at least 0, not {text!r:.60}")
    return value


def _write(report: Report, directory: str) -> None:
    from nmsim.report.plots import png
    from nmsim.report.tables import csv_text
    from nmsim.report.validation_plots import Cloud, plot_scatter
    from nmsim.results.io import dump, write_files
    from nmsim.validation.records import point_records, set_record, to_dict

    clouds = [
        Cloud(s.table, part.arch.name, s.name, part.points.measured_s, part.predicted_s)
        for s in report.sets
        for part in s.parts
    ]
    contents: dict[str, str | bytes] = {
        "validation.json": dump(to_dict(report)),
        "sets.csv": csv_text([set_record(s) for s in report.sets]),
        "points.csv": csv_text(point_records(report)),
    }
    if clouds:
        contents[PLOT] = png(plot_scatter(clouds))
    write_files(directory, contents)
    print(f"nmsim: wrote {', '.join(contents)} to {directory}", file=sys.stderr)


def _text(report: Report) -> str:
    """The tables, each under its title."""
    from nmsim.validation.records import set_record, totals

    records = [set_record(s) for s in report.sets]
    parts = [_errors(records), _worst(records), _totals(totals(report))] if records else ["No point could be scored."]
    parts += [_gains(report), _left_out(report), _calibrated(report), _verdict(report)]
    return "\n\n".join(part for part in parts if part)


def _errors(records: list[dict[str, Any]]) -> str:
    from nmsim.report.tables import table

    headers = ["data set", "n", "MAPE", "median", "p90", "bias", "rank", "roof", "limit"]
    rows = [
        [
            r["name"] + (" *" if r["ran_dense"] else ""), r["points"],
            *(f"{100 * r[name]:.1f}" for name in ("mape", "median", "p90")), f"{100 * r['bias']:+.1f}",
            "-" if r["rank_correlation"] is None else f"{r['rank_correlation']:.3f}", f"{100 * r['roofline_mape']:.1f}",
            _limit(r),
        ]
        for r in records
    ]  # fmt: skip
    note = "per cent of the measured time; roof: MAPE of a two-constant roofline fitted to these points"
    dense = "\n  * some points have zeros that the machine cannot skip" if any(r["ran_dense"] for r in records) else ""
    return f"Errors ({note})\n{table(rows, headers, 'lrrrrrrrr')}{dense}"


def _limit(record: dict[str, Any]) -> str:
    """The stated error of a record in per cent, marked where it is exceeded."""
    return "-" if record["tolerance"] is None else f"{100 * record['tolerance']:.3g}{'' if record['within'] else ' !'}"


def _worst(records: list[dict[str, Any]]) -> str:
    from nmsim.report.tables import quantity, table

    rows = [
        [
            r["name"], f"{Path(r['worst_file']).name}:{r['worst_line']}", r["worst_point"],
            quantity(r["worst_measured_s"], "s", 3), quantity(r["worst_predicted_s"], "s", 3),
            f"{r['worst_cause']} {100 * r['worst_cause_share']:.0f} %",
        ]
        for r in records
    ]  # fmt: skip
    headers = ["data set", "place", "worst point", "measured", "predicted", "largest cause"]
    return f"Worst points\n{table(rows, headers, 'lllrrl')}"


def _totals(records: list[dict[str, Any]]) -> str:
    from nmsim.report.tables import table

    rows = [
        [
            r["table"], r["sets"], f"{r['points']:,}", f"{100 * r['mape']:.1f}", f"{100 * r['roofline_mape']:.1f}",
            r["sets_below_roofline"],
        ]
        for r in records
    ]  # fmt: skip
    headers = ["all of", "sets", "points", "MAPE", "roofline", "sets below the roofline's error"]
    return f"Together\n{table(rows, headers, 'lrrrrr')}"


def _gains(report: Report) -> str:
    from nmsim.report.tables import table
    from nmsim.validation.records import gain_record

    if not report.gains:
        return ""
    rows = [
        [
            r["name"], r["points"],
            *(f"{r[f'{x}_mean']:.2f}x ({r[f'{x}_min']:.2f}-{r[f'{x}_max']:.2f})" for x in ("measured", "predicted")),
            f"{100 * r['mape']:.1f}", f"{100 * r['bias']:+.1f}", _limit(r),
        ]
        for r in map(gain_record, report.gains)
    ]  # fmt: skip
    headers = ["data set", "n", "measured", "predicted", "MAPE", "bias", "limit"]
    return f"Speed-ups over dense (mean, range)\n{table(rows, headers, 'lrrrrrr')}"


def _left_out(report: Report) -> str:
    from nmsim.report.tables import table
    from nmsim.validation.datasets import NO_MACHINE

    if not report.left_out:
        return ""
    rows = [[Path(entry.file).name, entry.reason, entry.rows] for entry in report.left_out]
    unknown = any(entry.reason.startswith(NO_MACHINE) for entry in report.left_out)
    hint = "\n  a device may have any name of `nmsim list arch`, or be a file of your own" if unknown else ""
    return f"Left out\n{table(rows, ['table', 'why', 'rows'], 'llr')}{hint}"


def _calibrated(report: Report) -> str:
    """What was fitted: numbers of the machines, and overheads of data sets. Errors on those rows validate nothing."""
    from nmsim.report.tables import quantity, table

    rows = [(name, ", ".join(paths)) for name, paths in report.calibrated().items()]
    rows += [
        (s.name, f"overhead {quantity(s.parts[0].overhead_s, 's', 3)}") for s in report.sets if s.parts[0].overhead_s
    ]
    for s in report.sets:
        known = [items for part in s.parts for items in part.arch.provenance.items()]
        own = dict.fromkeys(".".join(map(str, path)) for path, p in known if p.kind == "override")
        rows += [(s.name, f"set for this device or library: {', '.join(own)}")] if own else []
    note = "Fitted to measurements (on the rows fitted, an error is that of a calibration, not a validation)"
    return f"{note}\n{table(rows)}" if rows else ""


def _verdict(report: Report) -> str:
    within = {
        what: [x.within for x in found if x.tolerance is not None]
        for what, found in (("data sets", report.sets), ("sets of speed-ups", report.gains))
    }
    stated = {what: found for what, found in within.items() if found}
    if not stated:
        return ""
    if report.within:
        counts = " and ".join(f"{len(found)} {what}" for what, found in stated.items())
        return f"All {counts} are within the error that is stated for them."
    counts = " and ".join(f"{found.count(False)} of {len(found)} {what}" for what, found in stated.items())
    return f"{counts} are outside the error that is stated for them: marked ! above."
