"""`nmsim schedule`: choose ahead how each product of a workload runs on a systolic array."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nmsim.cli.parser import add_formats, pair, word
from nmsim.cli.run import add_work, workload_of

if TYPE_CHECKING:
    from nmsim.engines.schedule import Schedule
    from nmsim.results.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("arch", type=word, metavar="ARCH", help="a machine with systolic arrays: a name or a YAML file")
    parser.add_argument(
        "workload", type=word, metavar="WORKLOAD", help="a model by name or in YAML, a CSV of products, a trace (.npz)"
    )
    add_work(parser)
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--set", type=pair, action="append", default=[], metavar="PATH=VALUE", dest="overrides",
        help="replace a number of the machine, as memories.dram.bandwidth='12.8 GB/s', or array.scheduling=fixed for "
        "one dataflow throughout; may be repeated",
    )  # fmt: skip
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", type=word, metavar="FILE", help="write the schedule (YAML)")
    add_formats(parser, "a row per product")


def execute(args: argparse.Namespace) -> int:
    """Choose, write the file, print."""
    from nmsim.arch.load import read_arch
    from nmsim.cli.check import machine
    from nmsim.engines.run import simulate
    from nmsim.engines.schedule import make_schedule
    from nmsim.report.tables import csv_text
    from nmsim.results.io import dump

    arch = machine(read_arch(args.arch, dict(args.overrides), "--set"))
    work = workload_of(args)
    schedule = make_schedule(arch, work)
    if args.output is not None:
        schedule.save(args.output)
        print(f"nmsim: wrote {len(schedule.ops)} products to {args.output}", file=sys.stderr)
    if args.json:
        sys.stdout.write(dump(schedule.file.model_dump()))
    elif args.csv:
        sys.stdout.write(csv_text([dict(choice) for choice in schedule.ops]))
    else:
        print(_text(schedule, simulate(arch, work, schedule=schedule)))
    return 0


def _text(schedule: Schedule, result: Result) -> str:
    """Products, latency and what was mostly chosen, by stage and dataflow."""
    from nmsim.report.tables import quantity, table

    rows = result.to_frame()
    rows = rows[rows["kind"] == "gemm"].assign(
        seconds=rows["latency_s"] * rows["repeat"],
        resident=rows["plan.resident"].replace("", "none"),
        turns=(rows["plan.turns_m"] * rows["plan.turns_n"]).astype(int),
    )
    cells = [
        [
            stage,
            dataflow,
            len(group),
            quantity(group["seconds"].sum(), "s"),
            *group[["resident", "turns"]].mode().iloc[0],
        ]
        for (stage, dataflow), group in rows.groupby(["stage", "plan.dataflow"], sort=False)
    ]
    head = ["stage", "dataflow", "ops", "latency", "mostly resident", "mostly in turn"]
    title = f"{schedule.file.workload} on {schedule.file.machine}: {len(schedule.ops)} different products"
    return f"{title}\n\n{table(cells, head, 'llrrlr')}"
